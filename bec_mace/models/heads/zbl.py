"""The repulsion of nuclei at short distances, as mace models have it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import covalent_radii
from torch import Tensor

from bec_mace.engine.environments import Environments

_SCREENING = ((0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4028), (0.02817, 0.2016))
_BOHR, _COULOMB = 0.529, 14.3996  # Å and eV Å, with the digits that mace gives them.


class ZblRepulsion(torch.nn.Module):
    r"""Screened Coulomb energy of pairs whose covalent spheres overlap.

    .. math:: E = \sum_{i<j} \frac{k Z_i Z_j}{r_{ij}} \phi(r_{ij} / a_{ij}) f(r_{ij}), \qquad
              a_{ij} = \frac{0.529\,b}{Z_i^s + Z_j^s}

    f goes from 1 to 0 where r is the sum of the covalent radii.

    Source: Ziegler, Biersack and Littmark, The Stopping and Range of Ions in Matter (1985); constants of mace.

    Args:
        elements: Atomic numbers that the model knows.
        power: Of the polynomial f.
        exponent: s.
        prefactor: b.
        r_max: Cutoff radius of the model, in Å.
    """

    numbers: Tensor
    radii: Tensor

    def __init__(self, elements: Sequence[int], power: int, exponent: float, prefactor: float, r_max: float) -> None:
        super().__init__()
        self.register_buffer("numbers", torch.tensor(elements, dtype=torch.float64), persistent=False)
        radii = torch.tensor([float(covalent_radii[z]) for z in elements], dtype=torch.float64)
        self.register_buffer("radii", radii, persistent=False)
        self.power, self.exponent, self.prefactor, self.r_max = power, exponent, prefactor, r_max

    def forward(self, lengths: Tensor, env: Environments) -> Tensor:
        """Energies of shape (n_atoms,), in eV, half of each pair's for either atom, from lengths of shape (n_edges, 1)."""
        own, other = env.species.repeat_interleave(env.n_slots), env.all_species[env.sender]
        z_own, z_other = self.numbers[own], self.numbers[other]
        r, p = lengths.squeeze(1), self.power
        x = r * (z_own**self.exponent + z_other**self.exponent) / (self.prefactor * _BOHR)
        phi = sum(share * torch.exp(-rate * x) for share, rate in _SCREENING)
        reach = self.radii[own] + self.radii[other]
        y = (r / reach).clamp(max=1)
        envelope = 1 - (p + 1) * (p + 2) / 2 * y**p + p * (p + 2) * y ** (p + 1) - p * (p + 1) / 2 * y ** (p + 2)
        energies = _COULOMB * z_own * z_other / r * phi * envelope
        return env.sum_over_slots(0.5 * torch.where(r < reach.clamp(max=self.r_max), energies, 0.0))
