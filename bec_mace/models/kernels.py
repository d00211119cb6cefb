"""Linear maps of the channels of atoms.

Features are tensors of shape (n, n_components, n_channels): channels last, all irreps with the same number of channels.
Every kernel is made of products and sums that PyTorch can differentiate any number of times.
"""

from __future__ import annotations

from collections.abc import Sequence

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
