"""A head that a user has written: a scalar per atom and a symmetric tensor per frame, which the package does not know."""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.config.heads import HeadRow
from bec_mace.models.heads import Features, Head
from bec_mace.properties import Property, register

MOMENTS = register(Property("magnetic_moments", "atom", (), "mu_B", r"m", ("REF_magnetic_moments",)))
QUADRUPOLE = register(
    Property("quadrupole", "frame", (3, 3), "e Å^2", r"Q", ("REF_quadrupole",), error="per_atom", extensive=True)
)


class MomentsHead(Head):
    """Moments from the scalars; a quadrupole that is the sum of dyads of the vectors."""

    row = HeadRow(provides=frozenset({"magnetic_moments", "quadrupole"}))

    def __init__(self, features: Features, scale: float = 1.0) -> None:
        super().__init__()
        self.place, self.scale = features.components["1o"], scale
        self.scalar = torch.nn.Linear(features.n_channels, 1)
        self.left = torch.nn.Linear(features.n_channels, features.n_channels, bias=False)

    def shares(self, node_feats: Tensor, species: Tensor) -> dict[str, Tensor]:
        """What each atom has of both."""
        vectors = node_feats[:, self.place]
        dyads = torch.bmm(self.left(vectors), vectors.transpose(1, 2))
        return {
            "magnetic_moments": self.scale * self.scalar(node_feats[:, 0]).squeeze(1),
            "quadrupole": 0.5 * (dyads + dyads.transpose(1, 2)),
        }
