r"""Crystals: the sum over reciprocal lattice vectors, of all cells of a batch at once.

.. math:: E = \frac{1}{2 V} \sum_{0 < k < k_{max}} v(k) |S(k)|^2, \qquad S(k) = \sum_i q_i e^{i k \cdot r_i}

A phase is a product of three, one for each lattice vector, so S is a matrix product: nothing is kept for each pair of an atom
and a wavevector.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bec_mace.electrostatics import kernels
from bec_mace.electrostatics.pieces import in_pieces

_PHASES = 8_000_000
"""Numbers for each plane of wavevectors that are in memory at once."""


class ReciprocalSum:
    """The wavevectors of some cells.

    Args:
        cell: Lattice vectors as rows, of shape (n_frames, 3, 3), in Å.
        smearing: In Å.
        tolerance: Where the kernel is cut off.
    """

    def __init__(self, cell: Tensor, smearing: float, tolerance: float) -> None:
        self.smearing = smearing
        self._longest = kernels.longest_wavevector(smearing, tolerance)
        lengths = torch.linalg.vector_norm(cell, dim=2).max(dim=0).values
        # k . a = 2 pi n, so no wavevector within the limit has a larger n.
        self._n = [int(self._longest * length / (2 * math.pi)) for length in lengths.tolist()]
        ranges = [
            torch.arange(0 if axis == 0 else -n, n + 1, device=cell.device, dtype=cell.dtype) for axis, n in enumerate(self._n)
        ]
        self._whole = torch.stack(torch.meshgrid(*ranges, indexing="ij"), dim=-1)  # S(-k) is the conjugate of S(k).
        self._ranges = ranges
        squared = self._squared(cell)
        inside = (squared > 0) & (squared <= self._longest**2)
        twice = torch.where(self._whole[..., 0] > 0, 2.0, 1.0)
        self._weights = torch.where(inside, twice, torch.zeros_like(twice)).to(cell.dtype)

    def _squared(self, cell: Tensor) -> Tensor:
        vectors = 2 * math.pi * torch.einsum("abcd,fed->fabce", self._whole, torch.linalg.inv(cell))
        return (vectors * vectors).sum(dim=-1)

    def energies(self, charges: Tensor, fractional: Tensor, cell: Tensor) -> Tensor:
        """Of shape (n_frames,), in eV, the energy of each charge with itself included.

        Args:
            charges: Of shape (n_frames, n), in e; zero where there is no atom.
            fractional: Positions in units of the lattice vectors, of shape (n_frames, n, 3).
            cell: That of the construction, or one that can be differentiated, of shape (n_frames, 3, 3), in Å.
        """
        squared, volume = self._squared(cell), torch.linalg.det(cell).abs()
        kernel = (
            kernels.of_wavevector(squared.where(self._weights > 0, torch.ones_like(squared)), self.smearing) * self._weights
        )
        structure = self._structure(charges, fractional)
        power = (structure.real.square() + structure.imag.square()).view_as(kernel)
        energies: Tensor = 0.5 * (kernel * power).sum(dim=(1, 2, 3)) / volume
        return energies

    def _structure(self, charges: Tensor, fractional: Tensor) -> Tensor:
        n_plane = (2 * self._n[1] + 1) * (2 * self._n[2] + 1)

        def some(atoms: Tensor) -> Tensor:
            angle = 2 * math.pi * fractional[:, atoms]
            first, second, third = (_phases(angle[..., axis], self._ranges[axis]) for axis in range(3))
            plane = (second.unsqueeze(3) * third.unsqueeze(2)).flatten(2)
            return torch.bmm((charges[:, atoms].unsqueeze(2) * first).transpose(1, 2), plane)

        return in_pieces(some, charges.shape[1], _PHASES // max(1, n_plane * charges.shape[0]), charges)


def _phases(angle: Tensor, whole: Tensor) -> Tensor:
    """exp(i n angle), of shape (n_frames, n, n_whole)."""
    product = angle.unsqueeze(2) * whole
    return torch.complex(torch.cos(product), torch.sin(product))
