"""Constants of a model keep their digits: rounded with it to float32, they are exact again in float64."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor


class ExactConstants(torch.nn.Module):
    """A module whose buffers that are not learned are kept in float64 while it is in a lower precision.

    Otherwise a model that was loaded in float32 and moved to float64 had couplings that are rounded to float32, and was
    invariant under rotations to 1e-8 only.
    """

    def __init__(self) -> None:
        super().__init__()
        self._exact: dict[str, Tensor] = {}

    def _learned(self) -> Collection[str]:
        """Names of buffers that hold learned numbers; they follow the precision of the model."""
        return ()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        learned = self._learned()
        exact = {name: value for name, value in self.named_buffers() if name not in learned and value.dtype == torch.float64}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in self.named_buffers():
            if value.dtype == torch.float64 and name in self._exact:
                with torch.inference_mode(False), torch.no_grad():
                    value.copy_(self._exact.pop(name))
            elif value.is_floating_point() and name in exact and value.dtype != torch.float64:
                self._exact[name] = exact[name].cpu()
        return self
