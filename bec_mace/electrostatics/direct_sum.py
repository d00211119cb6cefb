r"""Molecules: the sum over all pairs.

.. math:: E = \tfrac12 \sum_{i \ne j} L_i L_j v(r_{ij}), \quad L_i = q_i + u_i \cdot \nabla_i + \tfrac12 Q_i : \nabla_i \nabla_i
"""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.electrostatics import kernels
from bec_mace.electrostatics.multipoles import Multipoles
from bec_mace.electrostatics.pieces import in_pieces

_PAIRS = 4_000_000
"""Pairs that are in memory at once."""


def direct_energies(sources: Multipoles, positions: Tensor, there: Tensor, smearing: float) -> Tensor:
    """Coulomb energies without periodicity, of shape (n_frames,), in eV.

    Args:
        sources: Of n places in each frame; zero where there is no atom.
        positions: Of shape (n_frames, n, 3), in Å.
        there: Which places hold an atom, of shape (n_frames, n).
        smearing: In Å.
    """
    n_frames, n = sources.charges.shape

    def some(rows: Tensor) -> Tensor:
        difference = positions[:, rows].unsqueeze(2) - positions.unsqueeze(1)
        pair = there[:, rows].unsqueeze(2) & there.unsqueeze(1) & (rows.unsqueeze(1) != torch.arange(n, device=rows.device))
        squared = (difference * difference).sum(dim=3)
        # The gradient of what is not taken must be a number too.
        factors = kernels.derivatives_of_distance(squared.where(pair, torch.ones_like(squared)), smearing, 2 * sources.order)
        energies = _pairs(sources.at(rows), sources, difference, factors)
        return 0.5 * energies.where(pair, torch.zeros_like(energies)).sum(dim=(1, 2))

    return in_pieces(some, n, _PAIRS // max(1, n_frames * n), positions)


def direct_arm_moments(
    weights: Tensor, sources: Multipoles, positions: Tensor, places: Tensor, there: Tensor, smearing: float
) -> Tensor:
    """What the potentials of sources at weighted points weigh with the arms to them, of shape (n_frames, 3), in eV Å.

    Args:
        weights: Of the points, of shape (n_frames, n), in e.
        sources: Of n places in each frame; zero where there is no atom.
        positions: Of the points, of shape (n_frames, n, 3), in Å.
        places: Of the sources, of shape (n_frames, n, 3), in Å; no source is seen from its own point.
        there: Which places hold an atom, of shape (n_frames, n).
        smearing: In Å.
    """
    n = weights.shape[1]
    arms = positions.unsqueeze(2) - places.unsqueeze(1)
    pair = there.unsqueeze(2) & there.unsqueeze(1) & ~torch.eye(n, dtype=torch.bool, device=there.device)
    squared = (arms * arms).sum(dim=3)
    factors = kernels.derivatives_of_distance(squared.where(pair, torch.ones_like(squared)), smearing, 2 * sources.order)
    points = sources.map(torch.zeros_like)
    potentials = _pairs(Multipoles(torch.ones_like(weights), points.dipoles, points.quadrupoles), sources, arms, factors)
    weighted = weights.unsqueeze(2) * potentials.where(pair, torch.zeros_like(potentials))
    return (weighted.unsqueeze(3) * arms).sum(dim=(1, 2))


def _pairs(first: Multipoles, second: Multipoles, difference: Tensor, factors: list[Tensor]) -> Tensor:
    """Energies of pairs, of shape (n_frames, n_first, n_second), in eV; ``difference`` is first minus second."""
    one, two = first.charges.unsqueeze(2), second.charges.unsqueeze(1)
    energies = factors[0] * one * two
    if first.dipoles is None or second.dipoles is None:
        energies_of_dipoles = None
    else:
        u, w = (first.dipoles.unsqueeze(2) * difference).sum(dim=3), (second.dipoles.unsqueeze(1) * difference).sum(dim=3)
        energies_of_dipoles = factors[1] * (one * w - two * u + first.dipoles @ second.dipoles.transpose(1, 2))
        energies_of_dipoles = energies_of_dipoles - factors[2] * u * w
        energies = energies + energies_of_dipoles
    if first.quadrupoles is None or second.quadrupoles is None:
        return energies
    along = torch.einsum("fiab,fijb->fija", first.quadrupoles, difference)
    against = torch.einsum("fjab,fijb->fija", second.quadrupoles, difference)
    q, p = (along * difference).sum(dim=3), (against * difference).sum(dim=3)
    energies = energies + 0.5 * factors[2] * (two * q + one * p)
    energies = energies + 0.25 * (factors[4] * q * p - 4 * factors[3] * (along * against).sum(dim=3))
    energies = energies + 0.5 * factors[2] * torch.einsum("fiab,fjab->fij", first.quadrupoles, second.quadrupoles)
    if energies_of_dipoles is not None and first.dipoles is not None and second.dipoles is not None:
        energies = energies + 0.5 * factors[3] * (w * q - u * p)
        energies = energies + factors[2] * (first.dipoles.unsqueeze(2) * against).sum(dim=3)
        energies = energies - factors[2] * (second.dipoles.unsqueeze(1) * along).sum(dim=3)
    return energies
