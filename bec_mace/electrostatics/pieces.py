"""Sums over atoms whose pieces are made again in the backward pass, so that memory holds one of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_pieces(some: Callable[[Tensor], Tensor], n: int, size: int, like: Tensor) -> Tensor:
    """The sum of ``some(places)`` over pieces of ``range(n)``.

    Args:
        some: A sum over the places it is given; differentiable.
        n: Number of places.
        size: Of a piece.
        like: A tensor on the device.
    """
    places = torch.arange(n, device=like.device)
    if n <= max(1, size):
        return some(places)
    pieces = iter(places.split(max(1, size)))
    total = _again(some, next(pieces))
    for piece in pieces:  # One by one: each may be as large as the sum.
        total = total + _again(some, piece)
    return total


def _again(some: Callable[[Tensor], Tensor], piece: Tensor) -> Tensor:
    """The sum over a piece, which keeps nothing for the backward pass but its inputs."""
    value: Tensor = checkpoint(some, piece, use_reentrant=False) if torch.is_grad_enabled() else some(piece)
    return value
