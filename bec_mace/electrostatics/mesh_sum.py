r"""Large crystals: the same sum over reciprocal lattice vectors, with S(k) from a mesh.

Charges are spread on a regular mesh by B-splines of order p, and the transform of the mesh, divided by that of the spline,
is S(k) (Essmann et al., J. Chem. Phys. 103, 8577, 1995). The energy is a function of charges and positions that is smooth to
order p - 2, and forces are its exact derivatives.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bec_mace.electrostatics.multipoles import Multipoles
from bec_mace.electrostatics.pieces import in_pieces
from bec_mace.electrostatics.wavevectors import WavevectorSum

_ORDER = 8
_POINTS_PER_WAVE = 3.2
"""Mesh points in the shortest wave; with splines of order 8 the energy is good to the default tolerance."""
_ATOMS = 4096
"""Atoms whose splines are in memory at once."""


class MeshSum(WavevectorSum):
    """S(k) from charges on a mesh."""

    def _choose(self, lengths: list[float], longest: float, like: Tensor) -> None:
        spacing = 2 * math.pi / longest / _POINTS_PER_WAVE
        self._n = [_smooth_number(max(2 * _ORDER, math.ceil(length / spacing))) for length in lengths]
        self.whole = [torch.fft.fftfreq(n, 1 / n, device=like.device, dtype=like.dtype) for n in self._n[:2]]
        # Half of the transform is kept, and the other is its mirror image.
        last = torch.arange(self._n[2] // 2 + 1, device=like.device, dtype=like.dtype)
        self.whole.append(last)
        first, second, third = (_spline_transform(numbers, n) for numbers, n in zip(self.whole, self._n, strict=True))
        twice = torch.where((last > 0) & (2 * last < self._n[2]), 2.0, 1.0).to(like.dtype)
        self.counts = twice / (first.view(-1, 1, 1) * second.view(1, -1, 1) * third)

    def _structure(self, sources: Multipoles, fractional: Tensor) -> Tensor:
        """From moments on meshes of their own, each multiplied by its power of k, so that no spline is differentiated."""
        # The transform has exp(-i k r), the conjugate of the definition.
        k = [
            2 * math.pi * whole.view([-1 if axis == place else 1 for axis in range(3)])
            for place, whole in enumerate(self.whole)
        ]
        structure = self._transform(sources.charges, fractional)
        if sources.dipoles is not None:
            for axis, value in enumerate(sources.dipoles.unbind(2)):
                structure = structure - 1j * k[axis] * self._transform(value, fractional)
        if sources.quadrupoles is not None:
            for a in range(3):
                for b in range(a, 3):
                    weight = -0.5 if a == b else -1.0
                    structure = structure + weight * k[a] * k[b] * self._transform(sources.quadrupoles[:, :, a, b], fractional)
        return structure.conj()

    def _transform(self, values: Tensor, fractional: Tensor) -> Tensor:
        """Of values of the atoms, of shape (n_frames, n), spread on the mesh."""
        transform: Tensor = torch.fft.rfftn(self._density(values, fractional), dim=(1, 2, 3))
        return transform

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
