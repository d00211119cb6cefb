r"""Atoms whose Z* is far from one isotropic charge per element.

.. math:: d_j = \sqrt{\tfrac19 \sum_{ab} (Z_{j,ab} - q_{z_j} \delta_{ab})^2}

with the median q of tr Z / 3 of each element. An atom is far when d exceeds the median d of its element by a number of spreads:
of a normal distribution with the median deviation or the upper tenth of the element, what is larger, and at least 0.05 e.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bec_mace.data.frames import Frame

Z = "born_effective_charges"
SPREADS = 10.0
_FEWEST = 10
"""Atoms of an element, to speak of its spread."""
_SMALLEST_SPREAD = 0.05
LARGEST_CHARGE = 15.0
"""e; means of elements beyond it are of another unit."""


@dataclass(frozen=True)
class Distances:
    """How far the atoms of some frames are from the trivial model.

    Attributes:
        frames: Number of the frame of each atom.
        atoms: Number of each atom in its frame.
        elements: Atomic number of each atom.
        distances: d of each atom, in e.
        spreads: How many spreads d is above the median of its element; 0 for rare elements.
        charges: q by atomic number, in e.
    """

    frames: np.ndarray
    atoms: np.ndarray
    elements: np.ndarray
    distances: np.ndarray
    spreads: np.ndarray
    charges: dict[int, float]


def trivial_distances(frames: Sequence[Frame]) -> Distances | None:
    """Compare all Z* with one isotropic charge per element; None without Z*."""
    held = [(number, frame) for number, frame in enumerate(frames) if Z in frame.labels]
    if not held:
        return None
    elements = np.concatenate([frame.atomic_numbers for _, frame in held])
    tensors = np.concatenate([frame.labels[Z] for _, frame in held])
    distances, spreads, charges = np.zeros(len(tensors)), np.zeros(len(tensors)), {}
    for element in np.unique(elements):
        own = elements == element
        charge = float(np.median(np.trace(tensors[own], axis1=1, axis2=2) / 3))
        charges[int(element)] = charge
        distances[own] = np.sqrt(np.mean((tensors[own] - charge * np.eye(3)) ** 2, axis=(1, 2)))
        above = distances[own] - np.median(distances[own])
        tail = float(np.quantile(above, 0.9)) / 1.2816
        spread = max(1.4826 * float(np.median(np.abs(above))), tail, _SMALLEST_SPREAD)
        spreads[own] = above / spread if own.sum() >= _FEWEST else 0.0
    return Distances(
        frames=np.concatenate([np.full(len(frame), number) for number, frame in held]),
        atoms=np.concatenate([np.arange(len(frame)) for _, frame in held]),
        elements=elements,
        distances=distances,
        spreads=spreads,
        charges=charges,
    )
