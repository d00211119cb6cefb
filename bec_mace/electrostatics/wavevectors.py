r"""Sums over reciprocal lattice vectors, of all cells of a batch at once.

.. math:: E = \frac{1}{2 V} \sum_{0 < k < k_{max}} v(k) |S(k)|^2, \qquad S(k) = \sum_i q_i e^{i k \cdot r_i}
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from bec_mace.electrostatics import kernels


class WavevectorSum(ABC):
    """The sum for some cells; how S(k) is made is left to subclasses.

    Args:
        cell: Lattice vectors as rows, of shape (n_frames, 3, 3), in Å.
        smearing: In Å.
        tolerance: Where the kernel is cut off.

    Attributes:
        whole: Coefficients of the wavevectors in the reciprocal lattice along each direction, whole numbers.
        counts: How often each wavevector counts, of shape (n_1, n_2, n_3): twice where -k is not among them.
    """

    whole: list[Tensor]
    counts: Tensor

    def __init__(self, cell: Tensor, smearing: float, tolerance: float) -> None:
        self._smearing = smearing
        self._longest = kernels.longest_wavevector(smearing, tolerance)
        lengths = torch.linalg.vector_norm(cell, dim=2).max(dim=0).values
        self._choose(lengths.tolist(), self._longest, cell)

    @abstractmethod
    def _choose(self, lengths: list[float], longest: float, like: Tensor) -> None:
        """Fill ``whole`` and ``counts`` with all wavevectors up to the longest in a cell of these lengths."""

    @abstractmethod
    def _power(self, charges: Tensor, fractional: Tensor) -> Tensor:
        """S(k) squared, of shape (n_frames, n_1, n_2, n_3), in e^2."""

    def energies(self, charges: Tensor, fractional: Tensor, cell: Tensor) -> Tensor:
        """Of shape (n_frames,), in eV, the energy of each charge with itself included.

        Args:
            charges: Of shape (n_frames, n), in e; zero where there is no atom.
            fractional: Positions in units of the lattice vectors, of shape (n_frames, n, 3).
            cell: That of the construction, or one that can be differentiated, of shape (n_frames, 3, 3), in Å.
        """
        grid = torch.stack(torch.meshgrid(*self.whole, indexing="ij"), dim=-1)
        vectors = 2 * math.pi * torch.einsum("abcd,fed->fabce", grid, torch.linalg.inv(cell))
        squared = vectors.square().sum(dim=-1)
        inside = (squared > 0) & (squared <= self._longest**2)
        kernel = kernels.of_wavevector(squared.where(inside, torch.ones_like(squared)), self._smearing)
        weights = (kernel * self.counts).where(inside, torch.zeros_like(kernel))
        total = (weights * self._power(charges, fractional)).sum(dim=(1, 2, 3))
        energies: Tensor = 0.5 * total / torch.linalg.det(cell).abs()
        return energies
