from functools import cache

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.vibrations import Infrared

import bec_mace
from bec_mace.config.model import ModelConfig
from bec_mace.data import Frame, Statistics, build_graph
from bec_mace.errors import DataError, ModelError
from bec_mace.integrations.ase import BECCalculator
from bec_mace.models import PolarizationModel, build_model, save_model
from bec_mace.testing.small_models import copy_model

Z = "born_effective_charges"


@cache
def make_model(*heads):
    torch.manual_seed(0)
    config = ModelConfig(
        r_max=3.0, channels=4, max_l=1, num_interactions=1, num_radial=4, radial_mlp=[8], readout_mlp=[4], heads=list(heads)
    )
    statistics = Statistics(5.0, {1: 0.4, 8: -0.8}, {1: -10.0, 8: -400.0}, 1.0)
    return build_model(config, [1, 8], statistics, torch.float64)


@pytest.fixture(scope="module")
def model():
    return make_model("monopole", "dipole", "energy")


@pytest.fixture
def water(files):
    return ase.io.read(files / "water_clusters_rpbe_d3.extxyz", index=-1)


@pytest.fixture
def crystal():
    positions = [[0.1, 0.0, 0.2], [0.9, 0.1, 0.0], [0.0, 1.0, -0.1], [2.0, 2.1, 2.2]]
    return Atoms("OHHO", positions, cell=[[4.0, 0, 0], [0.7, 4.2, 0], [0.3, -0.5, 4.5]], pbc=True)


def test_charges_are_those_of_the_model(model, crystal, device):
    crystal.calc = BECCalculator(copy_model(model), device=str(device), dtype="float64")
    expected = model(build_graph(Frame.from_atoms(crystal, properties=()), model.r_max), (Z, "charges"))
    np.testing.assert_allclose(crystal.calc.get_property(Z, crystal), expected[Z].numpy(), atol=1e-13)
    np.testing.assert_allclose(crystal.get_charges(), expected["charges"].numpy(), atol=1e-13)
    assert crystal.calc.get_property(Z, crystal).shape == (4, 3, 3)


def test_forces_and_stress_are_derivatives_of_the_energy(model, crystal, device):
    crystal.calc = BECCalculator(copy_model(model), device=str(device), dtype="float64")
    assert crystal.get_potential_energy() < -800.0

    def slope(change):
        """Central difference of the energy along ``change(atoms, step)``."""
        energies, step = [], 1e-4
        for sign in (1, -1):
            changed = crystal.copy()
            change(changed, sign * step)
            changed.calc = crystal.calc
            energies.append(changed.get_potential_energy())
        return (energies[0] - energies[1]) / (2 * step)

    def move(atoms, step):
        atoms.positions[1, 2] += step

    def shear(atoms, step):
        strain = np.eye(3)
        strain[1, 2] = strain[2, 1] = 0.5 * step
        atoms.set_cell(atoms.cell @ strain, scale_atoms=True)

    assert crystal.get_forces()[1, 2] == pytest.approx(-slope(move), abs=1e-7)
    assert crystal.get_stress()[3] == pytest.approx(slope(shear) / crystal.get_volume(), abs=1e-8)
    assert crystal.get_stress().shape == (6,)
    assert crystal.get_potential_energy(force_consistent=True) == crystal.get_potential_energy()


def test_dipole_of_a_molecule(model, water):
    water.calc = BECCalculator(model, dtype="float64")
    expected = model(build_graph(Frame.from_atoms(water, properties=()), model.r_max), ("dipole",))["dipole"][0]
    np.testing.assert_allclose(water.get_dipole_moment(), expected.numpy(), atol=1e-12)


def test_atomic_dipoles_and_charges_make_the_dipole(water):
    water.calc = BECCalculator(make_model("charge_transfer", "dipole"), dtype="float64")
    dipoles = water.calc.get_property("dipoles", water)
    assert dipoles.shape == (len(water), 3) and np.abs(dipoles).min(axis=0).max() > 1e-6
    total = water.get_charges() @ water.positions + dipoles.sum(axis=0)
    np.testing.assert_allclose(water.get_dipole_moment(), total, atol=1e-13)
    assert "dipoles" not in BECCalculator(make_model("charge_transfer")).implemented_properties


