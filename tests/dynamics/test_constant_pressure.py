"""Constant pressure against what its ensemble says, for copper in a cell without right angles."""

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT

from bec_mace.config.dynamics import EnsembleConfig
from bec_mace.dynamics import run
from bec_mace.dynamics.ensembles import build_integrator, draw_momenta, pressure, temperature
from bec_mace.errors import ConfigError, DynamicsError
from bec_mace.spectra.currents import Currents

from .test_integrate import frames, killed_at

NAMES = ["npt_isotropic", "npt_triclinic"]
KELVIN, TARGET = 300.0, 1.5  # GPa: far from the pressure of the cell that it starts in
EMT_COPPER = {"calculator": "ase.calculators.emt:EMT"}


def copper(n_cells=2):
    """A sheared supercell of the primitive cell: no right angle, and no axis along x, y or z."""
    atoms = bulk("Cu", a=3.62).repeat(n_cells)
    atoms.set_cell(atoms.cell.array @ np.array([[1.0, 0.02, 0.0], [0.0, 1.01, 0.03], [0.01, 0.0, 0.99]]), scale_atoms=True)
    return atoms


def ensemble(name, **changes):
    given = {"temperature": KELVIN, "time_constant": 30.0, "pressure": TARGET, "pressure_time_constant": 250.0}
    return {"name": name, **given, **changes}


@pytest.fixture
def copper_file(tmp_path):
    ase.io.write(tmp_path / "copper.traj", copper())
    return str(tmp_path / "copper.traj")


@pytest.fixture
def copper_config(md_config, copper_file):
    """Eight atoms of copper at constant pressure."""

    def make(name, **values):
        given = {"structure": copper_file, "potential": EMT_COPPER, "ensemble": ensemble(name), "time_step": 3.0}
        return md_config(**{**given, **values})

    return make


def sampled(name, n_steps, seed=3):
    """Pressure less the target (GPa), volume (Å^3), energy of the cell (eV), temperature (K), conserved energy (eV)."""
    atoms, rng = copper(), np.random.default_rng(seed)
    atoms.calc = EMT()
    draw_momenta(atoms, KELVIN, rng)
    integrator = build_integrator(atoms, EnsembleConfig(**ensemble(name)), 4.0, rng)
    tensors, volumes, of_cell, kelvin, conserved = [], [], [], [], []
    for _ in range(n_steps):
        integrator.step()
        tensors.append(-atoms.get_stress(voigt=False, include_ideal_gas=True) / units.GPa - TARGET * np.eye(3))
        volumes.append(atoms.get_volume())
        momentum = getattr(integrator.dynamics, integrator.momentum)
        of_cell.append(np.sum(momentum**2) / (2 * integrator._barostat.W))
        kelvin.append(temperature(atoms))
        conserved.append(atoms.get_total_energy() + integrator.outside_energy())
    assert np.trace(tensors[-1]) / 3 + TARGET == pytest.approx(pressure(atoms))
    assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-9
    start = n_steps // 10
    return *(np.array(values)[start:] for values in (tensors, volumes, of_cell, kelvin)), np.array(conserved)


def mean_and_error(values, blocks=20):
    """Mean over time and its standard error from blocks."""
    means = np.array([part.mean(axis=0) for part in np.array_split(values, blocks)])
    return means.mean(axis=0), means.std(axis=0, ddof=1) / np.sqrt(blocks)


@pytest.mark.parametrize(("name", "n_cell", "bar"), [("npt_isotropic", 1, 0.3), ("npt_triclinic", 6, 0.6)])
def test_the_pressure_is_the_one_asked_for(name, n_cell, bar):
    """The mean of the pressure, of V (p - P) = -kT, of the cell's kinetic energy, n kT / 2; and what is conserved."""
    tensors, volumes, of_cell, kelvin, conserved = sampled(name, 3000)
    scalar = np.trace(tensors, axis1=1, axis2=2) / 3
    mean, error = mean_and_error(scalar)
    assert abs(mean) < 4 * error and error < 0.1
    virial, error = mean_and_error(volumes * scalar * units.GPa / (units.kB * KELVIN))
    assert abs(virial + 1) < 4 * error and error < 0.5
    kinetic, error = mean_and_error(2 * of_cell / (units.kB * KELVIN))
    assert abs(kinetic - n_cell) < 4 * error and error < bar
    if name == "npt_triclinic":
        mean, error = mean_and_error(tensors)
        assert (np.abs(mean) < 4.5 * error).all() and error.max() < 0.2
    mean, error = mean_and_error(kelvin)
    assert abs(mean - KELVIN) < 4 * error and error < 0.03 * KELVIN
    assert np.ptp(conserved) < 0.03  # of 8 atoms, in eV


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_resumes_exactly(name, copper_config, tmp_path, monkeypatch, state_of):
    points = [[0, 200.0], [9, 500.0], [17, 300.0]]
    common = {"steps": 19, "ensemble": ensemble(name, temperature=points), "sampling": {"trajectory": 2, "checkpoint": 5}}
    whole, cut = (copper_config(name, output=tmp_path / folder, **common) for folder in ("whole", "cut"))
    expected = run(whole)
    killed_at(monkeypatch, cut, 13)
    summary = run(cut, resume=True)
    one, other = state_of(whole.output), state_of(cut.output)
    assert all(np.array_equal(one[key], other[key]) for key in one)
    a, b = frames(whole)[-1], frames(cut)[-1]
    assert np.array_equal(a.cell.array, b.cell.array) and not np.array_equal(a.cell.array, frames(whole)[0].cell.array)
    assert np.array_equal(a.get_stress(), b.get_stress()) and np.array_equal(a.positions, b.positions)
    assert summary.mean_pressure_GPa == expected.mean_pressure_GPa and summary.mean_volume_A3 == expected.mean_volume_A3
    assert summary.drift_ev_per_atom_ps == expected.drift_ev_per_atom_ps


