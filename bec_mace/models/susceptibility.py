"""How the atoms of a network yield to Coulomb's law: what is read of its features."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bec_mace.config.electrostatics import ResponseConfig
from bec_mace.engine.contract import Sources, StageOutput
from bec_mace.engine.environments import Environments
from bec_mace.models.heads.features import Features
from bec_mace.models.heads.head import mlp
from bec_mace.models.heads.second_order import TracelessTensors
from bec_mace.models.radial import RadialFeatures, with_derivative
from bec_mace.units import COULOMB_CONSTANT

_FIRST_POLARIZABILITY = 0.5 / COULOMB_CONSTANT
"""Of an atom in a fresh model: half a cubic Å, in e^2 Å^2/eV."""
_FIRST_CAPACITY = 0.003
"""Of an atom, in e^2/eV."""
_FIRST_CONDUCTANCE = 0.01
"""Scale of that of an edge, in e^2/eV."""
_KINDS_OF_EDGES = 8
"""Terms of the conductance of an edge."""
_ROUND = 0.1
"""The part of a polarizability that has no direction, so that none becomes singular."""


class Susceptibility(TracelessTensors):
    r"""Polarizabilities, positive definite, and capacities or conductances, which are never negative.

    .. math:: \alpha_i = e^{a_i} \left( 0.9 (1 + D_i)^2 + 0.1 \right), \qquad \kappa_i = e^{b_i}

    The scalars start from one number per element; the D_i are symmetric without trace, and zero for ``isotropic``.

    Args:
        config: Which of them there are.
        features: What is read.
    """

    def __init__(self, config: ResponseConfig, features: Features) -> None:
        super().__init__()
        self.config, self.last = config, features.n_layers - 1
        n_elements = len(features.elements)
        if config.dipoles != "none":
            self.size_references = torch.nn.Parameter(torch.full((n_elements,), math.log(_FIRST_POLARIZABILITY)))
            self.size = mlp(features.n_channels, features.readout_mlp, 1)
        if config.dipoles == "anisotropic":
            self.make_traceless(features, "response.dipoles: anisotropic")
        if config.charges == "atoms":
            self.capacity_references = torch.nn.Parameter(torch.full((n_elements,), math.log(_FIRST_CAPACITY)))
            self.capacity = mlp(features.n_channels, features.readout_mlp, 1)
        self.conductance = ConductanceStage(features) if config.charges == "edges" else None

    def read(self, layer: int, node_feats: Tensor, env: Environments) -> Sources:
        """Polarizabilities in e^2 Å^2/eV and capacities in e^2/eV, from the last layer."""
        if layer != self.last:
            return Sources()
        polarizabilities = capacities = None
        if self.config.dipoles != "none":
            size = torch.exp(self.size_references[env.species] + self.size(node_feats[:, 0]).squeeze(1)).view(-1, 1, 1)
            identity = torch.eye(3, dtype=size.dtype, device=size.device)
            polarizabilities = size * identity
            if self.config.dipoles == "anisotropic":
                root = identity + self.traceless(node_feats)
                polarizabilities = size * ((1 - _ROUND) * root @ root + _ROUND * identity)
        if self.config.charges == "atoms":
            capacities = torch.exp(self.capacity_references[env.species] + self.capacity(node_feats[:, 0]).squeeze(1))
        return Sources(polarizabilities=polarizabilities, capacities=capacities)


class ConductanceStage(torch.nn.Module):
    r"""The conductance of each edge, from scalars s of its ends and radial functions R that vanish smoothly at the cutoff.

    .. math:: \kappa_{ij} = \sum_c \operatorname{softplus}(f_c(s_i)) \operatorname{softplus}(f_c(s_j)) (W_c \cdot R(r_{ij}))^2
    """

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.ends = torch.nn.Linear(features.n_channels, _KINDS_OF_EDGES)
        self.radial = torch.nn.Linear(features.n_radial, _KINDS_OF_EDGES, bias=False)

    def prepare(self, node_feats: Tensor) -> Tensor:
        """Sender's part, of shape (1, n_atoms, n)."""
        return self._end(node_feats).unsqueeze(0)

    def _end(self, node_feats: Tensor) -> Tensor:
        return torch.nn.functional.softplus(self.ends(node_feats[:, 0]))

    def propagate(self, node_feats: Tensor, sender_feats: Tensor, edge_feats: RadialFeatures, env: Environments) -> StageOutput:
        """Half of the conductance of each edge, the other half is that of its reverse; in e^2/eV."""
        radial = self.radial(with_derivative(edge_feats.lengths, edge_feats.radial, edge_feats.radial_slopes))
        sender = sender_feats.view(env.n_atoms, env.n_slots, -1)
        kappa = (self._end(node_feats).unsqueeze(1) * sender * radial.view_as(sender).square()).sum(dim=2)
        return StageOutput(None, Sources(conductances=_FIRST_CONDUCTANCE * kappa.flatten()))
