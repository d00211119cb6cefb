r"""The sum rules of Z*, one polarization direction at a time.

.. math:: \sum_j Z_{j,ab} = Q \, \delta_{ab}, \qquad
          \sum_{jb} Z_{j,ab} \, (e_c \times r_j)_b = (e_c \times \mu)_a

A run in a field along a that went wrong breaks the row a alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bec_mace.data.frames import Frame
from bec_mace.data.quality.index_order import rotation_residual

Z = "born_effective_charges"
ACOUSTIC, ROTATIONAL = 0.05, 0.1
"""The largest residual of a row that passes, over the root of the number of atoms; in e and e Å."""
_MANY, _LEAST, _EXACT, _FEWEST = 10.0, 0.01, 1e-5, 5
"""How much more than the median row is too much, from which size; which median was made to obey; of how many frames."""


def acoustic_rows(frame: Frame) -> np.ndarray:
    """Norms of the rows of sum_j Z_j - Q over the root of the number of atoms, of shape (3,), in e."""
    rest = frame.labels[Z].sum(axis=0) - frame.total_charge * np.eye(3)
    rows: np.ndarray = np.linalg.norm(rest, axis=1) / np.sqrt(len(frame))
    return rows


def rotational_rows(frame: Frame) -> np.ndarray:
    """Norms of the rows of the rotational residual of a molecule over the root of its size, of shape (3,), in e Å."""
    rows: np.ndarray = np.linalg.norm(rotation_residual(frame, frame.labels[Z]), axis=1) / np.sqrt(len(frame))
    return rows


def row_limits(frames: Sequence[Frame], rows: Sequence[np.ndarray], largest: float) -> np.ndarray:
    """Which residual of a row is too large, for each frame.

    It is the largest that passes at all, or 10 times the median of frames with the same elements, where that is less. Small
    groups, and labels that were made to obey, are no measure for others.

    Args:
        frames: Frames.
        rows: Their residuals, each of shape (3,).
        largest: That passes at all.
    """
    groups: dict[bytes, list[int]] = {}
    for number, frame in enumerate(frames):
        groups.setdefault(np.unique(frame.atomic_numbers).tobytes(), []).append(number)
    limits = np.full(len(frames), largest)
    for group in groups.values():
        median = float(np.median([rows[number] for number in group]))
        if len(group) >= _FEWEST and median > _EXACT:
            limits[group] = min(largest, max(_LEAST, _MANY * median))
    return limits
