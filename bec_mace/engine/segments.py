"""Sums of rows that share an index; on a GPU by torch-scatter where it is installed, and then the same in every run."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor


@cache
def _torch_scatter() -> Any:
    """The optional module, imported at its first use; None where it is not installed."""
    return importlib.import_module("torch_scatter") if importlib.util.find_spec("torch_scatter") else None


@dataclass(frozen=True)
class Groups:
    """Rows in the order of their index.

    Attributes:
        order: The row at each place, of shape (n_rows,); None where the rows are in order.
        ends: Where each group begins, and behind the last, where it ends, of shape (n + 1,).
    """

    order: Tensor | None
    ends: Tensor

    @classmethod
    def of(cls, index: Tensor, n: int, ascending: bool = False) -> Groups:
        """The groups of an index of ``n`` values; ``ascending`` promises that it is in order."""
        ends = torch.cat([index.new_zeros(1), torch.bincount(index, minlength=n).cumsum(0)])
        return cls(None if ascending else torch.argsort(index, stable=True), ends)


def segment_sum(values: Tensor, index: Tensor, n: int, groups: Callable[[], Groups] | None = None) -> Tensor:
    """Sum rows of ``values`` with the same ``index``.

    Args:
        values: Of shape (n_rows, ...).
        index: Of shape (n_rows,), int64, in any order.
        n: Number of sums.
        groups: Gives the groups of the index, where they are known or will be needed often.

    Returns:
        Of shape (n, ...); zero where no row belongs.
    """
    # Its derivative cannot be differentiated again, so it has no place in training.
    differentiated = torch.is_grad_enabled() and values.requires_grad
    if values.is_cuda and not differentiated and _torch_scatter() is not None:
        return grouped_segment_sum(values, Groups.of(index, n) if groups is None else groups())
    return values.new_zeros((n, *values.shape[1:])).index_add(0, index, values)


def grouped_segment_sum(values: Tensor, groups: Groups) -> Tensor:
    """:func:`segment_sum` by torch-scatter, whatever the device; every sum in the order of the rows."""
    rows = values if groups.order is None else values.index_select(0, groups.order)
    out: Tensor = _torch_scatter().segment_csr(rows, groups.ends, reduce="sum")
    return out
