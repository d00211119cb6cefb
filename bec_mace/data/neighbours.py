"""Periodic neighbour lists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matscipy.neighbours import neighbour_list

from bec_mace.data.frames import Frame
from bec_mace.errors import DataError

# Two atoms closer than this, in Å, are at the same place: no model and no label means anything there.
_SAME_PLACE = 0.01


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
        DataError: The cutoff is not positive, or two atoms are at the same place.
    """
    if not r_max > 0:
        raise DataError(f"r_max must be positive, got {r_max}.")
    cell, origin = _search_box(frame)
    receiver, sender, distance, shifts = neighbour_list(
        "ijdS", positions=frame.positions - origin, cell=cell, pbc=frame.pbc, cutoff=float(r_max))
    if len(distance) and distance.min() < _SAME_PLACE:
        pair = int(distance.argmin())
        raise DataError(f"{frame.source}: atoms {receiver[pair]} and {sender[pair]} are at the same place "
                        f"(distance {distance[pair]:.4f} Å). Remove one.")
    # matscipy sorts by receiver but gives 32-bit indices.
    return Neighbours(sender.astype(np.int64), receiver.astype(np.int64), shifts.astype(np.int64))


def _search_box(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """A cell and origin for the search: along directions without periodicity a box around the atoms.

    The frame's own vectors along those directions are not used: they may be zero, or parallel to a periodic one.
    """
    if frame.pbc.all():
        return frame.cell, np.zeros(3)
    rows = frame.cell[frame.pbc]
    # The last right singular vectors span the complement of the periodic vectors.
    normals = np.linalg.svd(rows)[2][len(rows):] if len(rows) else np.eye(3)
    along = frame.positions @ normals.T
    low, high = along.min(axis=0) - 0.5, along.max(axis=0) + 0.5
    cell = frame.cell.copy()
    cell[~frame.pbc] = normals * (high - low)[:, None]
    return cell, low @ normals
