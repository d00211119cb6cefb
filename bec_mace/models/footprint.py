"""How much memory an evaluation takes, and how many atoms a block may hold.

The sizes of a model give the numbers that are alive at once, by edge and by atom. An evaluation at once keeps the gathered
features and the radial weights of all layers until the sweep comes back to them; the sweep adds cotangents, one for each of its
channels. In blocks only features of atoms and their cotangents are kept, and the edges of one block.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

BLOCK_ATOMS = {"cpu": 192, "cuda": 32768}
"""Largest useful blocks. On the CPU larger ones leave the cache; a GPU is busy with these."""

ALL_AT_ONCE = {"cpu": 2000}
"""Atoms above which blocks are no slower even where all edges fit into memory."""

_SLOTS_PER_EDGE = 1.2  # Every atom has as many slots as the one with most neighbours.
_MARGIN = 0.8  # Of the free memory: allocators lose some of it.
_EDGE_BYTES = 30  # The graph: sender, receiver, shift.


MAX_EDGES = 20000
"""Edges of a kernel model whose functions are in memory at once."""


@dataclass(frozen=True)
class Footprint:
    """Numbers that are alive at the peak of an evaluation.

    Attributes:
        at_edge: For each edge in memory.
        at_atom: For each atom whose edges are in memory.
        kept: For each atom of the system.
        at_work: For each edge whose functions a kernel model has in memory, of which there are never many.
    """

    at_edge: float = 0.0
    at_atom: float = 0.0
    kept: float = 0.0
    at_work: float = 0.0


class Measured(Protocol):
    """What is asked of a model."""

    reference_charges: Tensor

    def footprint(self, properties: Collection[str], blocked: bool) -> Footprint:
        """Numbers that are alive at the peak of an evaluation, of all atoms at once or in blocks of them."""
        ...


def estimate_memory(
    model: Measured, n_atoms: int, n_edges: int, properties: Collection[str], block_size: int | None = None
) -> int:
    """Bytes that one evaluation takes beside the model.

    Args:
        model: The model; its precision counts.
        n_atoms: Number of atoms of all frames.
        n_edges: Number of directed edges within its cutoff.
        properties: What is asked for.
        block_size: Atoms in a block; None for all at once.
    """
    numbers, itemsize = model.footprint(properties, block_size is not None), model.reference_charges.element_size()
    share = 1.0 if block_size is None else min(1.0, block_size / max(1, n_atoms))
    work = min(MAX_EDGES, share * n_edges) * itemsize * numbers.at_work
    edge_bytes = _SLOTS_PER_EDGE * (itemsize * numbers.at_edge + 24)
    of_block = n_edges * edge_bytes + n_atoms * itemsize * numbers.at_atom
    kept = n_atoms * itemsize * numbers.kept + (0 if block_size is None else n_edges * _EDGE_BYTES)
    return round(share * of_block + work + kept)


def choose_block_size(model: Measured, n_atoms: int, n_edges: int, properties: Collection[str], free_bytes: int) -> int | None:
    """Atoms in a block so that an evaluation fits into the free memory.

    Args:
        model: The model, on its device.
        n_atoms: Number of atoms of all frames.
        n_edges: Number of directed edges.
        properties: What is asked for.
        free_bytes: See :func:`free_memory`.

    Returns:
        None where all atoms at once fit, and are no slower.
    """
    device, usable = model.reference_charges.device.type, _MARGIN * free_bytes
    if n_atoms <= ALL_AT_ONCE.get(device, n_atoms) and estimate_memory(model, n_atoms, n_edges, properties) <= usable:
        return None
    kept = estimate_memory(model, n_atoms, n_edges, properties, 0)
    of_one = max(1.0, (estimate_memory(model, n_atoms, n_edges, properties, n_atoms) - kept) / max(1, n_atoms))
    return max(1, min(n_atoms, BLOCK_ATOMS.get(device, BLOCK_ATOMS["cpu"]), int((usable - kept) / of_one)))


def free_memory(device: torch.device | str) -> int:
    """Free bytes of a device; on the CPU those of the machine or of the control group, whichever is less."""
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    return min([_of_machine(), *left_by_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def _of_machine() -> int:
    """Bytes that the machine can give without swapping."""
    source = Path("/proc/meminfo")
    for line in source.read_text(encoding="ascii").splitlines() if source.exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return sys.maxsize


def left_by_groups(membership: Path, root: Path) -> list[int]:
    """Bytes that each limit of a control group leaves, from the process's own group up to the root.

    Args:
        membership: The file that names the groups of the process, ``/proc/self/cgroup``.
        root: Where the groups are, ``/sys/fs/cgroup``.
    """
    try:
        rows = [row.split(":", 2) for row in membership.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return []
    leftovers = []
    for _, controllers, name in rows:
        if not controllers:
            top, files = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top, files = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        place = top / name.lstrip("/")
        groups = [folder for folder in (place, *place.parents) if folder.is_relative_to(top)]
        leftovers += [left for folder in groups if (left := _left_by(folder, *files)) is not None]
    return leftovers


def _left_by(folder: Path, limit_file: str, usage_file: str, inactive: str) -> int | None:
    """Bytes below a limit, where there is one; pages of files that nobody uses are as good as free."""
    try:
        limit = (folder / limit_file).read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        rows = dict(row.split() for row in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        return int(limit) - int((folder / usage_file).read_text(encoding="ascii")) + int(rows.get(inactive, 0))
    except OSError:
        return None
