"""Batched prediction over any number of frames, in order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bec_mace.data import Frame, build_graph, collate
from bec_mace.data.graph import Graph
from bec_mace.errors import ModelError
from bec_mace.models import PolarizationModel
from bec_mace.properties import PROPERTIES

MAX_ATOMS = 1000
"""Atoms in a batch by default; a larger frame makes a batch of its own."""


def predict(
    model: PolarizationModel,
    frames: Iterable[Frame],
    properties: Collection[str] = ("born_effective_charges",),
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    max_atoms: int = MAX_ATOMS,
) -> Iterator[dict[str, Any]]:
    """Predict properties frame by frame.

    Frames are read from the iterable only as batches need them, so a trajectory need not fit in memory. Batches are
    filled up to ``max_atoms`` atoms and ``batch_size`` frames; results do not depend on either.

    Args:
        model: The model. It is moved to ``device`` and ``dtype`` if they are given.
        frames: Structures; their labels are not used.
        properties: Names from ``model.provides``; ``"head_contributions"`` gives Z* by head.
        batch_size: Largest number of frames in a batch; no limit by default.
        device: Where to compute; where the model is by default.
        dtype: Precision; that of the model by default.
        max_atoms: Largest number of atoms in a batch.

    Yields:
        For each frame, in order, arrays by property name, of the shapes in the table of properties: Born effective
        charges (n_atoms, 3, 3), energy ().

    Raises:
        ModelError: If the model does not give a property or does not know an element, or a limit is not positive.
        DataError: If a frame cannot be used.
    """
    for name, limit in (("batch_size", batch_size), ("max_atoms", max_atoms)):
        if limit is not None and limit < 1:
            raise ModelError(f"{name} must be at least 1, got {limit}")
    model.to(device=device, dtype=dtype)
    weights = model.reference_charges

    def build(frame: Frame) -> Graph:
        model.check_elements(frame.atomic_numbers, frame.source)
        return build_graph(unlabelled(frame), model.r_max, dtype=weights.dtype)

    graphs = (build(frame) for frame in frames)
    for batch in batches(graphs, batch_size, max_atoms):
        outputs = model(collate(batch).to(device=weights.device), properties=tuple(properties))
        yield from split_outputs(outputs, [graph.n_atoms for graph in batch])


def unlabelled(frame: Frame) -> Frame:
    """The structure of a frame alone."""
    return Frame(frame.atomic_numbers, frame.positions, frame.cell, frame.pbc, source=frame.source)


def batches(graphs: Iterable[Graph], batch_size: int | None, max_atoms: int) -> Iterator[list[Graph]]:
    """Consecutive graphs, as many as both limits allow and at least one."""
    batch: list[Graph] = []
    n_atoms = 0
    for graph in graphs:
        full = n_atoms + graph.n_atoms > max_atoms or (batch_size is not None and len(batch) >= batch_size)
        if batch and full:
            yield batch
            batch, n_atoms = [], 0
        batch.append(graph)
        n_atoms += graph.n_atoms
    if batch:
        yield batch


def split_outputs(outputs: dict[str, Any], sizes: list[int]) -> Iterator[dict[str, Any]]:
    """The outputs of a batch by frame, as arrays; ``sizes`` are the numbers of atoms."""
    ends = np.cumsum(sizes)
    arrays = {
        name: {head: to_numpy(part) for head, part in value.items()} if isinstance(value, dict) else to_numpy(value)
        for name, value in outputs.items()
    }
    for number, (size, end) in enumerate(zip(sizes, ends, strict=True)):
        atoms = slice(end - size, end)
        yield {name: _part(name, value, number, atoms) for name, value in arrays.items()}


def to_numpy(value: Tensor) -> np.ndarray:
    """A tensor as an array on the CPU."""
    return value.detach().cpu().numpy()


def _part(name: str, value: Any, number: int, atoms: slice) -> Any:
    if isinstance(value, dict):
        return {head: part[atoms].copy() for head, part in value.items()}
    return value[atoms].copy() if PROPERTIES[name].per == "atom" else value[number].copy()
