r"""Molecules: the sum over all pairs, :math:`E = \tfrac12 \sum_{i \ne j} q_i q_j v(r_{ij})`."""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.electrostatics import kernels
from bec_mace.electrostatics.pieces import in_pieces

_PAIRS = 4_000_000
"""Pairs that are in memory at once."""


def direct_energies(charges: Tensor, positions: Tensor, there: Tensor, smearing: float) -> Tensor:
    """Coulomb energies without periodicity, of shape (n_frames,), in eV.

    Args:
        charges: Of shape (n_frames, n), in e; zero where there is no atom.
        positions: Of shape (n_frames, n, 3), in Å.
        there: Which places hold an atom, of shape (n_frames, n).
        smearing: In Å.
    """
    n_frames, n = charges.shape

    def some(rows: Tensor) -> Tensor:
        difference = positions[:, rows].unsqueeze(2) - positions.unsqueeze(1)
        pair = there[:, rows].unsqueeze(2) & there.unsqueeze(1) & (rows.unsqueeze(1) != torch.arange(n, device=rows.device))
        squared = (difference * difference).sum(dim=3)
        # The gradient of what is not taken must be a number too.
        value = kernels.of_distance(torch.sqrt(squared.where(pair, torch.ones_like(squared))), smearing)
        potential = (value.where(pair, torch.zeros_like(value)) * charges.unsqueeze(1)).sum(dim=2)
        return 0.5 * (charges[:, rows] * potential).sum(dim=1)

    return in_pieces(some, n, _PAIRS // max(1, n_frames * n), positions)
