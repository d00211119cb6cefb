r"""Sums over reciprocal lattice vectors, of all cells of a batch at once.

.. math:: E = \frac{1}{2 V} \sum_{0 < k < k_{max}} v(k) |S(k)|^2, \qquad
          S(k) = \sum_i (q_i + i k \cdot u_i - \tfrac12 k \cdot Q_i \cdot k) e^{i k \cdot r_i}
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from bec_mace.electrostatics import kernels
from bec_mace.electrostatics.multipoles import Multipoles


class WavevectorSum(ABC):
    """The sum for some cells; how S(k) is made is left to subclasses.

    Args:
        cell: Lattice vectors as rows, of shape (n_frames, 3, 3), in Å.
        smearing: In Å.
        tolerance: Where the kernel is cut off.
        precision: Of S(k) where it is a sum of phases; that of the cell by default.

    Attributes:
        whole: Coefficients of the wavevectors in the reciprocal lattice along each direction, whole numbers.
        counts: How often each wavevector counts, of shape (n_1, n_2, n_3): twice where -k is not among them.
    """

    whole: list[Tensor]
    counts: Tensor

    def __init__(self, cell: Tensor, smearing: float, tolerance: float, precision: torch.dtype | None = None) -> None:
        self._precision = precision or cell.dtype
        self._smearing = smearing
        self._longest = kernels.longest_wavevector(smearing, tolerance)
        lengths = torch.linalg.vector_norm(cell, dim=2).max(dim=0).values
        self._choose(lengths.tolist(), self._longest, cell)

    @abstractmethod
    def _choose(self, lengths: list[float], longest: float, like: Tensor) -> None:
        """Fill ``whole`` and ``counts`` with all wavevectors up to the longest in a cell of these lengths."""

    @abstractmethod
    def _structure(self, sources: Multipoles, fractional: Tensor) -> Tensor:
        """S(k), of shape (n_frames, n_1, n_2, n_3), in e, from multipoles with components along the lattice vectors."""

    def energies(self, sources: Multipoles, fractional: Tensor, cell: Tensor) -> Tensor:
        """Of shape (n_frames,), in eV, the energy of each atom's multipoles with themselves included.

        Args:
            sources: Of n places in each frame; zero where there is no atom.
            fractional: Positions in units of the lattice vectors, of shape (n_frames, n, 3).
            cell: That of the construction, or one that can be differentiated, of shape (n_frames, 3, 3), in Å.
        """
        inverse = torch.linalg.inv(cell)
        weights, _, _ = self._kernel(inverse)
        structure = self._structure(sources.in_lattice(inverse), fractional)
        power = structure.real.square() + structure.imag.square()
        total = (weights * power.to(weights.dtype)).sum(dim=(1, 2, 3))
        energies: Tensor = 0.5 * total / torch.linalg.det(cell).abs()
        return energies

    def arm_moments(self, weights: Tensor, fractional: Tensor, sources: Multipoles, places: Tensor, cell: Tensor) -> Tensor:
        r"""What the potentials of sources at weighted points weigh with the arms to them; see :meth:`Coulomb.arm_moments`.

        .. math:: \sum_R (r + R)_a f(r + R) = \frac{1}{V} \sum_{k \ne 0} i \frac{\partial f(k)}{\partial k_a} e^{i k \cdot r}

        Args:
            weights: Of the points, of shape (n_frames, n), in e.
            fractional: The points, in units of the lattice vectors, of shape (n_frames, n, 3).
            sources: Of n places in each frame.
            places: Of the sources, in units of the lattice vectors, of shape (n_frames, n, 3).
            cell: Of shape (n_frames, 3, 3), in Å.

        Returns:
            Of shape (n_frames, 3), in eV Å.
        """
        inverse = torch.linalg.inv(cell)
        kernel, vectors, squared = self._kernel(inverse)
        points = self._structure(Multipoles(weights), fractional)
        made = self._structure(sources.in_lattice(inverse), places).conj()
        # v' = -(sigma^2 + 2 / k^2) k v
        crossed = ((points * made).imag.to(kernel) * kernel * (self._smearing**2 + 2 / squared)).unsqueeze(-1) * vectors
        total = crossed.sum(dim=(1, 2, 3))
        for axis, slope in enumerate(sources.slopes()):
            turned = (points * self._structure(slope.in_lattice(inverse), places).conj()).real.to(kernel)
            total = total.index_add(1, total.new_tensor([axis]).long(), (kernel * turned).sum(dim=(1, 2, 3)).unsqueeze(1))
        moments: Tensor = total / torch.linalg.det(cell).abs().unsqueeze(1)
        return moments

    def _kernel(self, inverse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How much each wavevector counts, zero beyond the longest; the wavevectors; their squared lengths, never zero."""
        grid = torch.stack(torch.meshgrid(*self.whole, indexing="ij"), dim=-1)
        vectors = 2 * math.pi * torch.einsum("abcd,fed->fabce", grid, inverse)
        squared = vectors.square().sum(dim=-1)
        inside = (squared > 0) & (squared <= self._longest**2)
        squared = squared.where(inside, torch.ones_like(squared))
        kernel = kernels.of_wavevector(squared, self._smearing)
        return (kernel * self.counts).where(inside, torch.zeros_like(kernel)), vectors, squared
