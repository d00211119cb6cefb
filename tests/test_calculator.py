import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

import bec_mace
from bec_mace.calculator import BECCalculator
from bec_mace.config import ModelConfig
from bec_mace.data import Frame, Statistics, build_graph
from bec_mace.errors import ModelError
from bec_mace.models import build_model, save_model

Z = "born_effective_charges"


def make_model(heads):
    torch.manual_seed(0)
    config = ModelConfig(r_max=3.0, channels=4, max_l=1, num_interactions=1, num_radial=4, radial_mlp=[8],
                         readout_mlp=[4], heads=heads)
    statistics = Statistics(5.0, {1: 0.4, 8: -0.8}, {1: -10.0, 8: -400.0}, 1.0)
    return build_model(config, [1, 8], statistics, torch.float64)


@pytest.fixture(scope="module")
def model():
    return make_model(["monopole", "dipole", "energy"])


@pytest.fixture
def water(files):
    return ase.io.read(files / "water_clusters_rpbe_d3.extxyz", index=-1)


@pytest.fixture
def crystal():
    positions = [[0.1, 0.0, 0.2], [0.9, 0.1, 0.0], [0.0, 1.0, -0.1], [2.0, 2.1, 2.2]]
    return Atoms("OHHO", positions, cell=[[4.0, 0, 0], [0.7, 4.2, 0], [0.3, -0.5, 4.5]], pbc=True)


def test_charges_are_those_of_the_model(model, crystal):
    crystal.calc = BECCalculator(model, dtype="float64")
    expected = model(build_graph(Frame.from_atoms(crystal, properties=()), model.r_max), (Z, "charges"))
    np.testing.assert_allclose(crystal.calc.get_property(Z, crystal), expected[Z].numpy(), atol=1e-13)
    np.testing.assert_allclose(crystal.get_charges(), expected["charges"].numpy(), atol=1e-13)
    assert crystal.calc.get_property(Z, crystal).shape == (4, 3, 3)


def test_forces_and_stress_are_derivatives_of_the_energy(model, crystal):
    crystal.calc = BECCalculator(model, dtype="float64")
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


def test_results_are_copies(model, water):
    water.calc = BECCalculator(model)
    kept = water.calc.get_property(Z, water).copy()
    water.calc.get_property(Z, water)[:] = 7.0
    np.testing.assert_array_equal(water.calc.get_property(Z, water), kept)
    assert kept.dtype == np.float64
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
    water.calc = BECCalculator(make_model(["charge_transfer"]))
    assert {"energy", "forces", "free_energy"}.isdisjoint(water.calc.implemented_properties)
    assert water.calc.get_property(Z, water).shape == (len(water), 3, 3)
    with pytest.raises(PropertyNotImplementedError):
        water.get_potential_energy()


def test_an_energy_model_calculates_energies_by_default(water):
    calculator = BECCalculator(make_model(["energy"]))
    calculator.calculate(water)
    assert set(calculator.results) == {"energy", "free_energy", "forces"}


def test_a_model_is_loaded_by_path(model, water, tmp_path):
    save_model(model, tmp_path / "model", {})
    values = [bec_mace.BECCalculator(source, dtype="float64").get_property(Z, water)
              for source in (model, str(tmp_path / "model"), tmp_path / "model.safetensors")]
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
    with pytest.raises(ModelError, match="the calculator has no atoms"):
        BECCalculator(model).calculate()
    with pytest.raises(ModelError, match="has not seen Na"):
        calculator.get_property(Z, Atoms("NaH", [[0, 0, 0], [0, 0, 2.0]]))
