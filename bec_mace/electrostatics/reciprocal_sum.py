"""Crystals: the sum over reciprocal lattice vectors, term by term.

A phase is a product of three, one for each lattice vector, so S is a matrix product: nothing is kept for each pair of an atom
and a wavevector.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

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

    def _power(self, charges: Tensor, fractional: Tensor) -> Tensor:
        sizes = [len(numbers) for numbers in self.whole]

        def some(atoms: Tensor) -> Tensor:
            angle = 2 * math.pi * fractional[:, atoms]
            first, second, third = (_phases(angle[..., axis], numbers) for axis, numbers in enumerate(self.whole))
            plane = (second.unsqueeze(3) * third.unsqueeze(2)).flatten(2)
            return torch.bmm((charges[:, atoms].unsqueeze(2) * first).transpose(1, 2), plane)

        n_frames, n_atoms = charges.shape
        structure = in_pieces(some, n_atoms, _PHASES // (sizes[1] * sizes[2] * n_frames), charges)
        return (structure.real.square() + structure.imag.square()).view(n_frames, *sizes)


def _phases(angle: Tensor, whole: Tensor) -> Tensor:
    """exp(i n angle), of shape (n_frames, n, n_whole)."""
    product = angle.unsqueeze(2) * whole
    return torch.complex(torch.cos(product), torch.sin(product))
