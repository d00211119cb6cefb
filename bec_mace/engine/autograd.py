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
