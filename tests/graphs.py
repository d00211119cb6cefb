"""What tests compute from a graph by a way of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.data import Graph


def edge_vectors(graph: Graph) -> Tensor:
    """Receiver minus sender image, of shape (n_edges, 3), in Å; differentiable in ``positions``."""
    sender, receiver = graph.edge_index
    cell = graph.cell[graph.frame_index[receiver]]
    shift = torch.einsum("ei,eij->ej", graph.edge_shifts, cell)
    return graph.positions[receiver] - graph.positions[sender] - shift
