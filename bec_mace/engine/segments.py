"""Sums of rows that share an index, by torch-scatter on the GPU where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import Any

from torch import Tensor


@cache
def _torch_scatter() -> Any:
    """The optional module, imported at its first use; None where it is not installed."""
    return importlib.import_module("torch_scatter") if importlib.util.find_spec("torch_scatter") else None


def segment_sum(values: Tensor, index: Tensor, n: int) -> Tensor:
    """Sum rows of ``values`` with the same ``index``.

    Args:
        values: Of shape (n_rows, ...).
        index: Of shape (n_rows,), int64, in any order.
        n: Number of sums.

    Returns:
        Of shape (n, ...); zero where no row belongs.
    """
    if values.is_cuda and _torch_scatter() is not None:
        return scatter_segment_sum(values, index, n)
    return values.new_zeros((n, *values.shape[1:])).index_add(0, index, values)


def scatter_segment_sum(values: Tensor, index: Tensor, n: int) -> Tensor:
    """:func:`segment_sum` by torch-scatter, whatever the device."""
    out: Tensor = _torch_scatter().scatter_sum(values, index, dim=0, dim_size=n)
    return out
