"""The direct head: a 3x3 tensor per atom without a derivative, the baseline that other packages use."""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.config.heads import HEADS
from bec_mace.errors import ModelError
from bec_mace.models.heads.features import Features
from bec_mace.models.heads.head import Head, mlp


class DirectHead(Head):
    r"""Z* read from the features: :math:`Z_{ab} = s \delta_{ab} + \sum_k g_k u_{k,a} w_{k,b}`.

    s and the gates g are functions of the scalars, u and w are linear in the vectors. The outer products hold 0e, 1e and
    2e, so the antisymmetric part of Z* can be learned. Nothing makes this tensor the derivative of a polarization.
    """

    row = HEADS["direct"]

    def __init__(self, features: Features) -> None:
        super().__init__()
        if "1o" not in features.components:
            raise ModelError(
                "model.heads: the direct head needs 1o features; add them to model.hidden_irreps, or take a mace "
                "model that has them."
            )
        self.place = features.components["1o"]
        n = features.n_channels
        self.left = torch.nn.Linear(n, n, bias=False)
        self.right = torch.nn.Linear(n, n, bias=False)
        self.scalar = mlp(n, features.readout_mlp, 1)
        self.gate = mlp(n, features.readout_mlp, n)

    def tensors(self, node_feats: Tensor) -> Tensor:
        """Z*, of shape (n_atoms, 3, 3), in e."""
        scalars, vectors = node_feats[:, 0], node_feats[:, self.place]
        gates = self.gate(scalars).unsqueeze(1) / vectors.shape[2] ** 0.5
        outer = torch.bmm(self.left(vectors) * gates, self.right(vectors).transpose(1, 2))
        result: Tensor = outer + self.scalar(scalars).unsqueeze(2) * torch.eye(3, dtype=outer.dtype, device=outer.device)
        return result
