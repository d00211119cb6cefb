"""Device, precision and processes, each resolved here alone.

Processes are started by torchrun, by SLURM, or by Lightning Fabric itself.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch

from bec_mace.errors import BecMaceError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

DTYPES = {"float32": torch.float32, "float64": torch.float64}
"""Precisions by the name that they have in configurations and on the command line."""
WAIT = timedelta(hours=2)
"""How long a process waits for the others: the first works alone at the end of a run."""


def find_dtype(dtype: str | torch.dtype, kind_of_error: type[BecMaceError]) -> torch.dtype:
    """The precision that a name or one of torch's types means.

    Raises:
        BecMaceError: Of this kind: it is another.
    """
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found is None or found not in DTYPES.values():
        raise kind_of_error(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    return found


def find_device(name: str | torch.device, kind_of_error: type[BecMaceError], option: str = "device") -> str:
    """The device that a name means; ``auto`` is a GPU where there is one.

    Args:
        name: ``"auto"``, or any name of torch, such as ``"cpu"``, ``"cuda:1"`` or ``"mps"``.
        kind_of_error: What to raise.
        option: Where the name stands, for the message.

    Raises:
        BecMaceError: Of this kind: torch cannot use it.
    """
    if isinstance(name, torch.device):
        name = str(name)
    if not isinstance(name, str) or not name:
        raise kind_of_error(f"{option} must be a name such as 'cpu', 'cuda:1' or 'auto', got {name!r}")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise kind_of_error(f"{option} {name}: torch cannot use it ({reason}); use cpu or auto") from None
    return name


_BUILDING = threading.RLock()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Give tensors that name none this precision.

    torch keeps it for the whole process. Of several threads that build models one goes on at a time, so that each finds and
    leaves it as it was.
    """
    with _BUILDING:
        previous = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(previous)


def process_grid(num_processes: int = 1) -> tuple[int, int]:
    """Processes per node and nodes, from torchrun's or SLURM's environment, else ``(num_processes, 1)``."""
    environment = os.environ
    if "LOCAL_WORLD_SIZE" in environment and "WORLD_SIZE" in environment:
        local = int(environment["LOCAL_WORLD_SIZE"])
        return local, int(environment["WORLD_SIZE"]) // local
    if "SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1:
        nodes = int(environment.get("SLURM_NNODES", "1"))
        return int(environment["SLURM_NTASKS"]) // nodes, nodes
    return num_processes, 1


def launch(
    kind_of_error: type[BecMaceError], device: str = "auto", precision: str = "float32", num_processes: int = 1
) -> Fabric:
    """Start Fabric on a device, with as many processes as torchrun, SLURM or the caller say.

    Args:
        kind_of_error: What to raise.
        device: ``"auto"`` (CUDA when there is one, else the CPU), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        precision: ``"float32"`` or ``"float64"``.
        num_processes: Processes to start when neither torchrun nor SLURM has started them.

    Raises:
        BecMaceError: Of this kind: the device is not there or not supported.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    kind, _, index = (find_device(device, kind_of_error) if device == "auto" else device).partition(":")
    if kind not in ("cpu", "cuda"):
        raise kind_of_error(f"device: bec_mace runs on cpu or cuda, not on {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise kind_of_error(f"device: {device!r} asked for, but torch finds no CUDA device; use 'cpu' or 'auto'")
    per_node, nodes = process_grid(num_processes)
    if index and per_node * nodes > 1:
        raise kind_of_error(f"device: {device!r} names one device, but {per_node * nodes} processes run; use {kind!r}")
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
    if fabric.world_size > 1:
        atexit.register(leave_group)
    return fabric


def leave_group() -> None:
    """End the group of processes: its threads must not outlive the interpreter. Fabric does so for NCCL alone."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
