"""Devices and data-parallel processes, through Lightning Fabric.

Every process holds all graphs and the same weights. Each takes its share of every batch, ``batch[rank::world_size]``.
Gradients are summed by hand after the backward pass: the model differentiates inside its forward pass, which the hooks
of DistributedDataParallel do not allow.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from bec_mace.errors import TrainingError

Item = TypeVar("Item")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
WAIT = timedelta(hours=2)
"""How long a process waits for the others: the first evaluates alone at the end of a run."""


def process_grid(num_processes: int) -> tuple[int, int]:
    """Processes per node and nodes, from torchrun's or SLURM's environment, else ``(num_processes, 1)``."""
    environment = os.environ
    if "LOCAL_WORLD_SIZE" in environment and "WORLD_SIZE" in environment:
        local = int(environment["LOCAL_WORLD_SIZE"])
        return local, int(environment["WORLD_SIZE"]) // local
    if "SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1:
        nodes = int(environment.get("SLURM_NNODES", "1"))
        return int(environment["SLURM_NTASKS"]) // nodes, nodes
    return num_processes, 1


def launch(device: str = "auto", precision: str = "float32", num_processes: int = 1) -> Fabric:
    """Start Fabric on a device, with as many processes as torchrun, SLURM or the configuration say.

    Args:
        device: ``"auto"`` (CUDA when there is one, else the CPU), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        precision: ``"float32"`` or ``"float64"``.
        num_processes: Processes to start when neither torchrun nor SLURM has started them.

    Raises:
        TrainingError: If the device is not there or not supported.
    """
    kind, _, index = device.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in ("cpu", "cuda"):
        raise TrainingError(f"device: training runs on cpu or cuda, not on {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise TrainingError(f"device: {device!r} asked for, but torch finds no CUDA device; use 'cpu' or 'auto'")
    per_node, nodes = process_grid(num_processes)
    if index and per_node * nodes > 1:
        raise TrainingError(f"device: {device!r} names one device, but {per_node * nodes} processes run; use {kind!r}")
    # Fabric announces its processes at level INFO with banners; our own log says how many there are.
    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=kind,
        devices=[int(index)] if index else per_node,
        num_nodes=nodes,
        strategy=DDPStrategy(timeout=WAIT) if per_node * nodes > 1 else "auto",
        precision="64-true" if precision == "float64" else "32-true",
    )
    fabric.launch()
    return fabric


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
