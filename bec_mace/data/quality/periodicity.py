"""Cells of structures that are said not to be periodic."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from bec_mace.data.frames import Frame
from bec_mace.data.neighbours import find_neighbours
from bec_mace.errors import DataError

BONDED = 2.6
"""Å; atoms and images of others that are nearer than this hold together."""
_LARGEST = 20_000
LOOKED_AT = 1000
"""Structures whose cells are looked at."""

logger = logging.getLogger(__name__)


def bonds_across(frame: Frame) -> int:
    """Number of bonds across the sides of a cell whose structure is said to be a molecule; 0 where there is no such cell.

    Such a structure is a crystal in all likelihood, and as a molecule its charges would be those of a cluster.

    Args:
        frame: The structure. Very large ones are not looked at.
    """
    volume = abs(float(np.linalg.det(frame.cell)))
    if frame.pbc.any() or len(frame) > _LARGEST or not volume > 1e-3:
        return 0
    try:
        edges = find_neighbours(replace(frame, pbc=np.ones(3, dtype=bool), labels={}), BONDED)
    except DataError:  # atoms at one place once the cell repeats: not the cell of this structure
        return 0
    return int((edges.shifts != 0).any(axis=1).sum()) // 2


def warning_of(frame: Frame) -> str:
    """What to say of a structure; empty where nothing is wrong."""
    bonds = bonds_across(frame)
    if not bonds:
        return ""
    return (
        f"{frame.source}: has a cell of three vectors and pbc F F F, and {bonds} bonds shorter than {BONDED:g} Å would cross "
        'its sides; it is taken for a molecule. If it is a crystal, write pbc="T T T".'
    )


class CellWatch:
    """Warns once of a structure with a cell that is said not to be periodic.

    Args:
        looks: How many such structures it looks at.
    """

    def __init__(self, looks: int = LOOKED_AT) -> None:
        self._left = looks

    def note(self, frame: Frame) -> None:
        """Look at a structure."""
        if not self._left or frame.pbc.any() or not frame.cell.any():
            return
        sentence = warning_of(frame)
        self._left = 0 if sentence else self._left - 1
        if sentence:
            logger.warning(sentence)
