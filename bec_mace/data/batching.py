"""Frames to graphs, graphs to batches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from bec_mace.data.frames import Frame
from bec_mace.data.graph import Graph
from bec_mace.data.neighbours import Neighbours, find_neighbours
from bec_mace.errors import DataError
from bec_mace.properties import PROPERTIES


def build_graph(frame: Frame, r_max: float, dtype: torch.dtype = torch.float64, edges: Neighbours | None = None) -> Graph:
    """Make the graph of one frame, on the CPU.

    The structure stays in float64 whatever the dtype.

    Args:
        frame: Structure and labels.
        r_max: Cutoff in Å.
        dtype: Of labels.
        edges: The neighbours within r_max, where they are known already.

    Raises:
        DataError: Two atoms are at the same place.
    """
    if edges is None:
        edges = find_neighbours(frame, r_max)
    # torch.tensor copies: nothing done to a graph reaches the frame.
    labels = {
        name: torch.tensor(value if PROPERTIES[name].per == "atom" else value[None], dtype=dtype)
        for name, value in frame.labels.items()
    }
    return Graph(
        positions=torch.tensor(frame.positions, dtype=torch.float64),
        atomic_numbers=torch.tensor(frame.atomic_numbers, dtype=torch.int64),
        frame_index=torch.zeros(len(frame), dtype=torch.int64),
        cell=torch.tensor(frame.cell[None], dtype=torch.float64),
        pbc=torch.tensor(frame.pbc[None]),
        edge_index=torch.from_numpy(np.stack([edges.sender, edges.receiver])),
        edge_shifts=torch.from_numpy(edges.shifts).to(torch.float64),
        labels=labels,
        masks={name: torch.ones(1, dtype=torch.bool) for name in labels},
        total_charge=torch.tensor([frame.total_charge], dtype=torch.float64),
    )


def collate(graphs: Sequence[Graph]) -> Graph:
    """Join graphs into one batch.

    A label that some graphs lack is zero there, and False in its mask.

    Args:
        graphs: Graphs of one or more frames each, on one device, with one dtype.

    Raises:
        DataError: There are no graphs.
    """
    if not graphs:
        raise DataError("A batch needs at least one frame, got none.")
    atoms = _offsets([graph.n_atoms for graph in graphs])
    frames = _offsets([graph.n_frames for graph in graphs])
    names = dict.fromkeys(name for graph in graphs for name in graph.labels)
    weighted = dict.fromkeys(name for graph in graphs for name in graph.weights)
    return Graph(
        positions=torch.cat([graph.positions for graph in graphs]),
        atomic_numbers=torch.cat([graph.atomic_numbers for graph in graphs]),
        frame_index=torch.cat([graph.frame_index + shift for graph, shift in zip(graphs, frames, strict=True)]),
        cell=torch.cat([graph.cell for graph in graphs]),
        pbc=torch.cat([graph.pbc for graph in graphs]),
        edge_index=torch.cat([graph.edge_index + shift for graph, shift in zip(graphs, atoms, strict=True)], dim=1),
        edge_shifts=torch.cat([graph.edge_shifts for graph in graphs]),
        labels={name: torch.cat([_label(graph, name) for graph in graphs]) for name in names},
        masks={name: torch.cat([_mask(graph, name) for graph in graphs]) for name in names},
        total_charge=torch.cat([graph.total_charge for graph in graphs]),
        weights={name: torch.cat([_weight(graph, name) for graph in graphs]) for name in weighted},
        reference=torch.cat([graph.reference for graph in graphs]),
    )


def _offsets(sizes: list[int]) -> list[int]:
    return list(accumulate(sizes[:-1], initial=0))


def _label(graph: Graph, name: str) -> Tensor:
    if name in graph.labels:
        return graph.labels[name]
    row = PROPERTIES[name]
    count = graph.n_atoms if row.per == "atom" else graph.n_frames
    return graph.positions.new_zeros((count, *row.shape))


def _mask(graph: Graph, name: str) -> Tensor:
    if name in graph.masks:
        return graph.masks[name]
    return torch.full((graph.n_frames,), name in graph.labels, dtype=torch.bool, device=graph.positions.device)


def _weight(graph: Graph, name: str) -> Tensor:
    return graph.weights[name] if name in graph.weights else graph.positions.new_ones(graph.n_frames)
