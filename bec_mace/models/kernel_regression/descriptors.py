r"""Invariants and vectors of an atomic environment, from the density of its neighbours.

.. math:: P^l_{\alpha\alpha'} = \frac{1}{\sqrt{2l+1}} \sum_m c_{\alpha lm} c_{\alpha' lm}, \qquad
          V^l_{a,\alpha\alpha'} = \sum_{mm'} C^{1a}_{lm,l+1\,m'} c_{\alpha lm} c_{\alpha' l+1\,m'}, \qquad \alpha = (z, n)

The power spectrum P holds the 2- and 3-body invariants of every pair of elements (for l = 0 it is the product of two radial
densities), V the lambda = 1 equivariants. Both are divided by :math:`\nu = \sqrt{|P|^2 + \epsilon^2}`: invariants have a length
of nearly 1, and an atom that loses its last neighbour goes to zero smoothly. epsilon is |P| of an atom with one neighbour at
half the cutoff.

Source: Bartók, Kondor and Csányi, Phys. Rev. B 87, 184115 (2013); Grisafi, Wilkins, Csányi and Ceriotti, Phys. Rev. Lett. 120,
036002 (2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from bec_mace.models.kernel_regression.density import Density
from bec_mace.models.kernel_regression.harmonics import harmonic_values


@dataclass(frozen=True)
class Described:
    """Descriptors of some atoms.

    Attributes:
        invariants: Of shape (n_atoms, n_invariants).
        vectors: Of shape (n_atoms, 3, n_vectors).
        norms: What both were divided by, of shape (n_atoms,).
    """

    invariants: Tensor
    vectors: Tensor
    norms: Tensor


class Descriptors(torch.nn.Module):
    """Descriptors of densities, and the gradients of their projections by the densities.

    Args:
        density: The expansion of the density.

    Attributes:
        n_invariants: Number of invariants.
        n_vectors: Number of vectors.
    """

    def __init__(self, density: Density) -> None:
        super().__init__()
        self.density = density
        self.sizes = [density.n_elements * count for count in density.radial.counts]
        self.n_invariants = sum(size**2 for size in self.sizes)
        self.n_vectors = sum(a * b for a, b in zip(self.sizes[:-1], self.sizes[1:], strict=True))
        for degree in range(density.max_l):
            self.register_buffer(f"_coupling_{degree}", coupling(degree).to(torch.get_default_dtype()), persistent=False)
        self.floor = self._one_neighbour()

    def _one_neighbour(self) -> float:
        """|P| of an atom with one neighbour at half the cutoff."""
        added = self.density.values(
            torch.tensor([[0.0, 0.0, 0.5 * self.density.radial.r_max]]).to(self.density.radial.polynomials)
        )
        single = added.new_zeros(1, self.density.n_elements, self.density.n_components)
        single[:, 0] = added
        return float(torch.linalg.vector_norm(self._power_spectrum(single)))

    def _coupling(self, degree: int) -> Tensor:
        return self.get_buffer(f"_coupling_{degree}")

    def _part(self, densities: Tensor, degree: int) -> Tensor:
        """Components of one l, of shape (n_atoms, n_elements * n, 2 l + 1)."""
        place = densities[:, :, self.density.slices[degree]]
        return place.reshape(place.shape[0], self.sizes[degree], 2 * degree + 1)

    def _power_spectrum(self, densities: Tensor) -> Tensor:
        parts = []
        for degree in range(len(self.sizes)):
            part = self._part(densities, degree)
            parts.append((torch.bmm(part, part.transpose(1, 2)) / math.sqrt(2 * degree + 1)).flatten(1))
        return torch.cat(parts, dim=1)

    def forward(self, densities: Tensor) -> Described:
        """Descriptors from densities of shape (n_atoms, n_elements, n_components)."""
        power = self._power_spectrum(densities)
        norms = torch.sqrt(power.square().sum(dim=1) + self.floor**2)
        vectors = []
        for degree in range(len(self.sizes) - 1):
            coupled = torch.einsum("mpa,iyp->iamy", self._coupling(degree), self._part(densities, degree + 1))
            vectors.append((self._part(densities, degree).unsqueeze(1) @ coupled).flatten(2))
        return Described(power / norms.unsqueeze(1), torch.cat(vectors, dim=2) / norms.view(-1, 1, 1), norms)

    def pull_invariants(self, projections: Tensor, densities: Tensor) -> Tensor:
        """Gradient of projections of the power spectrum, not divided by the norm.

        Args:
            projections: Of shape (n, n_invariants).
            densities: Of shape (n_atoms, n_elements, n_components).

        Returns:
            Of shape (n_atoms, n_elements, n_components, n).
        """
        n, n_atoms = projections.shape[0], densities.shape[0]
        out = densities.new_empty(*densities.shape, n)
        start = 0
        for degree, size in enumerate(self.sizes):
            matrices = projections[:, start : start + size**2].reshape(n, size, size)
            start += size**2
            symmetric = (matrices + matrices.transpose(1, 2)) / math.sqrt(2 * degree + 1)
            part = self._part(densities, degree).permute(1, 0, 2).reshape(size, -1)
            pulled = (symmetric.reshape(-1, size) @ part).view(n, size, n_atoms, 2 * degree + 1)
            out[:, :, self.density.slices[degree]] = self._unfold(pulled.permute(2, 1, 3, 0), degree)
        return out

    def pull_own_norm(self, densities: Tensor) -> Tensor:
        """Gradient of |P|^2 / 2, of the shape of the densities."""
        out = torch.empty_like(densities)
        for degree in range(len(self.sizes)):
            part = self._part(densities, degree)
            pulled = torch.bmm(torch.bmm(part, part.transpose(1, 2)), part) * (2 / (2 * degree + 1))
            out[:, :, self.density.slices[degree]] = self._unfold(pulled.unsqueeze(3), degree).squeeze(3)
        return out

    def pull_vectors(self, projections: Tensor, densities: Tensor) -> Tensor:
        """Gradient of projections of the vectors, not divided by the norm.

        Args:
            projections: Of shape (n, n_vectors).
            densities: Of shape (n_atoms, n_elements, n_components).

        Returns:
            Of shape (n_atoms, n_elements, n_components, 3, n).
        """
        n = projections.shape[0]
        out = densities.new_zeros(*densities.shape, 3, n)
        start = 0
        for degree, (low, high) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True)):
            matrices = projections[:, start : start + low * high].reshape(n, low, high)
            start += low * high
            coupling_ = self._coupling(degree)
            for l_out, matrix, other in (
                (degree, matrices, torch.einsum("mpa,iyp->yima", coupling_, self._part(densities, degree + 1))),
                (degree + 1, matrices.transpose(1, 2), torch.einsum("mpa,ixm->xipa", coupling_, self._part(densities, degree))),
            ):
                pulled = matrix.reshape(-1, matrix.shape[2]) @ other.reshape(matrix.shape[2], -1)
                pulled = pulled.view(n, matrix.shape[1], *other.shape[1:]).permute(2, 1, 3, 4, 0)
                out[:, :, self.density.slices[l_out]] += self._unfold(pulled, l_out)
        return out

    def _unfold(self, pulled: Tensor, degree: int) -> Tensor:
        """(n_atoms, n_elements * n, 2 l + 1, ...) to (n_atoms, n_elements, n * (2 l + 1), ...)."""
        rest = pulled.shape[3:]
        return pulled.reshape(pulled.shape[0], self.density.n_elements, -1, *rest)


@lru_cache(maxsize=16)
def coupling(degree: int) -> Tensor:
    r"""Coupling of l and l + 1 to a vector, of shape (2 l + 1, 2 l + 3, 3), float64; squares sum to 3.

    It is proportional to :math:`\int Y_{lm} Y_{l+1\,m'} \hat r_a`, a polynomial on the sphere, which a product of a
    Gauss-Legendre and a uniform rule integrates exactly.
    """
    heights, weights = np.polynomial.legendre.leggauss(degree + 2)
    angles = 2 * np.pi * np.arange(2 * degree + 4) / (2 * degree + 4)
    width = np.sqrt(1 - heights**2)[:, None]
    grid = np.stack(np.broadcast_arrays(width * np.cos(angles), width * np.sin(angles), heights[:, None]), axis=2)
    points = torch.from_numpy(grid.reshape(-1, 3).copy())
    values = harmonic_values(points, degree + 1)
    weighted = values[:, degree**2 : (degree + 1) ** 2] * torch.from_numpy(np.repeat(weights, len(angles))).unsqueeze(1)
    projections = torch.einsum("gm,gp,ga->mpa", weighted, values[:, (degree + 1) ** 2 :], points)
    result: Tensor = projections * math.sqrt(3) / torch.linalg.vector_norm(projections)
    return result
