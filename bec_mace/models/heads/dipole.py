"""The dipole head: an equivariant dipole per atom."""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.config.heads import HEADS
from bec_mace.engine.contract import Sources
from bec_mace.engine.environments import Environments
from bec_mace.errors import ModelError
from bec_mace.models.heads.features import Features
from bec_mace.models.heads.head import Head, mlp


class DipoleHead(Head):
    r"""A dipole :math:`\mu_i = \sum_c (w_c + g_c(s_i)) v_{i,c}` from vectors v and scalars s; P is :math:`\sum_i \mu_i`."""

    row = HEADS["dipole"]

    def __init__(self, features: Features) -> None:
        super().__init__()
        if "1o" not in features.components:
            raise ModelError(
                "model.heads: the dipole head needs 1o features; add them to model.hidden_irreps, or take a mace "
                "model that has them."
            )
        self.place = features.components["1o"]
        self.linear = torch.nn.ModuleList(torch.nn.Linear(features.n_channels, 1, bias=False) for _ in range(features.n_layers))
        self.gate = mlp(features.n_channels, features.readout_mlp, features.n_channels)

    def read(self, layer: int, node_feats: Tensor, env: Environments) -> Sources:
        """Dipoles, in e Å."""
        vectors = node_feats[:, self.place]
        dipoles = self.linear[layer](vectors).squeeze(-1)
        if layer == len(self.linear) - 1:
            gates = self.gate(node_feats[:, 0]) / vectors.shape[2] ** 0.5
            dipoles = dipoles + torch.bmm(vectors, gates.unsqueeze(2)).squeeze(-1)
        return Sources(dipoles=dipoles)
