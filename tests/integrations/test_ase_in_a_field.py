"""The calculator in an electric field, alone and beside another calculator."""

from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet
from ase.units import fs

from bec_mace.config.model import ModelConfig
from bec_mace.data import Statistics
from bec_mace.electric_field import GaussianPulse, SinusoidField
from bec_mace.errors import FieldError, ModelError
from bec_mace.integrations.ase import BECCalculator
from bec_mace.models import PolarizationModel, build_model

Z = "born_effective_charges"
FIELD = np.array([0.3, -0.2, 0.5])
CONSERVATIVE = ("charge_transfer", "dipole", "energy")


@cache
def make_model(*heads):
    torch.manual_seed(1)
    config = ModelConfig(
        r_max=3.0, channels=4, max_l=1, num_interactions=1, num_radial=4, radial_mlp=[8], readout_mlp=[4], heads=list(heads)
    )
    model = build_model(config, [1, 8], Statistics(5.0, {1: 0.4, 8: -0.8}, {1: -10.0, 8: -400.0}, 1.0), torch.float64)
    with torch.no_grad():
        for name, head in model.heads.items():
            for parameter in head.parameters():
                parameter.mul_(1.0 if name == "energy" else 3.0)
    return model


def make_calculator(heads=CONSERVATIVE, electric_field=FIELD, **options):
    return BECCalculator(make_model(*heads), electric_field=electric_field, dtype="float64", **options)


@pytest.fixture
def crystal():
    """Atoms outside the cell, and on both sides of its walls."""
    positions = [[0.1, 0.0, 0.2], [0.9, 0.1, 0.0], [0.0, 1.0, -0.1], [2.0, 2.1, 2.2]]
    atoms = Atoms("OHHO", positions, cell=[[4.0, 0, 0], [0.7, 4.2, 0], [0.3, -0.5, 4.5]], pbc=True)
    atoms.positions[1] += atoms.cell[0] - 2 * atoms.cell[2]
    return atoms


@pytest.fixture
def molecule():
    return Atoms("OHHO", [[3.1, 0.0, 0.2], [3.9, 0.1, 0.0], [3.0, 1.0, -0.1], [5.0, 2.1, 1.2]])


@pytest.fixture
def passes(monkeypatch):
    """What was asked of the model in each pass, and whether in a field."""
    seen = []
    forward = PolarizationModel.forward

    def watched(self, graph, properties=(), electric_field=None, **options):
        seen.append((set(properties), electric_field is not None))
        return forward(self, graph, properties, electric_field=electric_field, **options)

    monkeypatch.setattr(PolarizationModel, "forward", watched)
    return seen


def numerical_forces(atoms, calc, step=1e-4):
    forces = np.zeros((len(atoms), 3))
    for place in np.ndindex(forces.shape):
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[place] += sign * step
            forces[place] -= sign * calc.get_potential_energy(moved) / (2 * step)
    return forces


@pytest.mark.parametrize("heads", [CONSERVATIVE, ("monopole", "energy"), ("direct", "energy")])
@pytest.mark.parametrize("base", [None, EMT])
def test_the_force_of_the_field_is_the_field_times_the_charges(crystal, heads, base):
    calc = make_calculator(heads, base=base and base())
    alone = base() if base else make_calculator(heads, None)
    tensors = make_calculator(heads, None).get_property(Z, crystal)
    expected = np.einsum("a,jab->jb", FIELD, tensors)
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(calc.get_forces(crystal), alone.get_forces(crystal) + expected, atol=1e-12)
    np.testing.assert_allclose(calc.get_property("field_forces", crystal), expected, atol=1e-12)
    np.testing.assert_allclose(calc.get_property("base_forces", crystal), alone.get_forces(crystal), atol=1e-12)
    assert calc.get_property("base_energy", crystal) == pytest.approx(alone.get_potential_energy(crystal), abs=1e-11)
    assert set(calc.results) <= set(calc.implemented_properties)


@pytest.mark.parametrize("pbc", [True, (True, False, True), False])
@pytest.mark.parametrize("base", [None, EMT])
def test_forces_are_the_derivative_of_the_energy(crystal, pbc, base):
    """Of unwrapped atoms; the energy of the field is -E·P."""
    crystal.pbc = pbc
    calc = make_calculator(base=base and base())
    expected = numerical_forces(crystal, calc)
    np.testing.assert_allclose(calc.get_forces(crystal), expected, atol=1e-6)
    energy = calc.get_property("field_energy", crystal)
    assert abs(energy) > 0.5
    assert calc.get_potential_energy(crystal) == calc.get_property("base_energy", crystal) + energy
    assert calc.get_potential_energy(crystal, force_consistent=True) == calc.get_potential_energy(crystal)


def test_the_energy_of_a_molecule_is_that_of_its_dipole(molecule):
    for heads in (CONSERVATIVE, ("monopole", "energy"), ("monopole", "dipole", "energy")):
        calc = make_calculator(heads)
        energy = calc.get_potential_energy(molecule) - make_calculator(heads, None).get_potential_energy(molecule)
        assert energy == pytest.approx(-FIELD @ calc.get_dipole_moment(molecule), abs=1e-11)
        assert calc.results["field_energy"] == pytest.approx(energy, abs=1e-11)


