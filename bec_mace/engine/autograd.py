"""What autograd does and where: its state around an evaluation, functions with derivatives of their own, paths in a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def apply_function(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """The value of a function that brings its own derivative; torch's own ``apply`` has no types."""
    return function.apply(*arguments)


@contextmanager
def differentiating(enabled: bool, device: torch.device) -> Iterator[None]:
    """Derivatives on or off, and nothing rounded, whatever surrounds the call: inference mode, no_grad, autocast."""
    with (
        torch.inference_mode(False),
        torch.autocast(device.type, enabled=False),
        torch.set_grad_enabled(enabled),
    ):
        yield


def depends_on(value: Tensor, sources: Sequence[Tensor]) -> bool:
    """Whether the graph of a value leads to one of some other tensors."""
    ends = [source.grad_fn for source in sources if source.grad_fn is not None]
    pending, seen = [value.grad_fn], set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        if any(node is end for end in ends):
            return True
        seen.add(node)
        pending += [following for following, _ in node.next_functions]
    return False


def gradients(value: Tensor, inputs: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
    """Derivatives of a number; zero where it does not depend on an input. The graph is kept."""
    if not value.requires_grad:
        return [torch.zeros_like(one) for one in inputs]
    wanted = [one for one in inputs if one.requires_grad]
    found = iter(
        torch.autograd.grad(
            value, wanted, create_graph=create_graph, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    )
    return [next(found) if one.requires_grad else torch.zeros_like(one) for one in inputs]


def gradient_rows(values: Tensor, inputs: Sequence[Tensor], create_graph: bool, at_once: bool) -> list[Tensor]:
    """Derivatives of a few numbers, each of shape (n_values, ...).

    Args:
        values: Of shape (n_values,).
        inputs: What they are differentiated by.
        create_graph: Whether the result can be differentiated again.
        at_once: In one pass, which takes less time and more memory than one for each.
    """
    if not at_once or not values.requires_grad:
        rows = [gradients(value, inputs, create_graph) for value in values]
        return [torch.stack(row) for row in zip(*rows, strict=True)]
    ones = torch.eye(len(values), dtype=values.dtype, device=values.device)
    wanted = [one for one in inputs if one.requires_grad]
    found = iter(
        torch.autograd.grad(
            values, wanted, ones, create_graph=create_graph, retain_graph=True, allow_unused=True, is_grads_batched=True
        )
    )
    result = []
    for one in inputs:
        row = next(found) if one.requires_grad else None
        result.append(one.new_zeros((len(values), *one.shape)) if row is None else row)
    return result
