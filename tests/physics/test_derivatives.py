"""First derivatives against finite differences, and contraction with directions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bec_mace.data import Frame, build_graph, collate
from bec_mace.models import PolarizationModel
from bec_mace.testing.physics import check_derivative_of_dipole, move
from bec_mace.testing.small_models import copy_model, make_model
from bec_mace.testing.structures import molecule, slab, triclinic

STEP = 1e-3
# Central differences of fourth order.
WEIGHTS = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}


def energy(model: PolarizationModel, frame: Frame) -> float:
    return model(build_graph(frame, model.r_max), ("energy",))["energy"].item()


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize(
    "heads", [("monopole",), ("dipole",), ("charge_transfer",), ("monopole", "charge_transfer", "dipole")], ids="+".join
)
def test_molecule_against_finite_differences(heads: tuple[str, ...], layers: int, device: torch.device) -> None:
    """One and three layers; two layers are in the kit."""
    check_derivative_of_dipole(copy_model(make_model(heads, layers), device=device))


def test_projection_leaves_edge_only_heads_a_derivative() -> None:
    """There is nothing to project: Z* remains the derivative of the dipole."""
    model, frame = make_model(("dipole", "charge_transfer"), 2, "project"), molecule()
    z = model(build_graph(frame, model.r_max))["born_effective_charges"][2].numpy()
    for axis in range(3):
        column = np.zeros(3)
        for k, weight in WEIGHTS.items():
            positions = frame.positions.copy()
            positions[2, axis] += k * STEP
            column += weight * model(build_graph(move(frame, positions), model.r_max), ("dipole",))["dipole"][0].numpy()
        assert np.abs(column / STEP - z[:, axis]).max() < 1e-7


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("frame", [triclinic(), slab(), molecule()], ids=["triclinic", "slab", "molecule"])
def test_forces_against_finite_differences(frame: Frame, layers: int) -> None:
    model = make_model(("monopole", "energy"), layers)
    forces = model(build_graph(frame, model.r_max), ("forces", "born_effective_charges"))["forces"].numpy()
    assert np.abs(forces).max() > 0.05
    for atom, axis in [(0, 0), (1, 2), (len(frame) - 1, 1)]:
        slope = 0.0
        for k, weight in WEIGHTS.items():
            positions = frame.positions.copy()
            positions[atom, axis] += k * STEP
            slope += weight * energy(model, move(frame, positions)) / STEP
        assert abs(forces[atom, axis] + slope) < 1e-7


def test_stress_against_finite_differences() -> None:
    """stress = dE/d(strain) / V for symmetric strains of a triclinic cell."""
    model, frame = make_model(("energy",)), triclinic()
    stress = model(build_graph(frame, model.r_max), ("stress",))["stress"][0].numpy()
    volume = np.linalg.det(frame.cell)
    assert np.abs(stress - stress.T).max() < 1e-14
    for a, b in [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]:
        slope = 0.0
        for k, weight in WEIGHTS.items():
            strain = np.eye(3)
            strain[a, b] += 0.5 * k * STEP
            strain[b, a] += 0.5 * k * STEP
            slope += weight * energy(model, move(frame, frame.positions @ strain, frame.cell @ strain)) / STEP
        assert abs(stress[a, b] - slope / volume) < 1e-8


def test_the_stress_of_a_left_handed_cell_is_that_of_the_same_crystal() -> None:
    model, frame = make_model(("energy",)), triclinic()
    swapped = move(frame, frame.positions, frame.cell[[1, 0, 2]])
    assert np.linalg.det(swapped.cell) * np.linalg.det(frame.cell) < 0
    one, other = (model(build_graph(same, model.r_max), ("stress",))["stress"] for same in (frame, swapped))
    assert one.abs().max() > 1e-3 and torch.allclose(one, other, rtol=0, atol=1e-12)


def test_stress_needs_three_periodic_directions() -> None:
    model = make_model(("energy",))
    alone = model(build_graph(triclinic(), model.r_max), ("stress",))["stress"]
    graph = collate([build_graph(frame, model.r_max) for frame in (triclinic(), slab(), molecule())])
    stress = model(graph, ("energy", "stress"), create_graph=True)["stress"]
    assert torch.allclose(stress[0], alone[0], rtol=0, atol=1e-12) and stress[1:].isnan().all()
    stress[0].square().sum().backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("rule", ["none", "project"])
@pytest.mark.parametrize("n_directions", [1, 2])
def test_directions_contract_the_polarization(n_directions: int, rule: str) -> None:
    model = make_model(("monopole", "charge_transfer", "dipole", "direct"), 2, rule)
    graph = collate([build_graph(frame, model.r_max) for frame in (triclinic(), molecule())])
    directions = torch.tensor(np.random.default_rng(5).normal(size=(2, 3)))[:n_directions]
    names = ("born_effective_charges", "head_contributions")
    full, contracted = model(graph, names), model(graph, names, directions=directions)
    z = full["born_effective_charges"]
    assert contracted["born_effective_charges"].shape == (graph.n_atoms, n_directions, 3)
    expected = torch.einsum("da,jab->jdb", directions, z)
    assert (contracted["born_effective_charges"] - expected).abs().max() < 1e-12
    assert (torch.einsum("db,jab->jda", directions, z) - expected).abs().max() > 1e-2
    for name, share in contracted["head_contributions"].items():
        expected = torch.einsum("da,jab->jdb", directions, full["head_contributions"][name])
        assert (share - expected).abs().max() < 1e-12, name


def test_z_does_not_depend_on_what_else_is_asked() -> None:
    model = make_model(("monopole", "charge_transfer", "dipole", "energy"))
    graph = build_graph(triclinic(), model.r_max)
    everything = model(graph, model.provides)
    for name in model.provides - {"head_contributions"}:
        assert (model(graph, (name,))[name] - everything[name]).abs().max() < 1e-12, name
    assert set(everything) == model.provides


def test_dipole_moves_with_the_charge() -> None:
    """Shifting a molecule adds Q times the shift to its dipole."""
    model, frame = make_model(("monopole", "dipole")), molecule()
    shift = np.array([0.4, -1.0, 2.0])
    out = model(build_graph(frame, model.r_max), ("dipole", "charges"))
    moved = model(build_graph(replace(frame, positions=frame.positions + shift), model.r_max), ("dipole",))
    expected = out["dipole"][0] + out["charges"].sum() * torch.tensor(shift)
    assert (moved["dipole"][0] - expected).abs().max() < 1e-12
