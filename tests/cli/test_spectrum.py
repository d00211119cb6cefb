import json

import ase.io
import ase.units
import numpy as np
import pytest
from ase.build import molecule

from bec_mace.spectra import Currents, infrared_spectrum, read_curve
from tests.spectra.oscillators import harmonic, make


@pytest.fixture
def folder(tmp_path):
    """A run folder whose lines are at 3400 and 1650 cm^-1."""
    run = make(harmonic(5000, 1.0, (3400.0, 1650.0), (0.4, -0.8), (1.008, 15.999), 300.0), 1.0, 311.0)
    (tmp_path / "run").mkdir()
    run.write(tmp_path / "run" / "currents.h5")
    return tmp_path / "run"


@pytest.fixture
def swinging(tmp_path):
    """A trajectory of one molecule in a cell, with velocities."""
    frames = []
    for row in range(300):
        atoms = molecule("H2O", cell=[6.0, 6.0, 6.0], pbc=True)
        shift = np.array([[0.0, 0.0, 0.01], [0.0, 0.05, 0.0], [0.03, -0.05, 0.0]])
        atoms.positions += shift * np.sin(0.3 * row)
        atoms.set_velocities(0.3 * shift * np.cos(0.3 * row) / ase.units.fs)
        frames.append(atoms)
    ase.io.write(tmp_path / "water.traj", frames)
    return tmp_path / "water.traj"


def test_csv_json_plot_and_peaks(run, folder, tmp_path):
    (tmp_path / "experiment.csv").write_text("# cited\nwavenumber_cm-1,k,n_alpha_cm-1\n1,0.1,20\n4000,0.1,500\n")
    result = run(
        "spectrum",
        folder,
        "-o",
        "ir.csv",
        "--json",
        "ir.json",
        "--plot",
        "ir.png",
        "--reference",
        "experiment.csv",
        "--resolution",
        40,
        "--window",
        "hann",
        "--epsilon-infinity",
        1.78,
        "--max-wavenumber",
        4000,
    )
    assert result.exit_code == 0, result.stderr
    expected = infrared_spectrum(
        Currents.read(folder), resolution=40.0, window="hann", max_wavenumber=4000.0, epsilon_infinity=1.78
    )
    x, y = read_curve(tmp_path / "ir.csv")
    np.testing.assert_allclose(y, expected.n_alpha, rtol=1e-7)
    assert x[-1] == 4000.0
    numbers = json.loads((tmp_path / "ir.json").read_text())
    assert numbers["meta"]["temperature_K"] == [311.0] and numbers["meta"]["window"] == "hann"
    assert [round(peak["wavenumber_cm-1"]) for peak in numbers["peaks"]] == [1650, 3400]
    assert "1 run, 5 ps, 311.0 K; resolution 40 cm^-1 (hann)" in result.stdout
    assert "1650.1" in result.stdout and "3400.0" in result.stdout
    assert (tmp_path / "ir.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_several_runs_and_all_settings(run, folder):
    result = run(
        "spectrum",
        folder,
        folder / "currents.h5",
        "--quantum-correction",
        "none",
        "--temperature",
        400,
        "--volume",
        500,
        "--blocks",
        1,
        "--keep-mean",
        "--skip-fs",
        1000,
        "--spacing",
        5,
        "--json",
        "ir.json",
    )
    assert result.exit_code == 0, result.stderr
    assert "2 runs, 8 ps, 400.0 K" in result.stdout and "standard error from 2 blocks" in result.stdout
    meta = json.loads((folder.parent / "ir.json").read_text())["meta"]
    assert (meta["quantum_correction"], meta["volume_A3"], meta["mean_current"]) == ("none", [500.0, 500.0], "kept")


def test_trajectory_with_a_model_and_currents_kept_for_later(run, model_path, swinging, tmp_path):
    options = ["--resolution", 250, "--max-wavenumber", 3000]
    result = run(
        "spectrum", swinging, "--model", model_path, "--time-step", 1, "-o", "a.csv", "--save-currents", "kept.h5", *options
    )
    assert result.exit_code == 0, result.stderr
    assert "from velocities" in result.stdout
    # 0.3 / fs is 1593 cm^-1.
    x, y = read_curve(tmp_path / "a.csv")
    assert x[np.argmax(y)] == pytest.approx(1593.0, abs=60.0)
    assert run("spectrum", "kept.h5", "-o", "b.csv", *options).exit_code == 0
    np.testing.assert_allclose(read_curve(tmp_path / "b.csv")[1], y, rtol=1e-6)


def test_positions_alone_are_named(run, model_path, swinging):
    frames = ase.io.read(swinging, ":")
    for atoms in frames:
        del atoms.arrays["momenta"]
    ase.io.write("positions.extxyz", frames)
    result = run("spectrum", "positions.extxyz", "--model", model_path, "--time-step", 1, "--resolution", 250, "-o", "a.csv")
    assert result.exit_code == 0, result.stderr
    assert "from central differences of positions" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none: no such file or folder"),
        (["water.traj"], "water.traj: is a trajectory; name a model for its Born effective charges with --model"),
        (["water.traj", "--model", "none"], "does not say how far apart its frames are"),
        (["run/currents.h5", "--model", "none"], "a file of currents holds Z* already"),
        (["run", "--model", "none"], "the folder has no trajectory.traj or trajectory.extxyz"),
        (["run", "--time-step", "1"], "--time-step: is for trajectories, with --model"),
        (["water.traj", "water.traj", "--model", "m", "--save-currents", "k.h5"], "--save-currents: holds one run"),
        (["run", "--resolution", "0"], "resolution must be a positive wavenumber"),
        (["run", "--resolution", "1"], "ask for a resolution above 10 cm^-1"),
        (["run", "--max-wavenumber", "20000"], "sample more often"),
        (["run", "--prominence", "3"], "the prominence is a share"),
        (["run", "--reference", "no.csv"], "no.csv: cannot be read"),
        (["run", "-o", "no/ir.csv"], "the folder no does not exist"),
    ],
)
def test_mistakes_end_with_one_sentence(run, folder, swinging, arguments, message):
    result = run("spectrum", *arguments)
    assert result.exit_code == 2 and message in result.stderr, result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_beads_of_one_simulation(run, folder, tmp_path):
    options = ["--resolution", 40, "--max-wavenumber", 4000]
    result = run("spectrum", folder, folder, "--beads", *options)
    assert result.exit_code == 2 and "give that with --temperature" in result.stderr
    result = run("spectrum", folder, "--beads", "--temperature", 300, *options)
    assert result.exit_code == 2 and "all beads of one simulation, got one" in result.stderr
    result = run("spectrum", folder, folder, "--beads", "--temperature", 300, "-o", "ir.csv", *options)
    assert result.exit_code == 0, result.stderr
    assert "1 run," in result.stdout and "300.0 K" in result.stdout
    expected = infrared_spectrum(Currents.read(folder), resolution=40.0, max_wavenumber=4000.0, temperature=300.0)
    assert np.allclose(read_curve(tmp_path / "ir.csv")[1], expected.n_alpha, rtol=1e-5)
