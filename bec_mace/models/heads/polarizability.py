"""The polarizability head: how the electrons of each atom yield to a field, and with it the dielectric tensor."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bec_mace.config.heads import HEADS
from bec_mace.errors import ModelError
from bec_mace.models.heads.features import Features
from bec_mace.models.heads.head import Head, mlp

_FIRST_POLARIZABILITY = 5.0
"""Of an atom in a fresh model, in Å^3."""

_H = 3**0.5 / 2
_SECOND_ORDER = (
    # The quadratic forms that are the real spherical harmonics of l = 2, in the order and sense of e3nn.
    ((0.0, 0.0, _H), (0.0, 0.0, 0.0), (_H, 0.0, 0.0)),
    ((0.0, _H, 0.0), (_H, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ((-0.5, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -0.5)),
    ((0.0, 0.0, 0.0), (0.0, 0.0, _H), (0.0, _H, 0.0)),
    ((-_H, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, _H)),
)


class PolarizabilityHead(Head):
    r"""Polarizability of the electrons at clamped nuclei, a sum over atoms.

    .. math:: \alpha = \sum_i e^{a_i} (1 + D_i), \qquad \varepsilon_\infty = 1 + \frac{4 \pi}{V} \alpha

    The scalars a_i start from one number per element; the D_i are symmetric without trace, made of the vectors and, where
    there are any, the 2e features. The polarizability of a periodic cell is defined by the second equation: it is the answer
    to the field inside, local fields included.
    """

    row = HEADS["polarizability"]

    def __init__(self, features: Features) -> None:
        super().__init__()
        if "1o" not in features.components:
            raise ModelError(
                "model.heads: the polarizability head needs 1o features; add them to model.hidden_irreps, or take "
                "a mace model that has them."
            )
        self.vectors, self.second = features.components["1o"], features.components.get("2e")
        n = features.n_channels
        self.references = torch.nn.Parameter(torch.full((len(features.elements),), math.log(_FIRST_POLARIZABILITY)))
        self.scalar = mlp(n, features.readout_mlp, 1)
        self.gates = mlp(n, features.readout_mlp, 2 * n)
        self.left = torch.nn.Linear(n, n, bias=False)
        self.right = torch.nn.Linear(n, n, bias=False)
        self.register_buffer("basis", torch.tensor(_SECOND_ORDER), persistent=False)

    def polarizabilities(self, node_feats: Tensor, species: Tensor) -> Tensor:
        """Shares of the atoms, of shape (n_atoms, 3, 3), in Å^3; only their sum has a meaning."""
        scalars, vectors = node_feats[:, 0], node_feats[:, self.vectors]
        size = torch.exp(self.references[species] + self.scalar(scalars).squeeze(1))
        vector_gates, second_gates = (self.gates(scalars) / vectors.shape[2] ** 0.5).unsqueeze(1).chunk(2, dim=2)
        outer = torch.bmm(self.left(vectors) * vector_gates, self.right(vectors).transpose(1, 2))
        shape = 0.5 * (outer + outer.transpose(1, 2))
        identity = torch.eye(3, dtype=shape.dtype, device=shape.device)
        shape = shape - shape.diagonal(dim1=1, dim2=2).mean(dim=1).view(-1, 1, 1) * identity
        if self.second is not None:
            components = (node_feats[:, self.second] * second_gates).sum(dim=2)
            shape = shape + torch.einsum("im,mab->iab", components, self.get_buffer("basis"))
        return size.view(-1, 1, 1) * (identity + shape)
