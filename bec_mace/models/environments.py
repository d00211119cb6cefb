"""Atomic environments: the graph of a batch in the order and the layout that the kernels like.

Atoms are sorted by element, so that everything that depends on the element acts on a slice. Each atom has the same
number of neighbour slots, so that a sum over neighbours is a matrix product and needs no scatter. Empty slots hold a
vector of length ``r_max``, where every radial function and its derivatives vanish.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bec_mace.data.graph import Graph
from bec_mace.models.segments import segment_sum


@dataclass(frozen=True)
class Environments:
    """Sorted atoms with dense neighbour slots.

    Attributes:
        order: The atom of the graph at each sorted place, of shape (n_atoms,).
        species: Index into the model's elements, ascending, of shape (n_atoms,).
        counts: Number of atoms of each of the model's elements.
        sender: Sorted place of the neighbour in each slot, of shape (n_atoms * n_slots,).
        vectors: Atom minus neighbour image, of shape (n_atoms * n_slots, 3), in Å.
        filled: Which slots hold a neighbour, of shape (n_atoms * n_slots,), bool.
        n_slots: Number of slots of each atom.
        frame_index: The frame of each sorted atom, of shape (n_atoms,).
        n_frames: Number of frames.
    """

    order: Tensor
    species: Tensor
    counts: tuple[int, ...]
    sender: Tensor
    vectors: Tensor
    filled: Tensor
    n_slots: int
    frame_index: Tensor
    n_frames: int

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return self.order.shape[0]

    def gather(self, values: Tensor) -> Tensor:
        """Values of the neighbours in all slots: (n_components, n_atoms, n) to (n_components, n_atoms * n_slots, n)."""
        return values.index_select(1, self.sender)

    def sum_gathered(self, values: Tensor) -> Tensor:
        """The transpose of :meth:`gather`: (n_components, n_atoms * n_slots, n) to (n_components, n_atoms, n)."""
        return torch.stack([self.sum_over_senders(value) for value in values.unbind(0)])

    def sum_over_senders(self, values: Tensor) -> Tensor:
        """Sum values of shape (n_atoms * n_slots, ...) into the atoms they were gathered from."""
        return segment_sum(values, self.sender, self.n_atoms)

    def sum_over_slots(self, values: Tensor) -> Tensor:
        """Sum values of shape (n_atoms * n_slots, ...) into the atoms that own the slots."""
        return values.view(self.n_atoms, self.n_slots, *values.shape[1:]).sum(dim=1)

    def sum_over_frames(self, values: Tensor) -> Tensor:
        """Sum values of shape (n_atoms, ...) in sorted order into frames."""
        return segment_sum(values, self.frame_index, self.n_frames)

    def unsort(self, values: Tensor) -> Tensor:
        """Bring values of shape (n_atoms, ...) back to the order of the graph."""
        return torch.empty_like(values).index_copy(0, self.order, values)


def build_environments(graph: Graph, species: Tensor, n_elements: int, r_max: float) -> Environments:
    """Sort the atoms of a graph by element and give each the same number of neighbour slots.

    Args:
        graph: The batch; its edges are sorted by receiver.
        species: Index into the model's elements for each atom, of shape (n_atoms,).
        n_elements: Number of elements of the model.
        r_max: Length of the vector in empty slots, in Å.
    """
    n_atoms = graph.n_atoms
    order = torch.argsort(species, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(n_atoms, device=order.device)
    sender, receiver = graph.edge_index
    degree = torch.bincount(receiver, minlength=n_atoms)
    n_slots = max(1, int(degree.max())) if n_atoms else 1
    first = torch.cumsum(degree, dim=0) - degree
    rank = torch.arange(graph.n_edges, device=order.device) - first[receiver]
    slot = place[receiver] * n_slots + rank
    dense_sender = torch.arange(n_atoms, device=order.device).repeat_interleave(n_slots)
    dense_sender[slot] = place[sender]
    vectors = graph.positions.new_zeros((n_atoms * n_slots, 3))
    vectors[:, 0] = r_max
    vectors = vectors.index_copy(0, slot, graph.edge_vectors())
    filled = torch.zeros(n_atoms * n_slots, dtype=torch.bool, device=order.device)
    filled[slot] = True
    counts = torch.bincount(species, minlength=n_elements).tolist()
    return Environments(
        order=order,
        species=species[order],
        counts=tuple(counts),
        sender=dense_sender,
        vectors=vectors,
        filled=filled,
        n_slots=n_slots,
        frame_index=graph.frame_index[order],
        n_frames=graph.n_frames,
    )
