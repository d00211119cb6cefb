"""A neighbour list that is kept while the atoms have hardly moved."""

from __future__ import annotations

import math

import numpy as np

from bec_mace.data.frames import Frame
from bec_mace.data.neighbours import Neighbours, find_neighbours
from bec_mace.errors import DataError

# Two atoms closer than this, in Å, are worth a second look.
_CLOSE = 0.1


class SkinNeighbours:
    r"""Neighbours within r_max, found from a list that reaches to r_max + skin.

    The list is searched again when the elements, the cell or the periodic directions change, or an atom is further than
    skin / 2 from where it was at the last search: two atoms that were more than r_max + skin apart are then still more than
    r_max apart. Pairs beyond r_max are left out of every answer, and the order of the pairs does not depend on where the
    atoms were at the last search. So the answer is the same, bit by bit, whatever the skin.

    Args:
        r_max: Cutoff in Å.
        skin: Width of the shell beyond it, in Å. 0 searches whenever an atom has moved.

    Attributes:
        searches: How often the list was searched.

    Raises:
        DataError: The skin is negative or not finite.
    """

    def __init__(self, r_max: float, skin: float) -> None:
        if not (isinstance(skin, int | float) and math.isfinite(skin) and skin >= 0):
            raise DataError(f"skin must be a number of Å, 0 or more, got {skin}.")
        self.r_max, self.skin = float(r_max), float(skin)
        self.searches = 0
        self._frame: Frame | None = None
        self._pairs = Neighbours(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 3), np.int64))
        self._offsets = np.empty((0, 3))

    def find(self, frame: Frame) -> Neighbours:
        """The pairs closer than r_max, images included; sorted by receiver, then sender, then shift.

        Args:
            frame: The structure.

        Raises:
            DataError: Two atoms are at the same place.
        """
        if self._frame is None or not self._holds(self._frame, frame):
            self._search(frame)
        pairs = self._pairs
        vectors = frame.positions[pairs.receiver] - frame.positions[pairs.sender] - self._offsets
        squared = np.einsum("ei,ei->e", vectors, vectors)
        if len(squared) and squared.min() < _CLOSE**2:
            find_neighbours(frame, self.r_max)  # Refuses atoms at the same place.
        near = squared < self.r_max**2
        return Neighbours(pairs.sender[near], pairs.receiver[near], pairs.shifts[near])

    def _holds(self, old: Frame, new: Frame) -> bool:
        same = (
            np.array_equal(old.atomic_numbers, new.atomic_numbers)
            and np.array_equal(old.cell, new.cell)
            and np.array_equal(old.pbc, new.pbc)
        )
        if not same:
            return False
        moved = new.positions - old.positions
        return float(np.einsum("ai,ai->a", moved, moved).max()) <= (0.5 * self.skin) ** 2

    def _search(self, frame: Frame) -> None:
        self._frame = None  # A failed search leaves no list behind.
        pairs = find_neighbours(frame, self.r_max + self.skin)
        order = np.lexsort((*pairs.shifts.T[::-1], pairs.sender, pairs.receiver))
        self._pairs = Neighbours(pairs.sender[order], pairs.receiver[order], pairs.shifts[order])
        self._offsets = self._pairs.shifts @ frame.cell
        # A copy: whoever owns the frame may change it.
        self._frame = Frame(frame.atomic_numbers.copy(), frame.positions.copy(), frame.cell.copy(), frame.pbc.copy())
        self.searches += 1
