"""What one evaluation leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from bec_mace.engine.contract import Evaluation
from bec_mace.engine.environments import SortedAtoms


def total_of(values: Sequence[Tensor | None]) -> Tensor | None:
    """The sum of what is there; None of nothing."""
    present = [value for value in values if value is not None]
    return sum(present[1:], present[0]) if present else None


@dataclass
class State:
    """What one evaluation of some heads left behind, atoms in sorted order."""

    evaluation: Evaluation
    heads: list[str]

    @property
    def atoms(self) -> SortedAtoms:
        """The atoms."""
        return self.evaluation.atoms

    def total(self, name: str) -> Tensor | None:
        """The sum of one kind of source over all stages."""
        return total_of([getattr(sources, name) for sources in self.evaluation.sources])
