"""Raman spectra of oscillators whose activities are known, and of a molecule against its harmonic vibrations."""

from __future__ import annotations

import json
from collections.abc import Callable

import ase.io
import ase.units
import numpy as np
import pytest
from ase import Atoms
from click.testing import CliRunner, Result

from bec_mace import BECCalculator
from bec_mace.cli.main import main
from bec_mace.errors import SpectrumError
from bec_mace.models import save_model
from bec_mace.phonons import vibrations
from bec_mace.phonons.scattering import activities
from bec_mace.spectra.raman_spectrum import Polarizabilities, raman_spectrum, write_raman_csv
from bec_mace.testing.small_models import make_model
from bec_mace.units import BOLTZMANN, PLANCK, SPEED_OF_LIGHT
from tests.dynamics.springs import Springs

MODES = {
    600.0: np.array([[0.4, 0.3, -0.1], [0.3, -0.2, 0.5], [-0.1, 0.5, 0.9]]),
    1700.0: np.array([[0.0, 0.6, 0.0], [0.6, 0.0, 0.0], [0.0, 0.0, 0.0]]),
}
"""Derivatives of the polarizability, in Å^2/u^(1/2), by wavenumber."""


@pytest.fixture
def run_cli() -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def oscillators(kelvin: float, n: int = 40_000, step: float = 1.0) -> Polarizabilities:
    """Each has the energy kT."""
    time = step * np.arange(n)
    values = np.tile(np.diag([5.0, 6.0, 7.0]), (n, 1, 1))
    for number, (wavenumber, derivative) in enumerate(MODES.items()):
        omega = 2 * np.pi * SPEED_OF_LIGHT * wavenumber
        amplitude = np.sqrt(2 * BOLTZMANN * kelvin) * ase.units.fs / omega  # u^(1/2) Å
        values = values + amplitude * np.cos(omega * time + number)[:, None, None] * derivative
    return Polarizabilities(values, step, kelvin, "oscillators")


@pytest.mark.parametrize("kelvin", [100.0, 700.0])
def test_activities_and_depolarization_of_lines(kelvin) -> None:
    """The integral of each line is the activity of its mode, whatever the temperature."""
    spectrum = raman_spectrum(oscillators(kelvin), resolution=20.0)
    expected, ratios = activities(np.array(list(MODES.values())))
    for wavenumber, activity, ratio in zip(MODES, expected, ratios, strict=True):
        line = np.abs(spectrum.wavenumber - wavenumber) < 60
        assert spectrum.activity(wavenumber - 60, wavenumber + 60) == pytest.approx(activity, rel=0.01)
        assert spectrum.depolarized[line].sum() / spectrum.polarized[line].sum() == pytest.approx(ratio, rel=0.01)
        assert spectrum.wavenumber[line][spectrum.polarized[line].argmax()] == pytest.approx(wavenumber, abs=5)
    assert spectrum.activity() == pytest.approx(expected.sum(), rel=0.02)


def test_cross_sections_of_a_laser() -> None:
    """Lines by the formula for a mode, and their ratio without quantum correction."""
    kelvin, laser = 300.0, 532.0
    run = oscillators(kelvin)
    reduced = raman_spectrum(run)
    spectrum, classical = (raman_spectrum(run, laser, quantum_correction=kind) for kind in ("harmonic", "none"))
    wavenumber = reduced.wavenumber
    x = PLANCK * SPEED_OF_LIGHT * wavenumber / (BOLTZMANN * kelvin)
    # In SI: lengths in m, masses in kg; 1 Å^4/u = 1e-40 m^4 / 1.66e-27 kg.
    planck, light, mass = 6.62607015e-34, 299792458.0, 1.66053906660e-27
    shift = (1e7 / laser - wavenumber) * 100
    section = (2 * np.pi) ** 4 * shift**4 * planck / (8 * np.pi**2 * light * wavenumber * 100) * 1e-40 / mass / -np.expm1(-x)
    np.testing.assert_allclose(spectrum.polarized, section * 1e20 * reduced.polarized, rtol=1e-6)
    np.testing.assert_allclose(classical.depolarized / spectrum.depolarized, -np.expm1(-x) / x, rtol=1e-9)