@pytest.mark.parametrize("heads", [("monopole", "energy"), ("direct", "energy"), ("direct", "dipole", "energy")])
def test_where_there_is_no_polarization_the_energy_holds_the_work(crystal, rng, heads):
    calc, bare = make_calculator(heads), make_calculator(heads, None)
    path = [crystal.positions + rng.normal(scale=0.05, size=(4, 3)) for _ in range(5)]
    work, old = 0.0, None
    for number, positions in enumerate(path):
        crystal.positions = positions
        if number == 3:
            crystal.wrap()
        forces = np.einsum("a,jab->jb", FIELD, bare.get_property(Z, crystal))
        if old is not None:
            work += 0.5 * np.sum((forces + old[1]) * (positions - old[0]))
        old = positions, forces
        calc.get_forces(crystal)
        calc.get_property(Z, crystal)  # Asking again at the same place adds nothing.
        assert calc.get_potential_energy(crystal) == pytest.approx(bare.get_potential_energy(crystal) - work, abs=1e-10)
        assert calc.get_property("field_work", crystal) == pytest.approx(work, abs=1e-11)
        assert "field_energy" not in calc.results
    assert abs(work) > 1e-3


def test_work_and_energy_of_the_field_agree_along_small_steps(crystal, rng):
    calc = make_calculator()
    start = calc.get_property("field_energy", crystal)
    kick = rng.normal(scale=0.01, size=(4, 3))
    for _ in range(10):
        crystal.positions += kick
        calc.get_forces(crystal)
    change = calc.get_property("field_energy", crystal) - start
    assert calc.get_property("field_work", crystal) == pytest.approx(-change, rel=1e-3)
    assert abs(change) > 1e-2


def test_a_field_alone_takes_the_short_way(crystal, passes):
    calc = make_calculator()
    forces = calc.get_forces(crystal)
    energy = calc.get_potential_energy(crystal)
    assert [(Z in names, in_field) for names, in_field in passes] == [(False, True)]
    whole = make_calculator(always=[Z])
    np.testing.assert_allclose(whole.get_forces(crystal), forces, atol=1e-13)
    assert whole.get_potential_energy(crystal) == pytest.approx(energy, abs=1e-11)
    whole.get_property(Z, crystal)
    assert [(Z in names, in_field) for names, in_field in passes] == [(False, True), (True, True)]


def test_a_base_calculator_is_asked_once_and_the_model_only_when_needed(crystal, passes):
    base = EMT()
    calls = []
    calculate = base.calculate
    base.calculate = lambda *args: (calls.append(1), calculate(*args))[1]
    calc = make_calculator(base=base, electric_field=None)
    for _ in range(2):
        crystal.rattle(0.01)
        calc.get_forces(crystal), calc.get_potential_energy(crystal), calc.get_stress(crystal)
    assert len(calls) == 2 and passes == []
    np.testing.assert_allclose(calc.get_stress(crystal), EMT().get_stress(crystal), atol=1e-12)
    calc.get_property(Z, crystal)
    assert len(passes) == 1 and "energy" not in passes[0][0] and len(calls) == 2
    assert make_calculator(("charge_transfer",), None).implemented_properties == [Z, "charges", "dipole"]
    calc = make_calculator(("charge_transfer",), base=EMT())
    assert {"energy", "forces", "stress", "free_energy", "field_work", "base_energy"} <= set(calc.implemented_properties)
    calc.get_forces(crystal), calc.get_potential_energy(crystal)
    assert len(passes) == 2


def test_the_time_counts_only_as_the_field_does(crystal, passes):
    field = SinusoidField(FIELD, frequency_cm=1000.0)
    calc = make_calculator(electric_field=field)
    bare = calc.get_property("base_forces", crystal)
    shares = []
    for time in (2.0, 5.0):
        calc.time_fs = time
        shares.append(calc.get_forces(crystal) - bare)
        calc.get_potential_energy(crystal)
    np.testing.assert_allclose(shares[1] * field(2.0)[0], shares[0] * field(5.0)[0], atol=1e-12)
    assert np.abs(shares[1]).max() > 0.05
    assert len(passes) == 3
    assert calc.check_state(crystal) == [] and not calc.calculation_required(crystal, ["forces"])
    calc.time_fs = 6.0
    assert calc.check_state(crystal) == ["electric_field"] and calc.calculation_required(crystal, ["forces"])
    still = make_calculator()
    still.get_forces(crystal)
    still.time_fs = 100.0
    still.get_forces(crystal)
    assert len(passes) == 4


