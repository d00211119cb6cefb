"""Crystals: the sum over reciprocal lattice vectors, term by term.

A phase is a product of three, one for each lattice vector, so S is a matrix product: nothing is kept for each pair of an atom
and a wavevector.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bec_mace.electrostatics.multipoles import Multipoles
from bec_mace.electrostatics.pieces import in_pieces
from bec_mace.electrostatics.wavevectors import WavevectorSum

_PHASES = 8_000_000
"""Numbers for each plane of wavevectors that are in memory at once."""


class ReciprocalSum(WavevectorSum):
    """S(k) from the phases of all atoms."""

    def _choose(self, lengths: list[float], longest: float, like: Tensor) -> None:
        # k . a = 2 pi n, so no wavevector within the limit has a larger n.
        most = [int(longest * length / (2 * math.pi)) for length in lengths]
        # S(-k) is the conjugate of S(k): half of them are enough.
        first = [0, -most[1], -most[2]]
        self.whole = [
            torch.arange(start, end + 1, device=like.device, dtype=like.dtype) for start, end in zip(first, most, strict=True)
        ]
        self.counts = torch.where(self.whole[0] > 0, 2.0, 1.0).to(like.dtype).view(-1, 1, 1)

    def _structure(self, sources: Multipoles, fractional: Tensor) -> Tensor:
        sizes = [len(numbers) for numbers in self.whole]
        sources = sources.to(self._precision)

        def some(atoms: Tensor) -> Tensor:
            angle = 2 * math.pi * fractional[:, atoms]
            first, second, third = (_phases(angle[..., axis], numbers) for axis, numbers in enumerate(self.whole))
            # Phases are as exact as positions, sums of them as exact as the sources.
            first, second, third = (value.to(precision) for value in (first, second, third))
            plane = (second.unsqueeze(3) * third.unsqueeze(2)).flatten(2)
            left = torch.cat([factor * first for factor in self._factors(sources.at(atoms))], dim=2)
            return torch.bmm(left.transpose(1, 2), plane)

        n_frames, n_atoms = sources.charges.shape
        precision = torch.complex(sources.charges, sources.charges).dtype  # That of the sums.
        size = _PHASES // (sizes[1] * sizes[2] * n_frames * (1 + 2 * sources.order))
        groups = in_pieces(some, n_atoms, size, sources.charges).view(n_frames, -1, *sizes)
        structure = groups[:, 0]
        for number, power in enumerate(self._powers(groups.shape[1]), start=1):
            structure = structure + power.to(sources.charges.dtype) * groups[:, number]
        return structure

    def _factors(self, sources: Multipoles) -> list[Tensor]:
        """Q + i k.u - k.Q.k/2 by the powers of the second and third coefficient of k; functions of the first, (..., n, n_1).

        In the lattice k = 2 pi n. What is multiplied by a power of n_2 and n_3 is summed over the atoms before it is.
        """
        one = (2 * math.pi * self.whole[0]).to(sources.charges.dtype)
        none = sources.charges.unsqueeze(2)
        if sources.order == 0:
            return [none]
        x, y, z = (None, None, None) if sources.dipoles is None else sources.dipoles.unsqueeze(2).unbind(3)
        if sources.quadrupoles is None:
            return [_complex(none, _times(x, one)), _complex(None, y), _complex(None, z)]
        quadrupoles = sources.quadrupoles.unsqueeze(2)
        mixed = [-quadrupoles[..., 0, axis] * one for axis in (1, 2)]
        return [
            _complex(none - 0.5 * quadrupoles[..., 0, 0] * one.square(), _times(x, one)),
            _complex(mixed[0], y),
            _complex(mixed[1], z),
            -0.5 * quadrupoles[..., 1, 1],
            -0.5 * quadrupoles[..., 2, 2],
            -quadrupoles[..., 1, 2],
        ]

    def _powers(self, n_groups: int) -> list[Tensor]:
        """What the groups of :meth:`_factors` but the first are multiplied by, each of shape (n_2, n_3)."""
        two, three = (2 * math.pi * numbers for numbers in self.whole[1:])
        two, three = two.view(-1, 1), three.view(1, -1)
        return [two, three, two.square(), three.square(), two * three][: n_groups - 1]


def _times(value: Tensor | None, factor: Tensor) -> Tensor | None:
    return None if value is None else value * factor


def _complex(real: Tensor | None, imaginary: Tensor | None) -> Tensor:
    """A number of which one part may be missing."""
    if imaginary is None:
        return torch.empty(0) if real is None else real
    if real is None:
        return torch.complex(torch.zeros_like(imaginary), imaginary)
    return torch.complex(*torch.broadcast_tensors(real, imaginary))


def _phases(angle: Tensor, whole: Tensor) -> Tensor:
    """exp(i n angle), of shape (n_frames, n, n_whole)."""
    product = angle.unsqueeze(2) * whole
    return torch.complex(torch.cos(product), torch.sin(product))
