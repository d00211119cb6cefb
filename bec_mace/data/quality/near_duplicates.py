"""Structures that are all but the same as another one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bec_mace.data.frames import Frame

CLOSE = 0.01
"""Å; how far any atom, or lattice vector, of a near duplicate is from that of the other."""
_DIRECTIONS = 6


def near_duplicates(frames: Sequence[Frame], close: float = CLOSE) -> Iterator[tuple[int, int, float]]:
    """Yield pairs of frames with the same atoms in the same order, nearly at the same places, up to a shift as a whole.

    Candidates are found in a few directions of the space of all coordinates, in which no pair can be farther than it is.

    Args:
        frames: Any frames.
        close: The largest distance of an atom and of a lattice vector, in Å.

    Yields:
        The numbers of two frames, rising, and the largest distance of an atom, in Å.
    """
    groups: dict[tuple[bytes, bytes, float], list[int]] = {}
    for number, frame in enumerate(frames):
        key = (frame.atomic_numbers.tobytes(), frame.pbc.tobytes(), frame.total_charge)
        groups.setdefault(key, []).append(number)
    for group in groups.values():
        if len(group) > 1:
            yield from _pairs(frames, group, close)


def _pairs(frames: Sequence[Frame], group: list[int], close: float) -> Iterator[tuple[int, int, float]]:
    from scipy.spatial import cKDTree

    size = 3 * len(frames[group[0]]) + 9
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(size, min(_DIRECTIONS, size))))[0]
    tree = cKDTree([_coordinates(frames[number]) @ directions for number in group])
    for first, second in sorted(tree.query_pairs(close * np.sqrt(size / 3))):
        one, other = frames[group[first]], frames[group[second]]
        rest = (_coordinates(one) - _coordinates(other)).reshape(-1, 3)
        distances = np.linalg.norm(rest, axis=1)
        if distances.max() <= close:
            yield group[first], group[second], float(distances[:-3].max())


def _coordinates(frame: Frame) -> np.ndarray:
    cell = np.where(frame.pbc[:, None], frame.cell, 0.0)
    return np.concatenate([(frame.positions - frame.positions.mean(axis=0)).ravel(), cell.ravel()])