def test_results_are_copies(model, water):
    water.calc = BECCalculator(model)
    kept = water.calc.get_property(Z, water).copy()
    water.calc.get_property(Z, water)[:] = 7.0
    np.testing.assert_array_equal(water.calc.get_property(Z, water), kept)
    assert kept.dtype == np.float64
    water.calc.results[Z][:] = 7.0
    water.calc.results.clear()
    np.testing.assert_array_equal(water.calc.results[Z], kept)
    water.calc.atoms.positions[:] += 1.0
    np.testing.assert_array_equal(water.calc.get_property(Z, water), kept)
    assert type(water.get_potential_energy()) is float


def test_moving_an_atom_changes_the_results_and_nothing_stale_stays(model, water):
    water.calc = BECCalculator(model, dtype="float64")
    first = water.calc.get_property(Z, water).copy()
    water.get_potential_energy()
    assert {Z, "energy"} <= set(water.calc.results)
    water.positions[0, 0] += 0.05
    assert np.abs(water.calc.get_property(Z, water) - first).max() > 1e-5
    assert "energy" not in water.calc.results


def test_atoms_are_not_changed(model, crystal):
    crystal.positions += 20.0
    before = crystal.copy()
    crystal.calc = BECCalculator(model)
    crystal.calc.get_property(Z, crystal)
    assert crystal == before


def test_a_model_without_energy_offers_none(water):
    water.calc = BECCalculator(make_model("charge_transfer"))
    assert {"energy", "forces", "free_energy"}.isdisjoint(water.calc.implemented_properties)
    assert water.calc.get_property(Z, water).shape == (len(water), 3, 3)
    with pytest.raises(PropertyNotImplementedError):
        water.get_potential_energy()


@pytest.fixture
def passes(monkeypatch):
    """What was asked of the model in each pass, and whether Z* was contracted."""
    seen = []
    forward = PolarizationModel.forward

    def watched(self, graph, properties=(), directions=None, **options):
        seen.append((set(properties), directions is not None))
        return forward(self, graph, properties, directions=directions, **options)

    monkeypatch.setattr(PolarizationModel, "forward", watched)
    return seen


def test_one_pass_gives_energy_forces_and_stress(model, crystal, passes):
    crystal.calc = BECCalculator(model)
    crystal.get_forces(), crystal.get_potential_energy(), crystal.get_stress(), crystal.get_charges()
    assert len(passes) == 1 and Z not in passes[0][0]
    crystal.calc.get_property(Z, crystal)
    assert len(passes) == 2 and "forces" not in passes[1][0]


def test_one_pass_gives_the_charges_too_when_told_to(model, crystal, passes):
    crystal.calc = BECCalculator(model, always=[Z])
    for _ in range(2):
        crystal.rattle(0.01)
        crystal.get_forces(), crystal.get_potential_energy(), crystal.calc.get_property(Z, crystal)
    assert len(passes) == 2


@pytest.mark.parametrize("heads", [["monopole", "energy"], ["charge_transfer", "dipole", "energy"]])
@pytest.mark.parametrize("small", [True, False])
def test_the_skin_changes_nothing(heads, small, crystal, rng):
    """Along a random walk, in a cell smaller than the cutoff too, with atoms wrapped and the cell changed on the way."""
    if small:
        crystal = crystal[[0, 3]]
        crystal.set_cell([[2.4, 0.2, -0.1], [0.6, 2.2, 0.3], [-0.4, 0.5, 2.4]])
        crystal.positions[1] = [1.3, 1.6, 1.1]
    else:
        crystal.positions[2] += crystal.cell[0] - 2 * crystal.cell[2]
    model = make_model(*heads)
    with_skin, without = (
        BECCalculator(model, dtype="float64", skin=skin, electric_field=[0.1, -0.2, 0.3]) for skin in (0.8, 0.0)
    )
    for step in range(12):
        crystal.positions += rng.normal(scale=0.04, size=crystal.positions.shape)
        if step == 5:
            crystal.wrap()
        if step == 8:
            crystal.set_cell(crystal.cell.array * 1.01, scale_atoms=True)
        for name in (Z, "forces", "field_forces", "energy"):
            expected = without.get_property(name, crystal)
            np.testing.assert_allclose(with_skin.get_property(name, crystal), expected, rtol=0, atol=1e-12)
    assert with_skin._neighbours.searches < 8 < without._neighbours.searches == 12


