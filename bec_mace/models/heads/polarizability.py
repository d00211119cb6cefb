"""The polarizability head: how the electrons of each atom yield to a field, and with it the dielectric tensor."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bec_mace.config.heads import HEADS
from bec_mace.engine.contract import Sources
from bec_mace.engine.environments import Environments
from bec_mace.models.heads.features import Features
from bec_mace.models.heads.head import Head, mlp
from bec_mace.models.heads.second_order import TracelessTensors

_FIRST_POLARIZABILITY = 5.0
"""Of an atom in a fresh model, in Å^3."""


_LARGEST_EXPONENT = 6.0


def bounded_exponential(exponent: Tensor) -> Tensor:
    """e^x, and from x = 6 on its Taylor series to second order: twice differentiable, and never beyond the largest number."""
    beyond = (exponent - _LARGEST_EXPONENT).clamp(min=0)
    return torch.exp(exponent.clamp(max=_LARGEST_EXPONENT)) * (1 + beyond + 0.5 * beyond.square())


class PolarizabilityHead(TracelessTensors, Head):
    r"""Polarizability of the electrons at clamped nuclei, a sum over atoms.

    .. math:: \alpha = \sum_i c_{Z_i} f(a_i) (1 + D_i), \qquad \varepsilon_\infty = 1 + \frac{4 \pi}{V} \alpha

    c is one number per element and f(a) = e^a; from a = 6 on, which no atom comes to, f goes on as the parabola of the same
    value, slope and curvature, so that a network that is not trained yet makes no huge numbers. The D_i are symmetric without
    trace, made of the vectors and, where there are any, the 2e features. The polarizability of a periodic cell is defined by
    the second equation: it is the answer to the field inside, local fields included.
    """

    row = HEADS["polarizability"]

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.references = torch.nn.Parameter(torch.full((len(features.elements),), math.log(_FIRST_POLARIZABILITY)))
        self.scalar = mlp(features.n_channels, features.readout_mlp, 1)
        self.make_traceless(features, "the polarizability head")
        self.last = features.n_layers - 1

    def read(self, layer: int, node_feats: Tensor, env: Environments) -> Sources:
        """Shares of the atoms, in Å^3, from the last layer's features."""
        return (
            Sources(polarizability_shares=self.polarizabilities(node_feats, env.species)) if layer == self.last else Sources()
        )

    def polarizabilities(self, node_feats: Tensor, species: Tensor) -> Tensor:
        """Shares of the atoms, of shape (n_atoms, 3, 3), in Å^3; only their sum has a meaning."""
        size = torch.exp(self.references[species]) * bounded_exponential(self.scalar(node_feats[:, 0]).squeeze(1))
        identity = torch.eye(3, dtype=size.dtype, device=size.device)
        return size.view(-1, 1, 1) * (identity + self.traceless(node_feats))