def test_shapes_that_stay_and_shapes_that_change(copper_config, tmp_path):
    """The isotropic cell keeps angles and ratios of lengths; the other loses them and does not turn."""
    cells = {}
    for name in NAMES:
        run(copper_config(name, output=tmp_path / name, steps=60))
        cells[name] = [frame.cell.array for frame in frames(copper_config(name, output=tmp_path / name))]
    strain = np.linalg.inv(cells[NAMES[0]][0]) @ cells[NAMES[0]][-1]
    np.testing.assert_allclose(strain, strain[0, 0] * np.eye(3), atol=1e-12)
    assert abs(strain[0, 0] - 1) > 1e-3
    strain = np.linalg.inv(cells[NAMES[1]][0]) @ cells[NAMES[1]][-1]
    assert np.ptp(np.diag(strain)) > 1e-3 and abs(strain[0, 1]) > 1e-4


def test_pressure_and_volume_are_told(copper_config):
    summary = run(copper_config("npt_isotropic"))
    log = (copper_config("npt_isotropic").output / "md.log").read_text()
    line = next(line.split() for line in log.splitlines() if line.split()[:1] == ["12"])
    image = frames(copper_config("npt_isotropic"))[-1]
    assert "P/GPa        V/Å^3" in log and float(line[8]) == pytest.approx(image.get_volume(), abs=1e-3)
    kinetic = 2 * image.get_kinetic_energy() / (3 * image.get_volume())
    assert float(line[7]) == pytest.approx((kinetic - image.get_stress()[:3].mean()) / units.GPa, abs=1e-4)
    assert "mean pressure" in summary.text() and "at 300 K, 30 fs, 1.5 GPa, 250 fs" in log


def test_currents_know_the_volume_of_their_step(md_config, energy_model, write_extxyz):
    cell = [[6.0, 0.4, 0.0], [0.0, 5.5, 0.7], [0.3, 0.0, 6.2]]
    atoms = Atoms("OHHC", [[0, 0, 0], [0.9, 0.3, 0], [-0.2, 0.9, 0.3], [2.0, 1.6, 2.2]], cell=cell, pbc=True)
    given = {"structure": str(write_extxyz(atoms)), "potential": energy_model, "limits": {"temperature": 1e6}}
    config = md_config(ensemble=ensemble("npt_triclinic", pressure=50.0), sampling={"currents": 2, "trajectory": 2}, **given)
    run(config)
    volumes = Currents.read(config.output).volume
    np.testing.assert_allclose(volumes, [frame.get_volume() for frame in frames(config)], rtol=1e-12)
    assert np.ptp(volumes) > 1e-4


def test_where_there_is_no_pressure(md_config, copper_config, write_extxyz):
    with pytest.raises(DynamicsError, match="is not periodic, and npt_isotropic changes a cell that is periodic in three"):
        run(md_config(ensemble=ensemble("npt_isotropic")))
    slab = copper()
    slab.pbc = [True, False, True]
    with pytest.raises(DynamicsError, match="is periodic along a and c only, and npt_triclinic"):
        run(copper_config("npt_triclinic", structure=str(write_extxyz(slab))))
    with pytest.raises(DynamicsError, match="potential: gives no stress, and npt_isotropic needs one"):
        run(copper_config("npt_isotropic", potential={"calculator": "tests.dynamics.springs:Springs"}))
    assert not md_config().output.exists()
    with pytest.raises(ConfigError, match="electric_field: there is no stress in an electric field, and npt_isotropic needs"):
        copper_config("npt_isotropic", charges="water", electric_field=[0.0, 0.0, 0.1])
