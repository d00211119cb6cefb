"""Networks whose multipoles act through Coulomb's law and yield: energies, forces, stress, Z*, and the energy in a field."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bec_mace.data import Frame, build_graph, collate
from bec_mace.errors import ModelError
from bec_mace.integrations.ase import BECCalculator
from bec_mace.models import PolarizationModel
from bec_mace.testing import structures
from bec_mace.testing.displacement_waves import exchange_at_long_waves, exchange_part
from bec_mace.testing.physics import move, random_rotation, repeat
from bec_mace.testing.small_models import copy_model, make_model, make_static_model
from bec_mace.units import COULOMB_CONSTANT

Z = "born_effective_charges"
HEADS = ("charge_transfer", "dipole", "quadrupole", "energy")
RESPONSES = {
    "rigid": None,
    "dipoles": {"dipoles": "anisotropic"},
    "edges": {"dipoles": "isotropic", "charges": "edges"},
}
FRAMES = {"crystal": structures.triclinic(), "slab": structures.slab(), "molecule": structures.molecule()}


def multipole_model(response: str, screening: str = "global", **options: object) -> PolarizationModel:
    return make_static_model(HEADS, screening, HEADS[:3], RESPONSES[response], **options)


def evaluate(model: PolarizationModel, frame: Frame, *names: str, **options: object) -> dict[str, torch.Tensor]:
    return model(build_graph(frame, model.r_max), names, **options)


def slopes(model: PolarizationModel, frame: Frame, name: str, step: float = 3e-5) -> np.ndarray:
    """A property of the frame by the displacement of its first, second and last atom, along one axis each."""
    found = []
    for atom, axis in ((0, 0), (1, 2), (-1, 1)):
        shift = np.zeros_like(frame.positions)
        shift[atom, axis] = step
        up, down = (evaluate(model, move(frame, frame.positions + sign * shift), name)[name] for sign in (1, -1))
        found.append(((up - down) / (2 * step)).numpy()[0])
    return np.array(found)


def picked(values: torch.Tensor) -> np.ndarray:
    return np.array([values[0, ..., 0].numpy(), values[1, ..., 2].numpy(), values[-1, ..., 1].numpy()])


@pytest.mark.parametrize("screening", ["fixed", "global", "local"])
@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("kind", FRAMES)
def test_forces_and_born_effective_charges_against_finite_differences(kind, response, screening) -> None:
    model, frame = multipole_model(response, screening), FRAMES[kind]
    out = evaluate(model, frame, Z, "forces")
    assert np.abs(picked(out["forces"]) + slopes(model, frame, "energy")).max() < 2e-6
    assert np.abs(picked(out[Z]) - slopes(model, frame, "polarization")).max() < 1e-6 < 0.1 < np.abs(picked(out[Z])).max()


def test_what_yields_matters() -> None:
    frame = FRAMES["crystal"]
    outputs = [evaluate(multipole_model(response), frame, Z, "energy") for response in RESPONSES]
    for one, other in zip(outputs[:-1], outputs[1:], strict=True):
        assert (one[Z] - other[Z]).abs().max() > 1e-3
        assert (one["energy"] - other["energy"]).abs().max() > 1e-3


@pytest.mark.parametrize("response", RESPONSES)
def test_stress_against_finite_differences(response) -> None:
    model, frame, step = multipole_model(response), FRAMES["crystal"], 1e-5
    stress, volume = evaluate(model, frame, "stress")["stress"][0], abs(np.linalg.det(frame.cell))
    for a, b in ((0, 0), (0, 1), (2, 1)):
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5 * step
        strain[b, a] += 0.5 * step
        maps = [np.eye(3) + sign * strain for sign in (1, -1)]
        up, down = (float(evaluate(model, move(frame, frame.positions @ m, frame.cell @ m), "energy")["energy"]) for m in maps)
        assert float(stress[a, b]) == pytest.approx((up - down) / (2 * step) / volume, abs=1e-6)


@pytest.mark.parametrize("screening", ["fixed", "local"])
@pytest.mark.parametrize("response", RESPONSES)
def test_supercells_blocks_batches_and_turns(response, screening) -> None:
    model, frame = multipole_model(response, screening), FRAMES["crystal"]
    names = [Z, "energy", "forces", "quadrupoles", "screening"]
    names += [] if response == "rigid" else ["induced_dipoles"]
    names += ["induced_charges"] if response == "edges" else []
    names += ["polarizability"] if model.has_enthalpy else []
    one, twice = evaluate(model, frame, *names), repeat(frame, (1, 2, 1))
    two = evaluate(model, twice, *names)
    for name in names:
        per_frame = name in ("energy", "polarizability")
        expected = 2 * one[name] if per_frame else one[name].repeat(2, *[1] * (one[name].dim() - 1))
        assert (two[name] - expected).abs().max() < 1e-10, name
        assert one[name].abs().max() > 1e-3, name
    blocks = evaluate(model, frame, *names, block_size=2)
    batch = model(collate([build_graph(twice, model.r_max), build_graph(frame, model.r_max)]), names)
    turn = random_rotation()
    turned = evaluate(model, replace(frame, positions=frame.positions @ turn.T, cell=frame.cell @ turn.T), *names)
    matrix = torch.tensor(turn)
    for name in names:
        assert (blocks[name] - one[name]).abs().max() < 1e-12, name
        assert (batch[name][-len(one[name]) :] - one[name]).abs().max() < 1e-11, name
        value = one[name]
        if value.dim() > 1:
            value = torch.einsum("ab,n...b->n...a", matrix, value)
        if value.dim() > 2:
            value = torch.einsum("ab,nbc->nac", matrix, value)
        assert (turned[name] - value).abs().max() < 1e-10, name


@pytest.mark.parametrize("response", ["dipoles", "edges"])
def test_parts_of_the_heads_add_up(response) -> None:
    out = evaluate(multipole_model(response), FRAMES["crystal"], Z, "head_contributions")
    assert (sum(out["head_contributions"].values()) - out[Z]).abs().max() < 1e-12


@pytest.mark.parametrize("screening", ["fixed", "global"])
@pytest.mark.parametrize("response", ["dipoles", "edges"])
@pytest.mark.parametrize("kind", FRAMES)
def test_the_enthalpy_in_a_field(kind, response, screening) -> None:
    """Forces at any strength of the field against differences of E - F·P - F·alpha·F/2; its second derivative by the field."""
    model, frame, step = multipole_model(response, screening), FRAMES[kind], 1e-4
    field = np.array([0.4, -0.9, 0.6])

    def enthalpy(place: np.ndarray) -> float:
        out = evaluate(model, move(frame, place), "energy", "polarization", "polarizability")
        alpha = out["polarizability"][0].numpy() / COULOMB_CONSTANT
        return float(out["energy"]) - float(field @ out["polarization"][0].numpy()) - 0.5 * float(field @ alpha @ field)

    along = torch.tensor(field)
    out = evaluate(model, frame, "forces", "field_forces", Z, electric_field=along, field_order=2)
    alone = evaluate(model, frame, "field_forces", electric_field=along, field_order=2)["field_forces"]
    linear = evaluate(model, frame, "field_forces", electric_field=along)["field_forces"]
    blocks = evaluate(model, frame, "field_forces", electric_field=along, field_order=2, block_size=2)["field_forces"]
    assert (out["field_forces"] - alone).abs().max() < 1e-12
    assert (blocks - alone).abs().max() < 1e-12
    assert (torch.einsum("a,nab->nb", along, out[Z]) - linear).abs().max() < 1e-12
    assert (linear - alone).abs().max() > 2e-4
    for atom, axis in ((0, 0), (1, 2), (2, 1)):
        shift = np.zeros_like(frame.positions)
        shift[atom, axis] = step
        slope = (enthalpy(frame.positions + shift) - enthalpy(frame.positions - shift)) / (2 * step)
        assert float(out["forces"][atom, axis] + alone[atom, axis]) == pytest.approx(-slope, abs=4e-6)


def test_orders_that_a_model_does_not_know_are_refused() -> None:
    frame, field = FRAMES["molecule"], torch.tensor([0.0, 0.0, 0.1], dtype=torch.float64)
    for model in (multipole_model("rigid"), multipole_model("dipoles", "local")):
        assert not model.has_enthalpy
        with pytest.raises(ModelError, match="does not know the energy of a field to second order"):
            evaluate(model, frame, "field_forces", electric_field=field, field_order=2)
        with pytest.raises(ModelError, match="does not know the energy of a field to second order"):
            BECCalculator(model, dtype="float64", field_order=2)
        assert BECCalculator(model, dtype="float64").field_order == 1
    with pytest.raises(ModelError, match="field_order must be 1 or 2, got 3"):
        evaluate(multipole_model("dipoles"), frame, "field_forces", electric_field=field, field_order=3)
    with pytest.raises(ModelError, match="belong together"):
        evaluate(multipole_model("dipoles"), frame, "field_forces")


def test_the_calculator_conserves_in_a_strong_field() -> None:
    """Energy and forces of the second order; the work along a closed path is nothing."""
    model, atoms = multipole_model("edges"), FRAMES["crystal"].to_atoms()
    calculator = BECCalculator(model, dtype="float64", electric_field=[0.4, -0.9, 0.6])
    assert calculator.field_order == 2
    atoms.calc = calculator
    start, forces = atoms.positions.copy(), atoms.get_forces()
    found = []
    for sign in (1, -1):
        atoms.positions = start
        atoms.positions[1, 2] += sign * 1e-4
        found.append(atoms.get_potential_energy())
    assert forces[1, 2] == pytest.approx(-(found[0] - found[1]) / 2e-4, abs=2e-6)
    first = BECCalculator(model, dtype="float64", electric_field=[0.4, -0.9, 0.6], field_order=1)
    atoms.calc = first
    atoms.positions = start
    assert np.abs(atoms.get_forces() - forces).max() > 1e-3
    atoms.calc = calculator
    work, n = 0.0, 48
    for angle in 2 * np.pi * np.arange(n) / n:
        atoms.positions = start
        atoms.positions[1] += 0.05 * np.array([np.cos(angle) - 1, np.sin(angle), np.sin(2 * angle)])
        tangent = 0.05 * np.array([-np.sin(angle), np.cos(angle), 2 * np.cos(2 * angle)])
        work += calculator.get_property("field_forces", atoms)[1] @ tangent * 2 * np.pi / n
    assert work == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("response", ["dipoles", "edges"])
def test_training_differentiates_all_of_it(response) -> None:
    """Gradients of a loss of everything by the weights, against differences along a direction."""
    model, frame = copy_model(multipole_model(response)), FRAMES["crystal"]
    graph = build_graph(frame, model.r_max)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    generator = torch.Generator().manual_seed(5)
    along = [torch.randn(weight.shape, generator=generator, dtype=weight.dtype) for weight in weights]

    def loss() -> torch.Tensor:
        out = model(graph, (Z, "forces", "energy", "polarizability", "stress"), create_graph=True)
        return sum(value.square().sum() for value in out.values())

    model.eval()
    gradients = torch.autograd.grad(loss(), weights, allow_unused=True)
    found = sum(float((one * two).sum()) for one, two in zip(gradients, along, strict=True) if one is not None)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for weight, step in zip(weights, along, strict=True):
                weight += sign * 1e-6 * step
        values.append(float(loss().detach()))
        with torch.no_grad():
            for weight, step in zip(weights, along, strict=True):
                weight -= sign * 1e-6 * step
    assert found == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)
    missing = [name for (name, _), one in zip(model.named_parameters(), gradients, strict=True) if one is None]
    assert not [name for name in missing if "electrostatics.response" in name or "quadrupole" in name]


def test_polarizabilities_are_positive() -> None:
    """Whatever the weights; and the conductance of an edge is that of its reverse."""
    model = copy_model(multipole_model("dipoles"))
    with torch.no_grad():
        for weight in model.electrostatics.response.parameters():
            weight.mul_(3.0)
    alpha = evaluate(model, FRAMES["molecule"], "polarizability")["polarizability"][0]
    assert torch.linalg.eigvalsh(alpha).min() > 0
    assert (alpha - alpha.T).abs().max() < 1e-12
    edges = evaluate(multipole_model("edges"), FRAMES["molecule"], "induced_charges")["induced_charges"]
    assert abs(float(edges.sum())) < 1e-12 < 1e-3 < float(edges.abs().max())


def test_fixed_screening_takes_the_response_off() -> None:
    """It is the same wherever the atoms go, and that of epsilon_infinity where there is no volume."""
    model, crystal = multipole_model("dipoles", "fixed"), FRAMES["crystal"]
    gamma = evaluate(model, crystal, "screening")["screening"]
    means = model.electrostatics.mean_polarizabilities[[model.elements.index(z) for z in crystal.atomic_numbers]]
    chi = 4 * np.pi * COULOMB_CONSTANT * float(means.sum()) / abs(np.linalg.det(crystal.cell))
    assert gamma.numpy() == pytest.approx(np.sqrt(1.78 / (1 + chi)), rel=1e-12)
    assert chi > 0.01
    assert evaluate(model, FRAMES["molecule"], "screening")["screening"].numpy() == pytest.approx(np.sqrt(1.78), rel=1e-12)


def test_training_notes_the_mean_polarizabilities() -> None:
    model, frame = copy_model(multipole_model("dipoles", "fixed")), FRAMES["crystal"]
    model.electrostatics.mean_polarizabilities.zero_()
    model.train()
    model(build_graph(frame, model.r_max), ("forces",), create_graph=True)
    means = model.electrostatics.mean_polarizabilities.clone()
    there = sorted({model.elements.index(z) for z in frame.atomic_numbers})
    assert (means[there] > 0).all() and "electrostatics.mean_polarizabilities" in model.own_tensors()
    model.eval()
    model(build_graph(frame, model.r_max), ("forces",), create_graph=True)
    assert torch.equal(model.electrostatics.mean_polarizabilities, means)


EXCHANGE = {"dipoles": "isotropic", "charges": "atoms"}


@pytest.mark.parametrize(
    ("heads", "screening"),
    [(HEADS, "fixed"), (HEADS, "local"), (("monopole", "quadrupole", "energy"), "local"), (("monopole", "energy"), "global")],
    ids=["all-fixed", "all-local", "monopole-local", "monopole-global"],
)
def test_exchanged_charges_against_displacement_waves(heads, screening) -> None:
    """Z* of charges that atoms exchange with the whole, whose arms go through the potential."""
    model = copy_model(make_static_model(heads, screening, heads[:-1], {"charges": "atoms"}, acoustic_sum_rule="none"))
    frame = FRAMES["crystal"]
    with torch.no_grad():
        model.electrostatics.response.capacity_references.add_(1.0)
    part = exchange_part(model, frame)
    for atom, axis in ((0, 0), (1, 2)):
        expected, along = exchange_at_long_waves(model, frame, atom, axis)
        assert along @ part[atom, :, axis] == pytest.approx(expected, abs=1e-7)
        assert abs(expected) > 4e-4


@pytest.mark.parametrize("kind", ["crystal", "molecule"])
def test_energy_forces_and_blocks_of_exchanged_charges(kind) -> None:
    model, frame = make_static_model(HEADS, "local", HEADS[:3], EXCHANGE, acoustic_sum_rule=None), FRAMES[kind]
    assert model.projects and not model.has_enthalpy and "polarization" not in model.provides
    out = evaluate(model, frame, Z, "forces", "induced_charges")
    assert np.abs(picked(out["forces"]) + slopes(model, frame, "energy")).max() < 2e-6
    assert out[Z].sum(dim=0).abs().max() < 1e-12
    assert abs(float(out["induced_charges"].sum())) < 1e-12 < 1e-3 < float(out["induced_charges"].abs().max())
    blocks = evaluate(model, frame, Z, "forces", block_size=2)
    for name, value in blocks.items():
        assert (value - out[name]).abs().max() < 1e-12
    if kind == "crystal":
        double = evaluate(model, repeat(frame, (1, 2, 1)), Z, "forces")
        for name, value in double.items():
            assert (value - out[name].repeat(2, *[1] * (value.dim() - 1))).abs().max() < 1e-10


def test_mesh_gives_the_same_exchange() -> None:
    model = make_static_model(HEADS, "fixed", HEADS[:3], EXCHANGE)
    other, exact = copy_model(model), evaluate(model, FRAMES["crystal"], Z)[Z]
    other.electrostatics.coulomb = replace(other.electrostatics.coulomb, method="mesh")
    assert (evaluate(other, FRAMES["crystal"], Z)[Z] - exact).abs().max() < 1e-6


def test_slabs_have_no_exchange() -> None:
    model = make_static_model(HEADS, "fixed", HEADS[:3], EXCHANGE)
    assert float(evaluate(model, FRAMES["slab"], "energy")["energy"]) != 0
    with pytest.raises(ModelError, match="frame 0 of the batch is a slab, of which charges that atoms exchange"):
        evaluate(model, FRAMES["slab"], Z)


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("source", ["head", "dipoles", "edges"])
def test_raman_tensors_against_finite_differences(source, kind) -> None:
    model = make_model(("dipole", "polarizability")) if source == "head" else multipole_model(source)
    frame = FRAMES[kind]
    tensors = evaluate(model, frame, "raman_tensors")["raman_tensors"]
    assert np.abs(picked(tensors) - slopes(model, frame, "polarizability")).max() < 1e-6
    assert (tensors - tensors.transpose(1, 2)).abs().max() == 0 and tensors.sum(dim=0).abs().max() < 1e-12
    assert tensors.abs().max() > 1e-3
    blocks = evaluate(model, frame, "raman_tensors", "polarizability", block_size=2)["raman_tensors"]
    assert (blocks - tensors).abs().max() < 1e-12
    trained = evaluate(model, frame, "raman_tensors", create_graph=True)["raman_tensors"]
    assert (trained - tensors).abs().max() < 1e-12 and trained.requires_grad


def test_raman_tensors_need_a_polarizability() -> None:
    assert "raman_tensors" not in multipole_model("rigid").provides
    with pytest.raises(ModelError, match="does not give raman_tensors"):
        evaluate(multipole_model("dipoles", "local"), FRAMES["molecule"], "raman_tensors")
