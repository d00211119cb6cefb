"""Sorted atoms with dense neighbour slots."""

from __future__ import annotations

import torch

from bec_mace.data import build_graph, collate
from bec_mace.engine.environments import build_environments
from bec_mace.testing.structures import ELEMENTS, atom, molecule, triclinic_pair
from tests.graphs import edge_vectors

R_MAX = 2.6


def make() -> tuple:
    graph = collate([build_graph(frame, R_MAX) for frame in (molecule(), triclinic_pair(), atom())])
    species = (graph.atomic_numbers[:, None] == torch.tensor(ELEMENTS)).int().argmax(dim=1)
    return graph, build_environments(graph, species, 4, R_MAX)


def test_order_is_by_element_and_can_be_undone() -> None:
    graph, env = make()
    assert env.species.tolist() == sorted(env.species.tolist())
    assert env.counts == (4, 2, 3, 0)
    assert torch.equal(env.unsort(graph.atomic_numbers[env.order]), graph.atomic_numbers)
    assert torch.equal(env.frame_index, graph.frame_index[env.order])


def test_slots_hold_the_edges_of_the_graph() -> None:
    graph, env = make()
    assert env.n_slots == graph.edge_index[1].bincount().max()
    assert env.filled.sum() == graph.n_edges
    owner = torch.arange(env.n_atoms).repeat_interleave(env.n_slots)
    ours = {
        (int(env.order[env.sender[k]]), int(env.order[owner[k]]), *env.vectors[k].numpy().round(9))
        for k in torch.nonzero(env.filled).flatten().tolist()
    }
    vectors = edge_vectors(graph).numpy().round(9)
    assert ours == {(int(s), int(r), *v) for s, r, v in zip(*graph.edge_index, vectors, strict=True)}


def test_empty_slots_are_at_the_cutoff() -> None:
    _, env = make()
    empty = ~env.filled
    assert empty.any()
    assert (env.vectors[empty].norm(dim=1) == R_MAX).all()


def test_sums_are_transposes() -> None:
    graph, env = make()
    generator = torch.Generator().manual_seed(0)
    edges = torch.rand(env.n_atoms * env.n_slots, 3, generator=generator, dtype=torch.float64)
    atoms = torch.rand(env.n_atoms, 3, generator=generator, dtype=torch.float64)
    assert torch.isclose((env.sum_over_senders(edges) * atoms).sum(), (edges * atoms[env.sender]).sum())
    owner = torch.arange(env.n_atoms).repeat_interleave(env.n_slots)
    assert torch.isclose((env.sum_over_slots(edges) * atoms).sum(), (edges * atoms[owner]).sum())
    by_frame = env.sum_over_frames(atoms)
    for number in range(graph.n_frames):
        assert torch.allclose(by_frame[number], atoms[env.frame_index == number].sum(dim=0))


def test_gather_and_its_transpose() -> None:
    _, env = make()
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(2, env.n_atoms, 3, generator=generator, dtype=torch.float64)
    gathered = env.gather(values)
    assert torch.equal(gathered, values[:, env.sender])
    other = torch.rand(gathered.shape, generator=generator, dtype=torch.float64)
    assert torch.isclose((gathered * other).sum(), (values * env.sum_gathered(other)).sum())
