"""The energy head: a short-range energy per atom."""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.models.environments import Environments
from bec_mace.models.heads.base import Head, ScalarReadouts
from bec_mace.models.heads.features import Features
from bec_mace.models.response import Sources


class EnergyHead(Head):
    r"""Energy :math:`E = \sum_i E_{z_i} + s \sum_i \epsilon_i` with reference energies per element, in eV.

    The reference energies stay Python numbers: total energies are too large for float32.
    """

    provides = frozenset({"energy", "forces", "stress"})

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.readouts = ScalarReadouts(features.n_layers, features.n_channels, features.readout_mlp)
        self.scale = features.energy_scale
        self.reference_energies = features.reference_energies

    def read(self, layer: int, node_feats: Tensor, env: Environments) -> Sources:
        """Energies without the references, in eV."""
        return Sources(energies=self.readouts(layer, node_feats) * self.scale)

    def references(self, species: Tensor) -> Tensor:
        """Reference energy of each atom, of shape (n_atoms,), float64, in eV."""
        return torch.tensor(self.reference_energies, dtype=torch.float64, device=species.device)[species]
