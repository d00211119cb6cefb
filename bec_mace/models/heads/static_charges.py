"""The head of charges that act through Coulomb's law and give no polarization."""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.config.heads import HEADS
from bec_mace.engine.contract import Sources
from bec_mace.engine.environments import Environments
from bec_mace.models.heads.features import Features
from bec_mace.models.heads.head import Head, ScalarReadouts


class StaticChargesHead(Head):
    r"""A charge :math:`q_i = c_{z_i} + \sum_l f_l(h_i^l)` per atom, for the energy alone.

    Z* has nothing of them: other heads give it. They are made to sum to the total charge of each frame where they act.
    """

    row = HEADS["static_charges"]

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.readouts = ScalarReadouts(features.n_layers, features.n_channels, features.readout_mlp)
        self.references = torch.nn.Parameter(torch.tensor(features.reference_charges or (0.0,) * len(features.elements)))

    def read(self, layer: int, node_feats: Tensor, env: Environments) -> Sources:
        """Charges, in e."""
        charges = self.readouts(layer, node_feats)
        return Sources(charges=charges + self.references[env.species] if layer == 0 else charges)
