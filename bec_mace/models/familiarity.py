"""What a model has hardly seen: elements of few training structures, and charges that the members of a committee dispute.

Neither is an error, and both are where predictions go wrong without a word. Of the held-out crystals that the model
``crystals`` disputes by more than 0.2 e half have an error above 0.6 e; of the others half stay below 0.06 e.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from bec_mace.models.base import PolarizationModel, Z
from bec_mace.properties import DEVIATION

logger = logging.getLogger(__name__)

FEW = 10
"""An element in fewer training structures than this is rare."""
DISPUTED = 0.2
"""Standard deviation of the members' Z* of an atom, as a root mean square over the tensor, in e."""
_MOST_WARNINGS = 5


def rare_elements(metadata: Mapping[str, Any]) -> dict[str, int]:
    """Elements of few training structures, with their number, rarest first; empty where a model does not tell."""
    counts = metadata.get("structures_by_element") or {}
    return dict(sorted(((name, n) for name, n in counts.items() if n < FEW), key=lambda pair: pair[1]))


class Familiarity:
    """Warns once of each rare element, and of the first few structures whose charges are disputed.

    Args:
        model: Whose predictions are made.

    Attributes:
        disputes: Whether the members of a committee can be compared at little cost.
    """

    def __init__(self, model: PolarizationModel) -> None:
        self._rare = rare_elements(model.metadata)
        self._named: set[str] = set()
        self._n_disputed = 0
        self.disputes = hasattr(model, "networks") and DEVIATION in model.provides

    def asked(self, properties: Iterable[str]) -> set[str]:
        """What to compute so that :meth:`note` can compare the members, beside what is asked for."""
        asked = set(properties)
        return asked | {DEVIATION} if self.disputes and Z in asked else asked

    def note(self, numbers: np.ndarray, result: Mapping[str, Any], source: str) -> None:
        """Look at a result.

        Args:
            numbers: Atomic numbers of the structure.
            result: By property, arrays of this structure.
            source: How to name it.
        """
        symbols = [chemical_symbols[int(z)] for z in numbers] if self._rare or self.disputes else []
        for symbol in sorted((set(symbols) & self._rare.keys()) - self._named):
            self._named.add(symbol)
            n = self._rare[symbol]
            logger.warning(
                "%s: %s stands in %d of the structures that the model was trained on; its charges may be far off, the sign "
                "included. Compare with a calculation before you rely on them.",
                source,
                symbol,
                n,
            )
        if self.disputes and DEVIATION in result:
            self._note_disputes(symbols, np.asarray(result[DEVIATION]), source)

    def _note_disputes(self, symbols: list[str], deviation: np.ndarray, source: str) -> None:
        size = np.sqrt(np.mean(deviation.reshape(len(deviation), -1) ** 2, axis=1))
        if not len(size) or not size.max() > DISPUTED:
            return
        self._n_disputed += 1
        if self._n_disputed <= _MOST_WARNINGS:
            atom = int(size.argmax())
            logger.warning(
                "%s: the members of the model disagree on atom %d (%s) by %.2f e; its charges may be far off, the sign "
                "included.%s",
                source,
                atom,
                symbols[atom],
                size[atom],
                " Further structures are not named." if self._n_disputed == _MOST_WARNINGS else "",
            )
