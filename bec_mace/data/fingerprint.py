"""What makes two frames, or two data sets, the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

import numpy as np

from bec_mace.data.frames import Frame

# Positions and cells that agree to this many decimals of an Å belong to the same frame.
_DECIMALS = 5


def structure_fingerprint(frame: Frame) -> str:
    """Hash of elements, positions, cell and periodicity, rounded to 1e-5 Å, and of its charge. Labels do not count."""
    digest = sha256(frame.atomic_numbers.astype(np.int64).tobytes())
    digest.update(frame.pbc.astype(bool).tobytes())
    for array in (frame.positions, frame.cell[frame.pbc]):
        # Adding zero turns -0.0 into 0.0.
        digest.update((np.round(array, _DECIMALS) + 0.0).tobytes())
    for part in _charge_bytes(frame):
        digest.update(part)
    return digest.hexdigest()


def structure_bytes(frame: Frame) -> tuple[bytes, ...]:
    """Numbers, positions, cell, periodicity and, where there is one, the charge of a frame, to the last bit."""
    arrays = (frame.atomic_numbers, frame.positions, frame.cell, frame.pbc)
    return (*(np.ascontiguousarray(array).tobytes() for array in arrays), *_charge_bytes(frame))


def _charge_bytes(frame: Frame) -> tuple[bytes, ...]:
    # Nothing where there is none, so that the fingerprints of neutral structures stay what they were.
    return (np.float64(frame.total_charge).tobytes(),) if frame.total_charge else ()


def data_fingerprint(frames: Iterable[Frame]) -> str:
    """Hash of all frames in their order: numbers, positions, cell, periodicity, charge and labels, to the last bit."""
    digest = sha256()
    for frame in frames:
        for part in structure_bytes(frame):
            digest.update(part)
        for name in sorted(frame.labels):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(frame.labels[name]).tobytes())
    return digest.hexdigest()


def identical_frames(frames: Sequence[Frame]) -> list[list[int]]:
    """Groups of two or more frames that are identical, each as ascending positions in ``frames``."""
    return [group for group in group_identical(frames) if len(group) > 1]


def group_identical(frames: Sequence[Frame]) -> list[list[int]]:
    """All frames as positions in ``frames``, grouped by structure, in the order of first appearance."""
    groups: dict[str, list[int]] = {}
    for index, frame in enumerate(frames):
        groups.setdefault(structure_fingerprint(frame), []).append(index)
    return list(groups.values())
