"""Symmetric tensors without trace, read from features."""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.errors import ModelError
from bec_mace.models.heads.features import Features
from bec_mace.models.heads.head import mlp

_H = 3**0.5 / 2
_SECOND_ORDER = (
    # The quadratic forms that are the real spherical harmonics of l = 2, in the order and sense of e3nn.
    ((0.0, 0.0, _H), (0.0, 0.0, 0.0), (_H, 0.0, 0.0)),
    ((0.0, _H, 0.0), (_H, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ((-0.5, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -0.5)),
    ((0.0, 0.0, 0.0), (0.0, 0.0, _H), (0.0, _H, 0.0)),
    ((-_H, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, _H)),
)


class TracelessTensors(torch.nn.Module):
    r"""A symmetric tensor without trace per atom, from dyads of the vectors v and, where there are any, the 2e features t.

    .. math:: D_{ab} = \sum_{c d} g_c(s) \, \tfrac12 (L_{cd} v_{d,a} R_{ce} v_{e,b} + a \leftrightarrow b) - \text{trace}
                       + \sum_{c m} h_c(s) \, t_{c,m} Y^m_{ab}

    Args:
        features: What is read; vectors have to be there.
        reader: Who reads it, for messages.
    """

    def make_traceless(self, features: Features, reader: str) -> None:
        """Add the weights."""
        if "1o" not in features.components:
            raise ModelError(
                f"model.heads: {reader} needs 1o features; add them to model.hidden_irreps, or take a mace model that has them."
            )
        self.vectors, self.second = features.components["1o"], features.components.get("2e")
        n = features.n_channels
        self.gates = mlp(n, features.readout_mlp, 2 * n)
        self.left = torch.nn.Linear(n, n, bias=False)
        self.right = torch.nn.Linear(n, n, bias=False)
        self.register_buffer("basis", torch.tensor(_SECOND_ORDER), persistent=False)

    def traceless(self, node_feats: Tensor) -> Tensor:
        """Of shape (n_atoms, 3, 3)."""
        scalars, vectors = node_feats[:, 0], node_feats[:, self.vectors]
        vector_gates, second_gates = (self.gates(scalars) / vectors.shape[2] ** 0.5).unsqueeze(1).chunk(2, dim=2)
        outer = torch.bmm(self.left(vectors) * vector_gates, self.right(vectors).transpose(1, 2))
        shape = 0.5 * (outer + outer.transpose(1, 2))
        identity = torch.eye(3, dtype=shape.dtype, device=shape.device)
        shape = shape - shape.diagonal(dim1=1, dim2=2).mean(dim=1).view(-1, 1, 1) * identity
        if self.second is not None:
            components = (node_feats[:, self.second] * second_gates).sum(dim=2)
            shape = shape + torch.einsum("im,mab->iab", components, self.get_buffer("basis"))
        return shape
