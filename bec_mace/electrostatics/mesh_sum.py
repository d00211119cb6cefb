r"""Large crystals: the same sum over reciprocal lattice vectors, with S(k) from a mesh.

Charges are spread on a regular mesh by B-splines of order p, and the transform of the mesh, divided by that of the spline,
is S(k) (Essmann et al., J. Chem. Phys. 103, 8577, 1995). The energy is a function of charges and positions that is smooth to
order p - 2, and forces are its exact derivatives.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bec_mace.electrostatics import kernels
from bec_mace.electrostatics.pieces import in_pieces

_ORDER = 8
_POINTS_PER_WAVE = 3.2
"""Mesh points in the shortest wave; with splines of order 8 the energy is good to the default tolerance."""
_ATOMS = 4096
"""Atoms whose splines are in memory at once."""


class MeshSum:
    """The mesh of some cells.

    Args:
        cell: Lattice vectors as rows, of shape (n_frames, 3, 3), in Å.
        smearing: In Å.
        tolerance: Where the kernel is cut off.
    """

    def __init__(self, cell: Tensor, smearing: float, tolerance: float) -> None:
        self.smearing = smearing
        self._longest = kernels.longest_wavevector(smearing, tolerance)
        lengths = torch.linalg.vector_norm(cell, dim=2).max(dim=0).values.tolist()
        spacing = 2 * math.pi / self._longest / _POINTS_PER_WAVE
        self._n = [_smooth_number(max(2 * _ORDER, math.ceil(length / spacing))) for length in lengths]
        whole = [torch.fft.fftfreq(n, 1 / n, device=cell.device, dtype=cell.dtype) for n in self._n[:2]]
        whole.append(torch.arange(self._n[2] // 2 + 1, device=cell.device, dtype=cell.dtype))
        self._whole = torch.stack(torch.meshgrid(*whole, indexing="ij"), dim=-1)
        squared = self._squared(cell)
        inside = (squared > 0) & (squared <= self._longest**2)
        last = self._whole[..., 2]
        # Half of the transform is kept, and the other is its mirror image.
        counts = torch.where((last > 0) & (2 * last < self._n[2]), 2.0, 1.0).to(cell.dtype)
        spline = [_spline_transform(numbers, n) for numbers, n in zip(whole, self._n, strict=True)]
        product = spline[0].view(-1, 1, 1) * spline[1].view(1, -1, 1) * spline[2]
        self._weights = torch.where(inside, counts / product, torch.zeros_like(counts))

    def _squared(self, cell: Tensor) -> Tensor:
        vectors = 2 * math.pi * torch.einsum("abcd,fed->fabce", self._whole, torch.linalg.inv(cell))
        return (vectors * vectors).sum(dim=-1)

    def energies(self, charges: Tensor, fractional: Tensor, cell: Tensor) -> Tensor:
        """As :meth:`~bec_mace.electrostatics.reciprocal_sum.ReciprocalSum.energies`."""
        squared, volume = self._squared(cell), torch.linalg.det(cell).abs()
        kernel = (
            kernels.of_wavevector(squared.where(self._weights > 0, torch.ones_like(squared)), self.smearing) * self._weights
        )
        structure = torch.fft.rfftn(self._density(charges, fractional), dim=(1, 2, 3))
        power = structure.real.square() + structure.imag.square()
        energies: Tensor = 0.5 * (kernel * power).sum(dim=(1, 2, 3)) / volume
        return energies

    def _density(self, charges: Tensor, fractional: Tensor) -> Tensor:
        """Charges on the mesh, of shape (n_frames, n1, n2, n3), in e."""
        n_frames, n_points = charges.shape[0], math.prod(self._n)
        sizes = torch.tensor(self._n, device=charges.device)
        frame = torch.arange(n_frames, device=charges.device).view(-1, 1, 1, 1, 1) * n_points

        def some(atoms: Tensor) -> Tensor:
            place = fractional[:, atoms] * sizes
            below = torch.floor(place.detach())
            weights = _splines(place - below)
            steps = torch.arange(_ORDER, device=charges.device)
            x, y, z = ((below.long().unsqueeze(3) - steps) % sizes.view(3, 1)).unbind(2)
            index = (x[..., None, None] * self._n[1] + y[..., None, :, None]) * self._n[2] + z[..., None, None, :] + frame
            x, y, z = weights.unbind(2)
            value = (charges[:, atoms].unsqueeze(2) * x)[..., None, None] * (y.unsqueeze(3) * z.unsqueeze(2)).unsqueeze(2)
            return value.new_zeros(n_frames * n_points).index_add(0, index.flatten(), value.flatten())

        return in_pieces(some, charges.shape[1], max(1, _ATOMS // n_frames), charges).view(n_frames, *self._n)


def _splines(rest: Tensor) -> Tensor:
    """Cardinal B-splines at the mesh points at and below a place, of shape (..., p), from what it is above the first."""
    values = [rest, 1 - rest]
    for order in range(3, _ORDER + 1):
        padded = [torch.zeros_like(rest), *values, torch.zeros_like(rest)]
        values = [
            ((rest + step) * padded[step + 1] + (order - rest - step) * padded[step]) / (order - 1) for step in range(order)
        ]
    return torch.stack(values, dim=-1)


def _spline_transform(whole: Tensor, n: int) -> Tensor:
    """Squared transform of the spline on the points of a mesh of n points."""
    at_points = _splines(torch.zeros((), dtype=whole.dtype, device=whole.device))
    angle = 2 * math.pi / n * whole.unsqueeze(1) * torch.arange(_ORDER, device=whole.device)
    return (at_points * torch.cos(angle)).sum(dim=1).square() + (at_points * torch.sin(angle)).sum(dim=1).square()


def _smooth_number(least: int) -> int:
    """The smallest even number from here on that has no prime factor above 5."""
    number = least + least % 2
    while True:
        rest = number
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return number
        number += 2
