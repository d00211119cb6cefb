"""The acoustic sum rule without projection, and its known remainder for a monopole head."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bec_mace.data import Frame, build_graph, collate
from bec_mace.testing.physics import move
from bec_mace.testing.small_models import copy_model, make_model
from bec_mace.testing.structures import molecule, rocksalt, slab, triclinic, wire

FRAMES = [rocksalt(), triclinic(), slab(), wire(), molecule()]
IDS = ["rocksalt", "triclinic", "slab", "wire", "molecule"]


@pytest.mark.parametrize("frame", FRAMES, ids=IDS)
@pytest.mark.parametrize("references", [True, False], ids=["references", "no references"])
@pytest.mark.parametrize("heads", [("dipole",), ("charge_transfer",), ("charge_transfer", "dipole")], ids="+".join)
def test_edge_only_heads_obey_it(heads: tuple[str, ...], references: bool, frame: Frame) -> None:
    model = make_model(heads, 2, "none", reference_charges=references)
    z = model(build_graph(frame, model.r_max))["born_effective_charges"]
    assert z.abs().max() > 0.05
    assert z.sum(dim=0).abs().max() < 1e-12


@pytest.mark.parametrize("frame", FRAMES, ids=IDS)
def test_transferred_charges_sum_to_zero(frame: Frame) -> None:
    model = make_model(("charge_transfer",), 2)
    charges = model(build_graph(frame, model.r_max), ("charges",))["charges"]
    assert charges.abs().max() > 1e-2
    assert charges.sum().abs() < 1e-12


@pytest.mark.parametrize("heads", [("charge_transfer",), ("monopole", "charge_transfer")], ids="+".join)
def test_charges_times_positions_are_the_dipole_of_a_molecule(heads: tuple[str, ...]) -> None:
    """The reported charges have the sign and size of the flows that make the polarization."""
    model, frame = make_model(heads, 2), molecule()
    out = model(build_graph(frame, model.r_max), ("charges", "dipole"))
    moment = out["charges"].numpy() @ frame.positions
    assert np.abs(moment).max() > 1e-2
    assert np.abs(out["dipole"][0].numpy() - moment).max() < 1e-12


def test_what_a_flow_polarizes_is_in_the_charges_and_not_in_the_dipoles_of_atoms() -> None:
    graph = build_graph(triclinic(), 2.6)
    alone = make_model(("dipole",))(graph, ("dipoles", "polarization"))
    both = make_model(("charge_transfer", "dipole"))(graph, ("dipoles", "polarization"))
    assert (both["polarization"] - alone["polarization"]).abs().max() > 1e-3
    assert alone["dipoles"].abs().max() > 1e-3 and torch.allclose(both["dipoles"], alone["dipoles"], rtol=0, atol=1e-13)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("frame", FRAMES, ids=IDS)
def test_remainder_of_the_monopole_head(frame: Frame, layers: int) -> None:
    """sum_j Z*[j, a, b] = Q delta_ab - dQ/d(strain)_ba, by finite differences of the strain."""
    model, step = make_model(("monopole",), layers), 1e-3
    out = model(build_graph(frame, model.r_max), ("born_effective_charges", "charges"))
    expected = out["charges"].sum().item() * np.eye(3)
    for a in range(3):
        for b in range(3):
            for k, weight in {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}.items():
                strain = np.eye(3)
                strain[b, a] += k * step
                strained = move(frame, frame.positions @ strain.T, frame.cell @ strain.T)
                total = model(build_graph(strained, model.r_max), ("charges",))["charges"].sum().item()
                expected[a, b] -= weight * total / step
    assert np.abs(out["born_effective_charges"].sum(dim=0).numpy() - expected).max() < 1e-7


def test_projection_acts_on_each_frame_of_a_batch(device: torch.device) -> None:
    model = copy_model(make_model(("monopole", "energy"), 2, "project"), device=device)
    frames = [triclinic(), molecule(), slab()]
    graph = collate([build_graph(frame, model.r_max) for frame in frames]).to(device)
    out = model(graph, ("born_effective_charges", "charges"))
    for number in range(len(frames)):
        mine = graph.frame_index == number
        assert out["born_effective_charges"][mine].sum(dim=0).abs().max() < 1e-12
        assert out["charges"][mine].sum().abs() < 1e-12


def test_weighted_rule_takes_the_sum_from_the_elements_with_large_weights() -> None:
    graph = build_graph(triclinic(), 2.6)
    free = make_model(("monopole",), 2, "none", reference_charges=False)(graph)["born_effective_charges"]
    model = copy_model(make_model(("monopole",), 2, "weighted", reference_charges=False))
    assert isinstance(model.sum_rule_logits, torch.nn.Parameter)
    with torch.no_grad():
        model.sum_rule_logits.copy_(torch.tensor([0.0, 0.1, -0.2]))  # Of H, C, O; the logits count ten times.
    z = model(graph)["born_effective_charges"]
    assert free.sum(dim=0).abs().max() > 1e-3
    assert z.sum(dim=0).abs().max() < 1e-12
    weights = torch.exp(torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64))[
        torch.tensor([{1: 0, 6: 1, 8: 2}[number] for number in graph.atomic_numbers.tolist()])
    ]
    expected = free - (weights / weights.sum()).view(-1, 1, 1) * free.sum(dim=0)
    assert torch.allclose(z, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("heads", "projects"),
    [(("monopole",), True), (("direct", "dipole"), True), (("dipole", "charge_transfer"), False), (("energy",), False)],
    ids=["monopole", "direct", "edges", "energy"],
)
def test_default_rule(heads: tuple[str, ...], projects: bool) -> None:
    assert make_model(heads, 1, None).projects is projects


def test_sum_rule_in_single_precision() -> None:
    model = make_model(("monopole",), 2, "project", torch.float32)
    z = model(build_graph(triclinic(), model.r_max, torch.float32))["born_effective_charges"]
    assert z.sum(dim=0).abs().max() < 1e-5
