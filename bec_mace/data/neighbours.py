"""Periodic neighbour lists."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType

import numpy as np

from bec_mace.data.frames import Frame
from bec_mace.errors import DataError

# Two atoms closer than this, in Å, are at the same place: no model and no label means anything there.
_FARTHEST = 1e8  # Å; in float64 positions there are exact to 1e-8 Å.
_MOST_IMAGES = 1e5
_SAME_PLACE = 0.01
_MOST_BOXES = 1e5


@dataclass(frozen=True)
class Neighbours:
    """Directed edges of one frame, sorted by receiver.

    Attributes:
        sender: Of shape (n_edges,), int64.
        receiver: Of shape (n_edges,), int64, ascending.
        shifts: Lattice translations of the sender, of shape (n_edges, 3), int64. Zero along directions without
            periodicity.
    """

    sender: np.ndarray
    receiver: np.ndarray
    shifts: np.ndarray


def find_neighbours(frame: Frame, r_max: float) -> Neighbours:
    """Find all pairs closer than r_max, images included.

    An edge exists when ``|r_receiver - (r_sender + shifts @ cell)| < r_max``. The cell may be of any shape and smaller
    than r_max: an atom is then a neighbour of its own images.

    Args:
        frame: Structure, periodic along any of its directions or none.
        r_max: Cutoff in Å.

    Raises:
        DataError: The cutoff is not positive, two atoms are at the same place, atoms are so far away that their distances
            are coarse, or the cell is so thin or skewed that the search would not end.
    """
    if not r_max > 0:
        raise DataError(f"r_max must be positive, got {r_max}.")
    _check_distances(frame)
    cell, origin = _search_box(frame, r_max)
    _check_images(frame, cell, r_max)
    reach = _safe_reach(cell, r_max)
    search = _vesin().NeighborList(cutoff=reach, full_list=True, sorted=True, n_threads=1)
    receiver, sender, distance, shifts = search.compute(frame.positions - origin, cell, True, "ijdS")
    if reach > r_max:
        near = distance < r_max
        receiver, sender, distance, shifts = receiver[near], sender[near], distance[near], shifts[near]
    if len(distance) and distance.min() < _SAME_PLACE:
        pair = int(distance.argmin())
        raise DataError(
            f"{frame.source}: atoms {receiver[pair]} and {sender[pair]} are at the same place "
            f"(distance {distance[pair]:.4f} Å). Remove one."
        )
    return Neighbours(sender.astype(np.int64), receiver.astype(np.int64), shifts.astype(np.int64))


def _check_distances(frame: Frame) -> None:
    far = np.abs(frame.positions).max(axis=1, initial=0.0)
    if len(far) and far.max() > _FARTHEST:
        atom = int(far.argmax())
        raise DataError(
            f"{frame.source}: atom {atom} is {far[atom]:.3g} Å from the origin, where distances of atoms are no longer exact; "
            "move the structure back, or look for a mistake in its units."
        )


def _check_images(frame: Frame, cell: np.ndarray, r_max: float) -> None:
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    images = float(np.prod(2.0 * np.floor(r_max / heights) + 1.0))
    if images > _MOST_IMAGES:
        shown = ", ".join(f"{height:.3g}" for height in heights)
        raise DataError(
            f"{frame.source}: the cell is so thin or skewed (heights {shown} Å) that "
            f"{images:.3g} images of each atom are within {r_max:g} Å; give a reduced cell, or look for a mistake in its units."
        )


def _search_box(frame: Frame, r_max: float) -> tuple[np.ndarray, np.ndarray]:
    """A periodic cell and an origin for the search: along directions without periodicity a box around the atoms, with vacuum.

    The frame's own vectors along those directions are not used: they may be zero, or parallel to a periodic one.
    """
    if frame.pbc.all():
        return frame.cell, np.zeros(3)
    rows = frame.cell[frame.pbc]
    # The last right singular vectors span the complement of the periodic vectors.
    normals = np.linalg.svd(rows)[2][len(rows) :] if len(rows) else np.eye(3)
    along = frame.positions @ normals.T
    low, high = along.min(axis=0) - 0.5, along.max(axis=0) + 0.5
    cell = frame.cell.copy()
    cell[~frame.pbc] = normals * (high - low + r_max)[:, None]
    return cell, low @ normals


def _safe_reach(cell: np.ndarray, r_max: float) -> float:
    """A cutoff, r_max or more, with which vesin divides the cell without fault.

    It takes at most ``_MOST_BOXES`` boxes. Of a thin and very wide cell, as of atoms that have flown apart beside a wire, it
    would make less than one across, and end the process.
    """
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    reach = float(r_max)
    while True:
        boxes = np.maximum(1.0, np.floor(heights / reach))
        if boxes.prod() <= _MOST_BOXES or boxes.min() > 2.0 * np.cbrt(boxes.prod() / _MOST_BOXES):
            return reach
        reach *= 1.5


@cache
def _vesin() -> ModuleType:
    """The library that searches. It imports torch to know its tensors; a process that has no torch yet needs none for this."""
    if "torch" in sys.modules:
        return import_module("vesin")
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        return import_module("vesin")
    finally:
        del sys.modules["torch"]