def test_a_field_that_is_zero_costs_and_changes_nothing(crystal, passes):
    calc = make_calculator(electric_field=GaussianPulse(FIELD, 1000.0, 5.0))
    bare = make_calculator(electric_field=None)
    np.testing.assert_allclose(calc.get_forces(crystal), bare.get_forces(crystal), atol=1e-13)
    assert calc.get_potential_energy(crystal) == bare.get_potential_energy(crystal)
    assert not any(Z in names for names, _ in passes)
    assert calc.results["field_energy"] == calc.results["field_work"] == 0.0
    np.testing.assert_array_equal(calc.results["field_forces"], 0.0)
    np.testing.assert_allclose(calc.get_stress(crystal), bare.get_stress(crystal), atol=1e-14)


def test_a_field_can_be_changed(crystal):
    calc = make_calculator()
    first = calc.get_forces(crystal)
    calc.electric_field = -FIELD
    np.testing.assert_allclose(calc.get_forces(crystal) + first, 2 * calc.results["base_forces"], atol=1e-12)
    calc.electric_field = None
    calc.get_forces(crystal)
    assert "field_forces" not in calc.results and "field_forces" not in calc.implemented_properties


def test_without_a_potential_there_are_still_forces_of_the_field(crystal):
    calc = make_calculator(("charge_transfer", "dipole"))
    assert calc.get_property("field_forces", crystal).shape == (4, 3)
    assert "forces" not in calc.implemented_properties and "base_forces" not in calc.implemented_properties


def test_what_a_user_does_to_results_changes_no_next_step(crystal, rng):
    kicks = rng.normal(scale=0.03, size=(4, 4, 3))
    energies = []
    field = FIELD.copy()
    for meddle in (False, True):
        atoms, calc = crystal.copy(), make_calculator(("monopole", "energy"), field, base=EMT())
        for kick in kicks:
            atoms.positions += kick
            forces = calc.get_forces(atoms)
            if meddle:
                forces[:] = 1.0
                for value in calc.results.values():
                    if isinstance(value, np.ndarray):
                        value[:] = 9.0
                calc.results["field_work"] = 5.0
                calc.base.results["forces"][:] = 3.0
                field[:] = 7.0
        energies.append((calc.get_potential_energy(atoms), calc.get_forces(atoms)))
        field[:] = FIELD
    assert energies[0][0] == energies[1][0]


@pytest.mark.parametrize("heads", [CONSERVATIVE, ("monopole", "energy")])
def test_a_run_goes_on_from_its_state(crystal, rng, heads):
    kicks = rng.normal(scale=0.03, size=(6, 4, 3))
    field = SinusoidField(FIELD, 2000.0, phase=1.0)

    def go_on(atoms, calc, numbers):
        for number in numbers:
            atoms.positions += kicks[number]
            calc.time_fs = 0.5 * number
            calc.get_forces(atoms)
        return calc.get_potential_energy(atoms), calc.results["field_work"]

    whole = go_on(crystal.copy(), make_calculator(heads, field), range(6))
    atoms, first, second = crystal.copy(), make_calculator(heads, field), make_calculator(heads, field)
    go_on(atoms, first, range(3))
    state = {name: np.array(value) for name, value in first.state().items()}
    second.set_state(state)
    assert second.time_fs == 1.0
    second.get_forces(atoms)  # At the place where the state was taken.
    assert go_on(atoms, second, range(3, 6)) == whole
    second.reset_field_work()
    second.get_forces(atoms)
    assert second.results["field_work"] == 0.0
    with pytest.raises(FieldError, match="state of the field's work is incomplete"):
        second.set_state({"time_fs": 1.0})


@pytest.mark.parametrize("heads", [CONSERVATIVE, ("monopole", "energy")])
@pytest.mark.parametrize("field", [FIELD, SinusoidField(FIELD, 3000.0)])
def test_dynamics_conserve_energy_less_work(crystal, heads, field):
    """Halving the step quarters the error of velocity Verlet; anything missing in the balance would stay."""
    errors = []
    for step, count in ((0.4, 8), (0.2, 16)):
        atoms = crystal.copy()
        atoms.calc = calc = make_calculator(heads, field)
        dynamics = VelocityVerlet(atoms, step * fs)
        forces, start = atoms.get_forces(), calc.results["base_energy"]
        for number in range(count):
            calc.time_fs = (number + 1) * step
            forces = dynamics.step(forces)
        results = calc.results
        errors.append(abs(atoms.get_kinetic_energy() + results["base_energy"] - results["field_work"] - start))
    assert abs(results["field_work"]) > 100 * errors[1]
    assert errors[0] == pytest.approx(4 * errors[1], rel=0.1)


def test_mistakes_are_named(crystal, molecule):
    with pytest.raises(ModelError, match=r"a field needs Born effective charges, and .* give none \(energy\)"):
        make_calculator(("energy",))
    with pytest.raises(FieldError, match="vector must be three numbers"):
        make_calculator(electric_field=[0.1])
    with pytest.raises(FieldError, match="value at 3 fs must be finite"):
        calc = make_calculator(electric_field=lambda time: [0.0, 0.0, np.inf if time > 2 else 0.0])
        calc.get_forces(crystal)
        calc.time_fs = 3.0
        calc.get_forces(crystal)
    for base in (None, EMT()):
        with pytest.raises(ModelError, match="no stress in an electric field"):
            make_calculator(base=base).get_stress(crystal)
