"""The quadrupole head: a second moment per atom that acts through Coulomb's law."""

from __future__ import annotations

from torch import Tensor

from bec_mace.config.heads import HEADS
from bec_mace.engine.contract import Sources
from bec_mace.engine.environments import Environments
from bec_mace.models.heads.features import Features
from bec_mace.models.heads.head import Head
from bec_mace.models.heads.second_order import TracelessTensors


class QuadrupoleHead(TracelessTensors, Head):
    """A symmetric quadrupole without trace per atom, in e Å^2, from the last layer's features.

    It is part of the energy alone: a uniform polarization has nothing of it.
    """

    row = HEADS["quadrupole"]

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.last = features.n_layers - 1
        self.make_traceless(features, "the quadrupole head")

    def read(self, layer: int, node_feats: Tensor, env: Environments) -> Sources:
        """Quadrupoles, in e Å^2."""
        return Sources(static_quadrupoles=self.traceless(node_feats)) if layer == self.last else Sources()
