"""Are the two indices of the labels the right way round?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bec_mace.data.frames import Frame

_LEVI_CIVITA = np.zeros((3, 3, 3))
_LEVI_CIVITA[[0, 1, 2], [1, 2, 0], [2, 0, 1]] = 1
_LEVI_CIVITA[[0, 2, 1], [2, 1, 0], [1, 0, 2]] = -1

# The dipole of an ion depends on its origin, which files do not give.
_NEUTRAL = 0.5
# The transpose fits clearly better when its residual is below this share of the other.
_CLEARLY = 0.5


@dataclass(frozen=True)
class RotationCheck:
    """How well the labels of molecules obey the rotational sum rule, in both index orders.

    Attributes:
        n_frames: Molecules with Born effective charges and a dipole.
        residual: Root mean square of the residual with the labels as they are, in e Å.
        transposed_residual: The same with the two indices exchanged.
    """

    n_frames: int
    residual: float
    transposed_residual: float

    @property
    def looks_transposed(self) -> bool:
        """Whether the transpose fits clearly better."""
        return self.transposed_residual < _CLEARLY * self.residual


def rotation_residual(frame: Frame, charges: np.ndarray) -> np.ndarray:
    """Residual of the rotational sum rule of one neutral molecule.

    Rotating a molecule as a whole rotates its dipole with it. Turning about axis c moves atom j by e_c x r_j and
    changes the dipole by e_c x mu, so that for every a and c

        sum_j sum_b Z[j, a, b] (e_c x r_j)_b = (e_c x mu)_a.

    Args:
        frame: Molecule with a dipole in its labels.
        charges: Born effective charges of shape (n_atoms, 3, 3), in e.

    Returns:
        Left minus right, of shape (3, 3) with indices (a, c), in e Å.
    """
    # A neutral molecule may be shifted. Its middle is the origin where errors of the labels count least.
    positions = frame.positions - frame.positions.mean(axis=0)
    left = np.einsum("jab,bcd,jd->ac", charges, _LEVI_CIVITA, positions)
    result: np.ndarray = left - np.einsum("acd,d->ac", _LEVI_CIVITA, frame.labels["dipole"])
    return result


def rotates(frame: Frame) -> bool:
    """Whether the rotational sum rule can be tested: a neutral molecule with Born effective charges and a dipole."""
    charges = frame.labels.get("born_effective_charges")
    if charges is None or "dipole" not in frame.labels or frame.pbc.any():
        return False
    return bool(abs(np.trace(charges.sum(axis=0)) / 3) <= _NEUTRAL)


def is_transposed(frame: Frame) -> bool:
    """Whether the transpose fits the rotational sum rule of a molecule clearly better."""
    charges = frame.labels["born_effective_charges"]
    straight, crossed = (np.linalg.norm(rotation_residual(frame, one)) for one in (charges, charges.swapaxes(1, 2)))
    return bool(crossed < _CLEARLY * straight)


def check_rotation(frames: Sequence[Frame]) -> RotationCheck | None:
    """Test the index order of the labels on all neutral molecules; None when there are none with a dipole."""
    straight, crossed = [], []
    for frame in frames:
        if not rotates(frame):
            continue
        charges = frame.labels["born_effective_charges"]
        straight.append(rotation_residual(frame, charges))
        crossed.append(rotation_residual(frame, charges.swapaxes(1, 2)))
    if not straight:
        return None
    return RotationCheck(len(straight), *(float(np.sqrt(np.mean(np.square(item)))) for item in (straight, crossed)))
