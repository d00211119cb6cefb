"""Linear maps of the channels of atoms.

Features are tensors of shape (n, n_components, n_channels): channels last, all irreps with the same number of channels.
Every kernel is made of products and sums that PyTorch can differentiate any number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def mix_channels(values: Tensor, weight: Tensor) -> Tensor:
    """Multiply the channels of (n, n_components, n_in) by a matrix of shape (n_in, n_out)."""
    n, n_components, n_in = values.shape
    return (values.reshape(n * n_components, n_in) @ weight).view(n, n_components, weight.shape[1])


def mix_channels_by_element(values: Tensor, weights: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Multiply channels by a matrix per element; the atoms are sorted by element."""
    blocks = torch.split(values, list(counts))
    return torch.cat([mix_channels(block, w) for block, w in zip(blocks, weights, strict=True) if block.shape[0]])


def apply_linear(linear: Any, parts: Sequence[Tensor]) -> Tensor:
    """Evaluate an e3nn Linear on parts of shape (n, 2 l + 1, n_channels), one for each input irrep."""
    incoming: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for weight, instruction in zip(linear.weight_views(), linear.instructions, strict=True):
        incoming.setdefault(instruction.i_out, []).append((parts[instruction.i_in], weight * instruction.path_weight))
    out = []
    for index in range(len(linear.irreps_out)):
        pairs = incoming[index]
        stacked = torch.cat([part for part, _ in pairs], dim=2) if len(pairs) > 1 else pairs[0][0]
        out.append(mix_channels(stacked, torch.cat([weight for _, weight in pairs])))
    return torch.cat(out, dim=1)


def apply_by_element(product: Any, parts: Sequence[Tensor], mixing: Tensor | None, counts: Sequence[int]) -> Tensor:
    """Evaluate an e3nn tensor product with the elements: a linear map of the channels for each of them."""
    irreps_out = product.irreps_out
    out = [parts[0].new_zeros((parts[0].shape[0], ir.dim, mul)) for mul, ir in irreps_out]
    for weight, instruction in zip(product.weight_views(), product.instructions, strict=True):
        scale = instruction.path_weight / irreps_out[instruction.i_out].ir.dim ** 0.5
        weight = weight * scale
        by_element = weight.unbind(1) if mixing is None else torch.tensordot(mixing, weight, ([1], [1])).unbind(0)
        mixed = mix_channels_by_element(parts[instruction.i_in1], by_element, counts)
        out[instruction.i_out] = out[instruction.i_out] + mixed
    return torch.cat(out, dim=1)
