import numpy as np
import pytest
from ase import Atoms, units

from bec_mace.config.dynamics import EnsembleConfig
from bec_mace.config.ensembles import ENSEMBLES
from bec_mace.dynamics.ensembles import build_integrator, draw_momenta, stop_centre_of_mass, temperature

from .springs import Springs

# Ensembles of constant pressure need a cell: test_constant_pressure.py.
OF_CLUSTERS = {name: row for name, row in ENSEMBLES.items() if not row.has_barostat}


def cluster():
    """Four atoms of different mass around the corners of a tetrahedron."""
    corners = 0.45 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.2]])
    return Atoms("HOCH", positions=corners, calculator=Springs(stiffness=8.0))


def test_momenta_at_a_temperature(rng):
    """Each atom has m kT of every component, less the share of the centre of mass; the total is zero."""
    atoms = Atoms("HOCS", positions=np.zeros((4, 3)))
    samples = []
    for _ in range(4000):
        draw_momenta(atoms, 350.0, rng)
        samples.append((atoms.get_momenta(), temperature(atoms)))
    momenta = np.array([momentum for momentum, _ in samples])
    assert np.abs(momenta.sum(axis=1)).max() < 1e-12
    masses = atoms.get_masses()
    expected = masses * (1 - masses / masses.sum()) * units.kB * 350
    np.testing.assert_allclose(np.mean(momenta**2, axis=(0, 2)), expected, rtol=0.05)
    assert np.mean([kelvin for _, kelvin in samples]) == pytest.approx(350, rel=0.02)


def test_the_temperature_does_not_see_the_whole_move():
    atoms = Atoms("HO", positions=np.zeros((2, 3)), momenta=[[3.0, 1.0, 0.0], [-3.0, -1.0, 0.0]])
    before = temperature(atoms)
    assert before == pytest.approx(2 * atoms.get_kinetic_energy() / (3 * units.kB))
    atoms.set_velocities(atoms.get_velocities() + [0.3, -0.2, 5.0])
    assert temperature(atoms) == pytest.approx(before)
    stop_centre_of_mass(atoms)
    np.testing.assert_allclose(atoms.get_momenta(), [[3.0, 1.0, 0.0], [-3.0, -1.0, 0.0]], atol=1e-12)
    single = Atoms("H", positions=[[0, 0, 0]], momenta=[[1.0, 0.0, 2.0]])
    assert temperature(single) == pytest.approx(2 * single.get_kinetic_energy() / (3 * units.kB))
    stop_centre_of_mass(single)
    assert single.get_momenta()[0, 2] == 2.0


def _config(name):
    """An ensemble with a short time constant, so that short runs are long."""
    thermostat = {"temperature": 400.0, "time_constant": 20.0} if ENSEMBLES[name].has_thermostat else {}
    return EnsembleConfig(name=name, **thermostat)


def _start(name, seed):
    atoms, rng = cluster(), np.random.default_rng(seed)
    draw_momenta(atoms, 500.0, rng)
    return atoms, build_integrator(atoms, _config(name), 1.0, rng)


@pytest.mark.parametrize("name", [name for name, row in OF_CLUSTERS.items() if row.has_thermostat])
def test_thermostats_hold_the_temperature(name):
    """Of 3N - 3 degrees of freedom: a thermostat that counts 3N is off by a third here."""
    atoms, integrator = _start(name, 11)
    kelvin = []
    for _ in range(8000):
        integrator.step()
        kelvin.append(temperature(atoms))
    assert np.mean(kelvin[500:]) == pytest.approx(400.0, rel=0.08)
    assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-9


@pytest.mark.parametrize("name", [name for name, row in OF_CLUSTERS.items() if row.conserves])
def test_what_is_conserved_is_conserved(name):
    """The energy with that of the thermostat stays where it is, and its wobble shrinks with the square of the time step."""
    spread = []
    for time_step in (1.0, 0.5):
        atoms, rng = cluster(), np.random.default_rng(5)
        draw_momenta(atoms, 500.0, rng)
        integrator = build_integrator(atoms, _config(name), time_step, rng)
        totals = []
        for _ in range(int(500 / time_step)):
            integrator.step()
            totals.append(atoms.get_total_energy() + integrator.outside_energy())
        spread.append(float(np.ptp(totals)))
    assert integrator.conserves
    assert spread[1] < 0.35 * spread[0] < 0.02


@pytest.mark.parametrize("name", OF_CLUSTERS)
def test_the_state_holds_all_that_is_remembered(name):
    atoms, integrator = _start(name, 1)
    for _ in range(5):
        integrator.step()
    state, positions, momenta = integrator.state(), atoms.get_positions(), atoms.get_momenta()
    for _ in range(5):
        integrator.step()

    other = cluster()
    other.positions, other.arrays["momenta"] = positions, momenta
    again = build_integrator(other, _config(name), 1.0, np.random.default_rng(77))
    again.set_state(state)
    for _ in range(5):
        again.step()
    assert np.array_equal(other.positions, atoms.positions) and np.array_equal(other.get_momenta(), atoms.get_momenta())


def test_the_friction_is_one_over_the_time_constant():
    _, integrator = _start("langevin", 3)
    assert integrator.dynamics.fr * units.fs == pytest.approx(1 / 20.0)
