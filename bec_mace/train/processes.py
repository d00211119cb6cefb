"""Devices and data-parallel processes, through Lightning Fabric.

Every process holds all graphs and the same weights. Each takes its share of every batch, ``batch[rank::world_size]``.
Gradients are summed by hand after the backward pass: the model differentiates inside its forward pass, which the hooks
of DistributedDataParallel do not allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from bec_mace.devices import launch as launch_processes
from bec_mace.errors import TrainingError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Item = TypeVar("Item")


def launch(device: str = "auto", precision: str = "float32", num_processes: int = 1) -> Fabric:
    """Start Fabric as :func:`bec_mace.devices.launch` does.

    Raises:
        TrainingError: If the device is not there or not supported.
    """
    return launch_processes(TrainingError, device, precision, num_processes)


def share(fabric: Fabric, items: Sequence[Item]) -> list[Item]:
    """This process's part of a batch; empty where there are fewer items than processes."""
    return list(items[fabric.global_rank :: fabric.world_size])


def sum_over_processes(fabric: Fabric, value: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    if fabric.world_size == 1:
        return value
    summed = fabric.all_reduce(value.clone(), reduce_op="sum")
    return torch.as_tensor(summed)


def sum_gradients(fabric: Fabric, parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its sum over all processes, in one message."""
    if fabric.world_size == 1:
        return
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    summed = sum_over_processes(fabric, torch.cat([g.reshape(-1) for g in gradients]))
    start = 0
    for parameter in parameters:
        part = summed[start : start + parameter.numel()]
        parameter.grad = part.view_as(parameter).clone()
        start += parameter.numel()


def copy_from_first(fabric: Fabric, model: nn.Module) -> None:
    """Give all processes the weights of the first, so that rounding in the set-up cannot set them apart."""
    if fabric.world_size == 1:
        return
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.copy_(fabric.broadcast(tensor.detach().clone(), src=0))
