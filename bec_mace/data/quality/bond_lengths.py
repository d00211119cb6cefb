"""Distances that no structure has, from another unit of length or atoms on each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bec_mace.data.frames import Frame
from bec_mace.data.neighbours import find_neighbours
from bec_mace.errors import DataError

SHORTEST, LONGEST = 0.45, 1.7
"""Distances over the sum of two covalent radii: the least of all, and the most of the median atom to its nearest neighbour."""
_NOBLE = (2, 10, 18, 36, 54, 86)
_LARGEST = 5000


def strange_distances(frame: Frame) -> str:
    """What is wrong with the distances of a structure; empty where nothing is, and for very large ones."""
    from ase.data import covalent_radii

    if len(frame) < 2 or len(frame) > _LARGEST or np.isin(frame.atomic_numbers, _NOBLE).all():
        return ""
    radii = covalent_radii[frame.atomic_numbers]
    reach = 2 * LONGEST * float(radii.max())
    try:
        edges = find_neighbours(replace(frame, labels={}), reach)
    except DataError as error:
        return str(error).removeprefix(f"{frame.source}: ")
    vectors = frame.positions[edges.receiver] - frame.positions[edges.sender] - edges.shifts @ frame.cell
    lengths = np.linalg.norm(vectors, axis=1)
    ratios = lengths / (radii[edges.receiver] + radii[edges.sender])
    nearest = np.full(len(frame), np.inf)
    np.minimum.at(nearest, edges.receiver, ratios)
    middle = float(np.median(nearest))
    if middle > LONGEST:
        return f"the nearest neighbour of the median atom is {_many(middle)} as far as a bond; are lengths in bohr?"
    if nearest.max() < SHORTEST:
        return f"no atom is farther from its nearest neighbour than {nearest.max():.2f} times a bond; are lengths in nm?"
    if len(ratios) and ratios.min() < SHORTEST:
        place = int(ratios.argmin())
        return f"atoms {edges.sender[place]} and {edges.receiver[place]} are {lengths[place]:.3f} Å from each other."
    return ""


def _many(ratio: float) -> str:
    return f"{ratio:.2f} times" if np.isfinite(ratio) else f"more than {LONGEST:g} times"
