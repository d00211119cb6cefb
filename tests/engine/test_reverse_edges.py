"""An edge and its reverse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bec_mace.data import Frame, build_graph, collate
from bec_mace.engine.environments import Environments, build_environments
from bec_mace.engine.reverse_edges import distinct_slots, reverse_slots
from bec_mace.testing.small_models import make_model
from bec_mace.testing.structures import molecule, slab, triclinic, triclinic_pair


def environments(*frames: Frame) -> Environments:
    graph = collate([build_graph(frame, 4.0) for frame in frames])
    return build_environments(graph, (graph.atomic_numbers > 1).long(), 2, 4.0)


def reverse_of(env: Environments) -> torch.Tensor | None:
    return reverse_slots(env.sender, env.vectors, env.n_slots, env.n_atoms)


@pytest.mark.parametrize("frames", [(triclinic(), molecule()), (slab(),), (triclinic_pair(),)], ids=["two", "slab", "images"])
def test_reverse(frames: tuple[Frame, ...]) -> None:
    """Many images of the same two atoms are neighbours of each other in the primitive cell."""
    env = environments(*frames)
    reverse = reverse_of(env)
    assert torch.equal(reverse[reverse], torch.arange(len(reverse)))
    receiver = torch.arange(env.n_atoms).repeat_interleave(env.n_slots)
    assert torch.equal(env.sender[reverse], receiver) and torch.equal(receiver[reverse], env.sender)
    lengths = env.vectors.norm(dim=1)
    assert torch.allclose(lengths[reverse], lengths, atol=1e-14)
    between_two = env.sender != receiver
    assert between_two.any() and bool((reverse != torch.arange(len(reverse)))[between_two].all())


def test_distinct_slots_have_every_length_once() -> None:
    env = environments(triclinic(), molecule())
    kept, place = distinct_slots(reverse_of(env), env.filled)
    lengths = env.vectors.norm(dim=1)
    assert torch.allclose(lengths[kept][place], lengths, atol=1e-14)
    receiver = torch.arange(env.n_atoms).repeat_interleave(env.n_slots)
    to_itself = int((env.filled & (env.sender == receiver)).sum())  # Images of the same atom are not paired.
    assert len(kept) == (int(env.filled.sum()) - to_itself) // 2 + to_itself + 1
    assert to_itself > 0 and bool((~env.filled).any())


def test_an_edge_without_its_reverse() -> None:
    """Rounding at the cutoff may leave one of the two out."""
    env = environments(molecule())
    sender = env.sender.clone()
    sender[0] = 0
    assert reverse_of(replace(env, sender=sender)) is None
    assert reverse_slots(env.sender, env.vectors, env.n_slots, env.n_atoms + 1) is None


def test_shared_radial_weights_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(("monopole", "dipole"), 2)
    graph = collate([build_graph(frame, model.r_max) for frame in (triclinic_pair(), molecule())])
    expected = model(graph)["born_effective_charges"]
    monkeypatch.setattr("bec_mace.engine.environments.reverse_slots", lambda *_: None)
    found = model(graph)["born_effective_charges"]
    assert 0 < (found - expected).abs().max() + 1e-300 < 1e-13 and expected.abs().max() > 0.1