def test_turning_changes_nothing_and_errors_come_from_blocks() -> None:
    run = oscillators(300.0)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    turned = Polarizabilities(turn @ run.values @ turn.T, 1.0, 300.0)
    one, other = raman_spectrum(run), raman_spectrum(turned)
    np.testing.assert_allclose(other.polarized, one.polarized, atol=1e-9 * one.polarized.max())
    np.testing.assert_allclose(other.depolarized, one.depolarized, atol=1e-9 * one.polarized.max())
    assert one.meta["blocks"] == [8] and np.isfinite(one.polarized_error).all()
    assert np.isnan(raman_spectrum(run, blocks=1).polarized_error).all()
    both = raman_spectrum([run, oscillators(500.0)])
    assert both.activity() == pytest.approx(one.activity(), rel=0.02)


def test_a_molecule_in_motion_against_its_vibrations(tmp_path, run_cli) -> None:
    """A trajectory of one harmonic mode with the energy kT, through the command."""
    model = make_model(("dipole", "polarizability"))
    triangle = Atoms("OHC", positions=1.2 * np.array([[0, 0, 0], [1, 0, 0], [0.5, np.sqrt(0.75), 0]]))
    calculator = BECCalculator(model, base=Springs(stiffness=4.0, length=1.2), dtype="float64")
    found = vibrations(triangle, calculator)
    kelvin, step, mode = 1.0, 2.0, 1
    omega = 2 * np.pi * SPEED_OF_LIGHT * found.wavenumbers[mode]
    amplitude = np.sqrt(2 * BOLTZMANN * kelvin) * ase.units.fs / omega
    frames = []
    for time in step * np.arange(1500):
        atoms = triangle.copy()
        atoms.positions += amplitude * np.cos(omega * time) * found.displacements[mode]
        frames.append(atoms)
    ase.io.write(tmp_path / "run.traj", frames)
    save_model(model, tmp_path / "model.safetensors")
    arguments = ["--raman", "--model", tmp_path / "model.safetensors", "--time-step", step, "--temperature", kelvin]
    arguments += [
        "-o",
        tmp_path / "r.csv",
        "--json",
        tmp_path / "r.json",
        "--plot",
        tmp_path / "r.png",
        "--precision",
        "float64",
    ]
    result = run_cli("spectrum", tmp_path / "run.traj", *arguments)
    assert result.exit_code == 0, result.stderr
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["activity_Å4/u"] == pytest.approx(found.raman[0][mode], rel=0.02)
    assert f"{content['activity_Å4/u']:.4g} Å^4/u" in result.stdout
    assert (tmp_path / "r.png").stat().st_size > 5000
    text = (tmp_path / "r.csv").read_text().splitlines()
    rows = np.genfromtxt([line for line in text if not line.startswith("#")], delimiter=",", names=True)
    assert rows["wavenumber_cm1"][rows["isotropic_A4_cmu"].argmax()] == pytest.approx(found.wavenumbers[mode], abs=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--raman"], "--raman: takes trajectories and --model"),
        (["--laser", "532"], "--laser: is for Raman spectra, with --raman"),
    ],
)
def test_mistakes_of_the_command(arguments, message, tmp_path, run_cli) -> None:
    (tmp_path / "currents.h5").touch()
    result = run_cli("spectrum", tmp_path / "currents.h5", *arguments)
    assert result.exit_code == 2 and message in result.stderr


def test_mistakes(tmp_path) -> None:
    run = oscillators(300.0, n=4000)
    with pytest.raises(SpectrumError, match="oscillators: the temperature is not known; give it with --temperature"):
        raman_spectrum(Polarizabilities(run.values, 1.0, float("nan"), "oscillators"))
    with pytest.raises(SpectrumError, match="are shorter than the correlation"):
        raman_spectrum(oscillators(300.0, n=500))
    with pytest.raises(SpectrumError, match="tell wavenumbers up to 1668 cm.-1 apart, 4000 cm.-1 were asked for"):
        raman_spectrum(Polarizabilities(run.values, 10.0, 300.0), max_wavenumber=4000.0, resolution=40.0)
    with pytest.raises(SpectrumError, match="positive number of nm, got -1"):
        raman_spectrum(run, -1.0)
    with pytest.raises(SpectrumError, match="less than the spectrum; end it earlier"):
        raman_spectrum(run, 1e4)
    write_raman_csv(raman_spectrum(run), tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text().startswith("# runs:")