def test_what_ase_writes_and_reads(model, crystal, tmp_path):
    crystal.calc = BECCalculator(model, electric_field=[0.1, 0.0, 0.0], always=[Z])
    forces = crystal.get_forces()
    ase.io.write(tmp_path / "crystal.traj", crystal)
    np.testing.assert_array_equal(ase.io.read(tmp_path / "crystal.traj").get_forces(), forces)
    found = crystal.calc.calculate_properties(crystal, ["energy", "forces"])
    assert found["natoms"] == 4 and "field_forces" not in found


def infrared_by_hand(atoms, calc):
    """Intensities |d mu / d Q|^2 in (D/Å)^2/amu from Z* and a Hessian by central differences."""
    masses, step, n = atoms.get_masses(), 1e-3, 3 * len(atoms)
    hessian = np.zeros((n, n))
    for column in range(n):
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions.reshape(-1)[column] += sign * step
            hessian[column] -= sign * calc.get_forces(moved).ravel() / (2 * step)
    weights = np.repeat(masses**-0.5, 3)
    modes = np.linalg.eigh(weights[:, None] * (hessian + hessian.T) / 2 * weights)[1]
    slopes = calc.get_property(Z, atoms).transpose(1, 0, 2).reshape(3, n) @ (weights[:, None] * modes)
    return (slopes**2).sum(axis=0) / ase.units.Debye**2


def test_infrared_intensities_are_those_of_the_charges(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    molecule = Atoms("OHH", [[0.0, 0.0, 0.12], [0.0, 0.76, -0.47], [0.1, -0.79, -0.46]])
    molecule.calc = BECCalculator("water", dtype="float64")
    spectrum = Infrared(molecule, delta=1e-3)
    spectrum.run()
    spectrum.read()
    expected = infrared_by_hand(molecule, BECCalculator("water", dtype="float64"))
    assert expected.max() > 1.0
    np.testing.assert_allclose(spectrum.intensities, expected, atol=1e-3 * expected.max())


def test_an_energy_model_calculates_energies_by_default(water):
    calculator = BECCalculator(make_model("energy"))
    calculator.calculate(water)
    assert set(calculator.results) == {"energy", "free_energy", "forces"}


def test_a_model_is_loaded_by_path(model, water, tmp_path):
    save_model(model, tmp_path / "model", {})
    values = [
        bec_mace.BECCalculator(source, dtype="float64").get_property(Z, water)
        for source in (model, str(tmp_path / "model"), tmp_path / "model.safetensors")
    ]
    np.testing.assert_allclose(values[1], values[0], atol=1e-13)
    np.testing.assert_allclose(values[2], values[0], atol=1e-13)


def test_mistakes_are_named(model, crystal, water):
    with pytest.raises(ModelError, match="dtype must be one of float32, float64, got 'half'"):
        BECCalculator(model, dtype="half")
    calculator = BECCalculator(model)
    with pytest.raises(ModelError, match="depends on the choice of the cell"):
        calculator.get_property("dipole", crystal)
    with pytest.raises(ModelError, match="periodic in three directions"):
        calculator.get_property("stress", water)
    with pytest.raises(DataError, match="skin must be a number of Å"):
        BECCalculator(model, skin=-1.0)
    with pytest.raises(ModelError, match="base must be an ASE calculator, got str"):
        BECCalculator(model, base="emt")
    with pytest.raises(ModelError, match="always: the calculator does not give dipols, only born_effective_charges"):
        BECCalculator(model, always=["dipols"]).get_property(Z, crystal)
    with pytest.raises(ModelError, match="the calculator has no atoms"):
        BECCalculator(model).calculate()
    with pytest.raises(ModelError, match="has not seen Na"):
        calculator.get_property(Z, Atoms("NaH", [[0, 0, 0], [0, 0, 2.0]]))
