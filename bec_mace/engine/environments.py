"""Atomic environments: the graph of a batch in the order and the layout that the kernels like.

Atoms are sorted by element, so that everything that depends on the element acts on a slice. Each atom has the same
number of neighbour slots, so that a sum over neighbours is a matrix product and needs no scatter. Empty slots hold a
vector of length ``r_max``, where every radial function and its derivatives vanish.

A system whose slots do not fit into memory is taken in blocks of atoms with all their neighbours. Within an element its atoms
are sorted by their number of neighbours, so that the atoms of a block have few empty slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from bec_mace.data.graph import Graph
from bec_mace.engine.reverse_edges import distinct_slots, reverse_slots
from bec_mace.engine.segments import Groups, segment_sum


@dataclass(frozen=True)
class SortedAtoms:
    """The atoms of a batch, sorted by element.

    Attributes:
        order: The atom of the graph at each sorted place, of shape (n_atoms,).
        species: Index into the model's elements, ascending, of shape (n_atoms,).
        counts: Number of atoms of each of the model's elements.
        positions: Of shape (n_atoms, 3), in Å, in float64 where the device has it.
        frame_index: The frame of each sorted atom, of shape (n_atoms,).
        n_frames: Number of frames.
        total_charge: Charge of each frame, of shape (n_frames,), in e, in float64 where the device has it.
        dtype: Precision of edge vectors and of all that is computed from them.
    """

    order: Tensor
    species: Tensor
    counts: tuple[int, ...]
    positions: Tensor
    frame_index: Tensor
    n_frames: int
    total_charge: Tensor
    dtype: torch.dtype

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return self.order.shape[0]

    def sum_over_frames(self, values: Tensor) -> Tensor:
        """Sum values of shape (n_atoms, ...) in sorted order into frames; the sum is done in float64."""
        total = segment_sum(values.double(), self.frame_index, self.n_frames, lambda: self._frames)
        return total.to(values.dtype)

    @cached_property
    def _frames(self) -> Groups:
        return Groups.of(self.frame_index, self.n_frames)

    def unsort(self, values: Tensor) -> Tensor:
        """Bring values of shape (n_atoms, ...) back to the order of the graph."""
        return torch.empty_like(values).index_copy(0, self.order, values)


@dataclass(frozen=True)
class Environments(SortedAtoms):
    """Sorted atoms with dense neighbour slots: all atoms of a batch, or a block of them.

    Attributes:
        sender: Sorted place of the neighbour in each slot, among all atoms, of shape (n_atoms * n_slots,).
        vectors: Atom minus neighbour image, of shape (n_atoms * n_slots, 3), in Å.
        filled: Which slots hold a neighbour, of shape (n_atoms * n_slots,), bool.
        n_slots: Number of slots of each atom.
        all_species: The species of all atoms, which may be senders.
    """

    sender: Tensor
    vectors: Tensor
    filled: Tensor
    n_slots: int
    all_species: Tensor

    @cached_property
    def reverse(self) -> Tensor | None:
        """For each slot that of the same edge seen from its other end, of shape (n_atoms * n_slots,); None in a block."""
        return reverse_slots(self.sender, self.vectors, self.n_slots, self.all_species.shape[0])

    @cached_property
    def distinct(self) -> tuple[Tensor, Tensor] | None:
        """Slots of different length, and for each slot its place among them; None in a block, and on a GPU."""
        if self.sender.is_cuda or self.reverse is None:
            return None
        return distinct_slots(self.reverse, self.filled)

    def gather(self, values: Tensor) -> Tensor:
        """Values of the neighbours in all slots: (n_components, n_senders, n) to (n_components, n_atoms * n_slots, n)."""
        return values.index_select(1, self.sender)

    def sum_gathered(self, values: Tensor) -> Tensor:
        """The transpose of :meth:`gather`: (n_components, n_atoms * n_slots, n) to (n_components, n_senders, n)."""
        return torch.stack([self.sum_over_senders(value) for value in values.unbind(0)])

    def sum_with_arms(self, values: Tensor, reverse: Tensor, directions: Tensor) -> Tensor:
        """Sum over senders values of shape (n_components, n_atoms * n_slots, n), and the values times their arms.

        Args:
            values: One for each slot.
            reverse: :attr:`reverse`.
            directions: What the arms, receiver minus sender, are projected on, of shape (n_directions, 3).

        Returns:
            Of shape (1 + n_directions, n_components, n_atoms, n).
        """
        arms = self.vectors[reverse] @ directions.T
        factors = torch.cat([torch.ones_like(arms[:, :1]), arms], dim=1).view(self.n_atoms, self.n_slots, -1).transpose(1, 2)
        gathered = [factors @ value.index_select(0, reverse).view(self.n_atoms, self.n_slots, -1) for value in values.unbind(0)]
        return torch.stack(gathered).movedim(2, 0)

    def sum_over_senders(self, values: Tensor) -> Tensor:
        """Sum values of shape (n_atoms * n_slots, ...) into the atoms they were gathered from."""
        return segment_sum(values, self.sender, self.all_species.shape[0], lambda: self._senders)

    @cached_property
    def _senders(self) -> Groups:
        return Groups.of(self.sender, self.all_species.shape[0])

    def sum_over_slots(self, values: Tensor) -> Tensor:
        """Sum values of shape (n_atoms * n_slots, ...) into the atoms that own the slots."""
        return values.view(self.n_atoms, self.n_slots, *values.shape[1:]).sum(dim=1)


@dataclass(frozen=True)
class Blocks(SortedAtoms):
    """Sorted atoms whose environments are built block by block.

    Attributes:
        graph: The batch, with its edges.
        place: The sorted place of each atom of the graph, of shape (n_atoms,).
        degree: Number of neighbours of each sorted atom, of shape (n_atoms,).
        first_edge: The edge of the graph where the neighbours of each sorted atom begin, of shape (n_atoms,).
        r_max: Length of the vector in empty slots, in Å.
        size: Atoms in a block.
    """

    graph: Graph
    place: Tensor
    degree: Tensor
    first_edge: Tensor
    r_max: float
    size: int

    def ranges(self) -> Iterator[slice]:
        """The sorted places of each block."""
        for start in range(0, self.n_atoms, self.size):
            yield slice(start, min(start + self.size, self.n_atoms))

    def block(self, atoms: slice) -> Environments:
        """The environments of the atoms at some sorted places."""
        order, degree = self.order[atoms], self.degree[atoms]
        n_slots = max(1, int(degree.max())) if len(order) else 1
        slot = torch.arange(n_slots, device=order.device)
        filled = slot < degree.unsqueeze(1)
        sender, vectors = self._slots(atoms, (self.first_edge[atoms].unsqueeze(1) + slot).where(filled, 0))
        own = torch.arange(atoms.start, atoms.stop, device=order.device).unsqueeze(1)
        vectors = vectors.where(filled.unsqueeze(2), vectors.new_tensor([self.r_max, 0.0, 0.0]))
        ends = [sum(self.counts[: number + 1]) for number in range(len(self.counts))]
        counts = tuple(
            max(0, min(end, atoms.stop) - max(end - count, atoms.start)) for end, count in zip(ends, self.counts, strict=True)
        )
        return Environments(
            order=order,
            species=self.species[atoms],
            counts=counts,
            positions=self.positions[atoms],
            frame_index=self.frame_index[atoms],
            n_frames=self.n_frames,
            total_charge=self.total_charge,
            dtype=self.dtype,
            sender=sender.where(filled, own).flatten(),
            vectors=vectors.view(-1, 3),
            filled=filled.flatten(),
            n_slots=n_slots,
            all_species=self.species,
        )

    def _slots(self, atoms: slice, edge: Tensor) -> tuple[Tensor, Tensor]:
        """Sorted places of the senders of edges of shape (n, n_slots), and their vectors, of shape (n, n_slots, 3)."""
        graph = self.graph
        if not graph.n_edges:
            return torch.zeros_like(edge), self.positions.new_zeros((*edge.shape, 3), dtype=self.dtype)
        sender = graph.edge_index[0][edge]
        shift = graph.edge_shifts[edge] @ graph.cell[self.frame_index[atoms]]
        # The difference first, and then its precision: far from the origin the positions themselves are coarse in float32.
        vectors = self.positions[atoms].unsqueeze(1) - graph.positions[sender] - shift
        return self.place[sender], vectors.to(self.dtype)


def build_blocks(
    graph: Graph, species: Tensor, n_elements: int, r_max: float, size: int, dtype: torch.dtype = torch.float64
) -> Blocks:
    """Sort the atoms of a graph by element and number of neighbours, to be taken in blocks.

    Args:
        graph: The batch; its edges are sorted by receiver.
        species: Index into the model's elements for each atom, of shape (n_atoms,).
        n_elements: Number of elements of the model.
        r_max: Length of the vector in empty slots, in Å.
        size: Atoms in a block.
        dtype: Precision of the edge vectors.
    """
    degree = torch.bincount(graph.edge_index[1], minlength=graph.n_atoms)
    by_degree = torch.argsort(degree, stable=True)
    return _blocks(graph, species, n_elements, r_max, size, dtype, degree, by_degree)


def build_environments(
    graph: Graph, species: Tensor, n_elements: int, r_max: float, dtype: torch.dtype = torch.float64
) -> Environments:
    """Sort the atoms of a graph by element and give each the same number of neighbour slots.

    Args:
        graph: The batch; its edges are sorted by receiver.
        species: Index into the model's elements for each atom, of shape (n_atoms,).
        n_elements: Number of elements of the model.
        r_max: Length of the vector in empty slots, in Å.
        dtype: Precision of the edge vectors.
    """
    degree = torch.bincount(graph.edge_index[1], minlength=graph.n_atoms)
    as_given = torch.arange(graph.n_atoms, device=species.device)
    whole = _blocks(graph, species, n_elements, r_max, graph.n_atoms, dtype, degree, as_given)
    return whole.block(slice(0, graph.n_atoms))


def _blocks(
    graph: Graph,
    species: Tensor,
    n_elements: int,
    r_max: float,
    size: int,
    dtype: torch.dtype,
    degree: Tensor,
    order: Tensor,
) -> Blocks:
    """Sort by element, atoms of the same element in the order given."""
    # A derivative by these positions would be that of a part alone; what depends on edges is differentiated by the engine.
    graph = replace(graph, positions=graph.positions.detach(), cell=graph.cell.detach())
    order = order[torch.argsort(species[order], stable=True)]
    place = torch.empty_like(order)
    place[order] = torch.arange(graph.n_atoms, device=order.device)
    return Blocks(
        order=order,
        species=species[order],
        counts=tuple(torch.bincount(species, minlength=n_elements).tolist()),
        positions=graph.positions[order],
        frame_index=graph.frame_index[order],
        n_frames=graph.n_frames,
        total_charge=graph.total_charge.detach(),
        dtype=dtype,
        graph=graph,
        place=place,
        degree=degree[order],
        first_edge=(torch.cumsum(degree, dim=0) - degree)[order],
        r_max=r_max,
        size=size,
    )


def with_total(values: Tensor, atoms: SortedAtoms, total: Tensor, parts: Tensor | None = None) -> Tensor:
    """Shift the values of the atoms of each frame so that they sum to a total.

    Args:
        values: Of shape (n_atoms, ...).
        atoms: The atoms.
        total: Of shape (n_frames, ...), or what broadcasts to it.
        parts: What each atom takes of the shift, of shape (n_atoms,), above zero; equal parts when None.
    """
    missing = total.to(values.dtype) - atoms.sum_over_frames(values)
    if parts is None:
        count = torch.bincount(atoms.frame_index, minlength=atoms.n_frames).to(values.dtype)
        return values + (missing / count.view(-1, *[1] * (values.dim() - 1)))[atoms.frame_index]
    parts = (parts / atoms.sum_over_frames(parts)[atoms.frame_index]).view(-1, *[1] * (values.dim() - 1))
    return values + parts * missing[atoms.frame_index]
