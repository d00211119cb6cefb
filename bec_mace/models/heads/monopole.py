"""The monopole head: a charge per atom."""

from __future__ import annotations

from torch import Tensor

from bec_mace.config.heads import HEADS
from bec_mace.engine.contract import Sources
from bec_mace.engine.environments import Environments
from bec_mace.models.heads.features import Features
from bec_mace.models.heads.head import Head, ScalarReadouts


class MonopoleHead(Head):
    r"""A charge q_i per atom; its polarization is :math:`\sum_i q_i r_i`."""

    row = HEADS["monopole"]

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.readouts = ScalarReadouts(features.n_layers, features.n_channels, features.readout_mlp)

    def read(self, layer: int, node_feats: Tensor, env: Environments) -> Sources:
        """Charges, in e."""
        return Sources(charges=self.readouts(layer, node_feats))
