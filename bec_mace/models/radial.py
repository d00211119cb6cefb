r"""Radial weights together with their derivative, so that differentiating by the distance costs one product.

A radial network maps a distance to hundreds of weights. Pulled back channel by channel through its layers, its derivative
would be computed once for each component of the polarization; here R(r) and dR/dr are computed side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bec_mace.engine.autograd import apply_function
from bec_mace.engine.contract import EdgeFeatures

_BLOCK_EDGES = 512  # On the CPU: their hidden units stay in the cache.


@dataclass(frozen=True)
class RadialFeatures(EdgeFeatures):
    """Functions of the edge vectors that all layers share.

    Attributes:
        vectors: Of shape (n_edges, 3), in Å.
        harmonics: Spherical harmonics, of shape (n_edges, n_harmonics).
        lengths: Of shape (n_edges, 1), in Å.
        radial: Radial functions, of shape (n_edges, num_radial), a constant to autograd.
        radial_slopes: Their derivatives by the length.
    """

    harmonics: Tensor
    lengths: Tensor
    radial: Tensor
    radial_slopes: Tensor


def with_derivative(lengths: Tensor, values: Tensor, slopes: Tensor) -> Tensor:
    """Declare ``slopes`` the derivative of ``values`` by ``lengths``.

    Args:
        lengths: Of shape (n, 1).
        values: Of shape (n, n_functions), not connected to ``lengths``.
        slopes: Of the shape of ``values``; may depend on parameters, and is a constant in ``lengths``: second derivatives by
            the distance are not represented.
    """
    out: Tensor = apply_function(_WithDerivative, lengths, values, slopes)
    return out


class _WithDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, lengths: Tensor, values: Tensor, slopes: Tensor) -> Tensor:
        ctx.save_for_backward(slopes)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (slopes,) = ctx.saved_tensors
        by_length = None
        if ctx.needs_input_grad[0]:
            by_length = (cotangent * slopes).sum(dim=-1, keepdim=True)
        return by_length, cotangent if ctx.needs_input_grad[1] else None, None


def silu_with_derivative(values: Tensor, slopes: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Scaled SiLU of ``values`` and the derivative that follows from ``slopes``."""
    gate = torch.sigmoid(values)
    out = values * gate
    slope = (gate + out * (1 - gate)) * slopes
    return out * scale, slope * scale


def density_with_derivative(edges: RadialFeatures, weight: Tensor) -> tuple[Tensor, Tensor]:
    """What each edge adds to the density of its receiver, tanh((R w)^2), and its derivative by the length.

    Args:
        edges: Of which the radial functions R are taken.
        weight: w, of shape (num_radial, 1).

    Returns:
        Both of shape (n_edges,).
    """
    values, slopes = (edges.radial @ weight).squeeze(1), (edges.radial_slopes @ weight).squeeze(1)
    density = torch.tanh(values**2)
    return density, (1 - density**2) * 2 * values * slopes


def constant_network(
    values: Tensor, slopes: Tensor, hidden: Sequence[Tensor], scales: Sequence[float], last: Tensor
) -> tuple[Tensor, Tensor]:
    """A radial network without gradients, and its derivative, block by block of edges.

    Args:
        values: Of shape (n, n_functions).
        slopes: Their derivatives.
        hidden: Weights of the hidden layers, of shape (n_in, n_out).
        scales: Of the SiLU of each.
        last: Weights of the last layer, of shape (n_paths, n_in, n_channels).

    Returns:
        Both of shape (n_paths, n, n_channels).
    """
    n, n_paths = values.shape[0], last.shape[0]
    out = values.new_empty((2, n_paths, n, last.shape[2]))
    step = _BLOCK_EDGES if values.device.type == "cpu" else max(1, n)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        value, slope = values[rows], slopes[rows]
        for weight, scale in zip(hidden, scales, strict=True):
            value, slope = silu_with_derivative(value @ weight, slope @ weight, scale)
        for target, source in zip(out, (value, slope), strict=True):
            torch.bmm(source.expand(n_paths, -1, -1), last, out=target[:, rows])
    return out[0], out[1]
