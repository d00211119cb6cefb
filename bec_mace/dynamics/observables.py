"""What is read off a run while it goes: the current, the drift of the energy, atoms that come too close."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import chemical_symbols

from bec_mace.data import Frame
from bec_mace.data.neighbours import find_neighbours

# Pairs are searched within this many Å: a shorter cutoff would cut large boxes into needlessly many cells.
_SEARCH = 1.0


class CurrentByElement:
    r"""The current of the atoms of each element.

    .. math:: J_{e,a} = \sum_{j \in e} \sum_b Z_{j,a,b} v_{j,b} .

    Args:
        numbers: Atomic numbers, of shape (n_atoms,).

    Attributes:
        symbols: The elements, in ascending order of atomic number.
        counts: Number of atoms of each.
    """

    def __init__(self, numbers: np.ndarray) -> None:
        elements, self._element, counts = np.unique(numbers, return_inverse=True, return_counts=True)
        self.symbols = [chemical_symbols[number] for number in elements]
        self.counts = [int(count) for count in counts]

    def __call__(self, tensors: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        """Sum over the atoms of each element.

        Args:
            tensors: Z*, of shape (n_atoms, 3, 3), in e.
            velocities: Of the same time, of shape (n_atoms, 3), in ASE's units.

        Returns:
            Of shape (n_elements, 3), in e Å/fs.
        """
        current = np.zeros((len(self.symbols), 3))
        np.add.at(current, self._element, np.einsum("jab,jb->ja", tensors, velocities * units.fs))
        return current


class Drift:
    """Straight line through a quantity as a run goes on, in constant memory.

    Attributes:
        count: Number of points.
        first: The first value, nan before it.
        largest: Largest distance from the first value.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first = math.nan
        self.largest = 0.0
        self._means = [0.0, 0.0]
        self._squares, self._products = 0.0, 0.0

    def add(self, time: float, value: float) -> None:
        """Take one more point, of any unit."""
        if self.count == 0:
            self.first = value
        change = value - self.first  # small numbers, so that sums keep their digits
        self.count += 1
        self.largest = max(self.largest, abs(change))
        from_mean = time - self._means[0]
        self._means[0] += from_mean / self.count
        self._means[1] += (change - self._means[1]) / self.count
        self._squares += from_mean * (time - self._means[0])
        self._products += from_mean * (change - self._means[1])

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return self.first + self._means[1]

    @property
    def slope(self) -> float:
        """Slope of the least-squares line; nan from fewer than two times."""
        return self._products / self._squares if self._squares > 0 else math.nan

    def state(self) -> dict[str, Any]:
        """Everything, as plain numbers."""
        return {name: list(value) if isinstance(value, list) else value for name, value in vars(self).items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        for name in vars(self):
            setattr(self, name, [float(item) for item in state[name]] if name == "_means" else state[name])


def closest_pair(atoms: Atoms) -> tuple[float, int, int]:
    """Distance in Å and indices of the two closest atoms, images included; infinite if none are within 1 Å.

    Raises:
        DataError: Two atoms are at the same place.
    """
    frame = Frame(atoms.numbers.astype(np.int64), atoms.get_positions(), np.array(atoms.cell.array), np.array(atoms.pbc))
    pairs = find_neighbours(frame, _SEARCH)
    if not len(pairs.sender):
        return math.inf, -1, -1
    vectors = frame.positions[pairs.receiver] - frame.positions[pairs.sender] - pairs.shifts @ frame.cell
    distances = np.linalg.norm(vectors, axis=1)
    nearest = int(distances.argmin())
    return float(distances[nearest]), int(pairs.receiver[nearest]), int(pairs.sender[nearest])
