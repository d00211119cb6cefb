import json
import logging

import ase.io
import numpy as np
import pytest
from ase import units

import bec_mace.dynamics.integrate as loop
from bec_mace import BECCalculator
from bec_mace.data import read_frames
from bec_mace.dynamics import run
from bec_mace.electric_field import GaussianPulse
from bec_mace.errors import DynamicsError, ModelError
from bec_mace.spectra.currents import Currents

from .conftest import random_model

Z = "born_effective_charges"
WARM_UP = 5  # evaluations at the start of a session
ENSEMBLES = {
    "nve": "nve",
    "langevin": {"name": "langevin", "temperature": 300.0, "time_constant": 10.0},
    "nose_hoover": {"name": "nose_hoover", "temperature": 300.0, "time_constant": 10.0},
}


def frames(config):
    return ase.io.read(config.output / "trajectory.traj", ":")


def killed_at(monkeypatch, config, step):
    """Run, and die in the middle of a step's bookkeeping, as a kill would."""

    class Killed(BaseException):
        pass

    observe = loop.observe

    def die(simulation, seconds_left):
        observe(simulation, seconds_left)
        if simulation.step == step:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop, "observe", die)
        run(config)


@pytest.mark.parametrize("name", ENSEMBLES)
def test_a_killed_run_resumes_exactly(name, md_config, tmp_path, monkeypatch, energy_model, charges_model, state_of):
    """Two models, a pulse, float32: every part of the state matters, and the last bit of positions and currents."""
    pulse = {"pulse": {"amplitude": [0.1, 0.3, -0.2], "center_fs": 3.0, "width_fs": 2.0}}
    common = {
        "ensemble": ENSEMBLES[name],
        "potential": energy_model,
        "charges": charges_model,
        "electric_field": pulse,
        "precision": "float32",
        "sampling": {"currents": 3, "trajectory": 2, "checkpoint": 5, "born_effective_charges": True, "charges": True},
        "steps": 19,
        "limits": {"temperature": 1e6},
    }
    whole, cut = md_config(output=tmp_path / "whole", **common), md_config(output=tmp_path / "cut", **common)
    expected = run(whole)
    killed_at(monkeypatch, cut, 13)
    assert len(frames(cut)) == 7  # step 12 is beyond the state of step 10 and will be dropped
    summary = run(cut, resume=True)

    one, other = state_of(whole.output), state_of(cut.output)
    assert np.array_equal(one["positions"], other["positions"]) and np.array_equal(one["momenta"], other["momenta"])
    assert [f.info["step"] for f in frames(cut)] == [f.info["step"] for f in frames(whole)] == list(range(0, 20, 2))
    for a, b in zip(frames(whole), frames(cut), strict=True):
        assert np.array_equal(a.positions, b.positions)
        assert all(np.array_equal(a.calc.results[name], b.calc.results[name]) for name in ("forces", Z, "charges"))
    a, b = Currents.read(whole.output), Currents.read(cut.output)
    assert np.array_equal(a.time, b.time) and np.array_equal(a.current, b.current) and len(a) == 7
    assert summary.drift_ev_per_atom_ps == expected.drift_ev_per_atom_ps
    assert summary.mean_temperature_K == expected.mean_temperature_K


def test_a_longer_run_of_a_complete_one(md_config, tmp_path, state_of, energy_model):
    common = {"potential": energy_model, "ensemble": ENSEMBLES["nose_hoover"], "limits": {"temperature": 1e6}}
    run(md_config(output=tmp_path / "whole", steps=15, **common))
    assert run(md_config(output=tmp_path / "parts", steps=7, **common)).complete
    run(md_config(output=tmp_path / "parts", steps=15, **common), resume=True)
    one, other = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert np.array_equal(one["positions"], other["positions"]) and np.array_equal(one["momenta"], other["momenta"])
    again = run(md_config(output=tmp_path / "parts", steps=15, **common), resume=True)
    assert again.steps == 15 and again.seconds_per_step is None and again.frames == 16


def test_time_limit_stops_cleanly(md_config):
    summary = run(md_config(time_limit_minutes=1e-9))
    assert summary.steps == 1 and not summary.complete
    assert "go on with --resume" in summary.text()
    assert run(md_config(), resume=True).complete


def test_killed_before_the_first_state(md_config, monkeypatch):
    killed_at(monkeypatch, md_config(), 0)
    assert not (md_config().output / "state.npz").exists() and md_config().output.is_dir()
    with pytest.raises(DynamicsError, match="holds a run already"):
        run(md_config())
    assert run(md_config(), resume=True).complete and len(frames(md_config())) == 13


def test_the_current_is_the_derivative_of_the_dipole(md_config, energy_model):
    """J from Z* and full-step velocities against finite differences of the model's own dipole along the trajectory."""
    config = md_config(potential=energy_model, sampling={"currents": 1, "trajectory": 1}, time_step=0.1, steps=8)
    run(config)
    images, currents = frames(config), Currents.read(config.output)
    assert currents.elements == ("H", "C", "O") and currents.sampling_interval_fs == pytest.approx(0.1)
    calculator = BECCalculator(energy_model, dtype="float64")
    dipoles = np.array([calculator.get_property("dipole", image) for image in images])
    expected = (dipoles[2:] - dipoles[:-2]) / 0.2
    actual = currents.current.sum(axis=1)[1:-1]
    assert np.abs(expected).max() > 1e-3
    # The error of a central difference: a wrong time of the velocities by half a step would be a hundred times more.
    np.testing.assert_allclose(actual, expected, atol=2e-4 * np.abs(expected).max())
    half_a_step_late = 0.5 * (currents.current.sum(axis=1)[1:-1] + currents.current.sum(axis=1)[2:])
    assert np.abs(half_a_step_late - expected).max() > 10 * np.abs(actual - expected).max()


def test_frames_hold_charges_of_their_positions(md_config, energy_model, charges_model):
    """Z* and charges of the model for charges, in frames that need not be those of the currents."""
    sampling = {"currents": 3, "trajectory": 2, "born_effective_charges": True, "charges": True}
    config = md_config(potential=energy_model, charges=charges_model, sampling=sampling, steps=7, limits={"temperature": 1e6})
    run(config)
    assert len(frames(config)) == 4 and len(Currents.read(config.output)) == 3
    for image, frame in zip(frames(config), read_frames(config.output / "trajectory.traj"), strict=True):
        calculator = BECCalculator(charges_model, dtype="float64")
        tensors = calculator.get_property(Z, image)
        assert np.abs(tensors - tensors.transpose(0, 2, 1)).max() > 1e-6
        np.testing.assert_allclose(image.calc.results[Z], tensors, atol=1e-12)
        np.testing.assert_allclose(image.get_charges(), calculator.get_property("charges", image), atol=1e-12)
        np.testing.assert_array_equal(frame.labels[Z], image.calc.results[Z])


def test_frames_cannot_hold_what_nothing_gives(md_config, tmp_path):
    model = random_model(tmp_path, ["dipole", "energy"])
    with pytest.raises(ModelError, match=r"sampling.charges: nothing gives charges \(heads: dipole, energy\)"):
        run(md_config(potential=model, sampling={"charges": True}))
    assert not md_config().output.exists()


def test_one_pass_per_step(md_config, energy_model, monkeypatch):
    """Energy, forces and Z* of a sampled step come from one pass; the other steps compute no full Z*."""
    from bec_mace.models import PolarizationModel

    calls = []
    forward = PolarizationModel.forward

    def counting(self, *args, **kwargs):
        calls.append(set(kwargs["properties"]))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(PolarizationModel, "forward", counting)
    run(md_config(potential=energy_model, steps=9, sampling={"currents": 3}))
    steps = [names for names in calls if "forces" in names][WARM_UP:]  # without what the model was checked by
    assert len(steps) == 9
    assert ["born_effective_charges" in names for names in steps] == [False, False, True] * 3
    assert all("forces" in names for names in steps)


def test_forces_are_those_of_their_time(md_config, charges_model):
    """In a field that changes fast, each frame's forces belong to its own time."""
    pulse = {"amplitude": [0.3, -0.5, 0.2], "center_fs": 3.0, "width_fs": 1.0}
    config = md_config(charges=charges_model, electric_field={"pulse": pulse}, steps=12, sampling={"trajectory": 1})
    run(config)
    assert len(Currents.read(config.output)) == 4
    calculator = BECCalculator(
        charges_model, base=loop.build_potential(md_config()).inner, dtype="float64", electric_field=GaussianPulse(**pulse)
    )
    for number, image in enumerate(frames(config)):
        calculator.time_fs = 0.5 * number
        np.testing.assert_allclose(calculator.get_property("forces", image), image.get_forces(), atol=1e-12)
        assert image.info["time_fs"] == 0.5 * number


@pytest.mark.parametrize(
    "field",
    [
        [0.3, -0.2, 0.4],
        {"pulse": {"amplitude": [0.3, -0.5, 0.2], "center_fs": 5.0, "width_fs": 2.0}},
        "tests.dynamics.springs:ramp",
    ],
)
def test_energy_is_conserved_in_a_field(md_config, charges_model, field):
    """With the field's energy, or without it and less its work: the error falls with the square of the time step."""
    largest = []
    for number, time_step in enumerate((0.4, 0.2)):
        config = md_config(
            output=md_config().output / str(number),
            charges=charges_model,
            electric_field=field,
            time_step=time_step,
            steps=round(8 / time_step),
            initial_temperature=100.0,
        )
        largest.append(run(config).largest_deviation_ev_per_atom)
    assert largest[1] < 2e-4
    assert largest[0] / largest[1] == pytest.approx(4, rel=0.15)


def test_nose_hoover_conserves_its_energy(md_config):
    largest = [
        run(
            md_config(
                output=md_config().output / str(time_step),
                time_step=time_step,
                steps=round(40 / time_step),
                ensemble={"name": "nose_hoover", "temperature": 400.0, "time_constant": 20.0},
            )
        ).largest_deviation_ev_per_atom
        for time_step in (0.4, 0.2)
    ]
    assert largest[1] < 2e-4 and largest[0] / largest[1] == pytest.approx(4, rel=0.15)


def test_what_is_left_in_the_folder(md_config, charges_model, caplog):
    with caplog.at_level(logging.INFO, "bec_mace"):
        summary = run(md_config(charges=charges_model, structure=str(md_config().structure)))
    folder = md_config().output
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml",
        "currents.h5",
        "md.log",
        "results.json",
        "state.npz",
        "trajectory.traj",
    ]
    results = json.loads((folder / "results.json").read_text())
    assert results["steps"] == summary.steps == 12 and results["complete"] and results["currents"] == 7
    assert results["drift_ev_per_atom_ps"] == summary.drift_ev_per_atom_ps and results["time_ps"] == pytest.approx(0.006)
    log = (folder / "md.log").read_text()
    assert "T/K" in log and "E_cons/(eV/atom)" in log and "currents every 1 fs" in log
    assert [line.split()[0] for line in log.splitlines() if line[:9].strip().isdigit()] == ["0", "5", "10", "12"]
    image = frames(md_config())[-1]
    kinetic = image.get_kinetic_energy()
    currents = Currents.read(folder)
    assert currents.temperature[-1] == pytest.approx(2 * kinetic / (3 * 4 * units.kB))
    assert np.isnan(currents.volume).all()
    assert np.abs(image.get_momenta().sum(axis=0)).max() < 1e-12


def test_langevin_says_that_it_conserves_nothing(md_config):
    summary = run(md_config(ensemble=ENSEMBLES["langevin"]))
    assert summary.drift_ev_per_atom_ps is None and summary.largest_deviation_ev_per_atom is None
    assert "Langevin conserves no energy" in summary.text()
    assert " -                - " in (md_config().output / "md.log").read_text()


def test_the_next_run_starts_from_the_folder_of_the_last(md_config, tmp_path, state_of):
    run(md_config(ensemble=ENSEMBLES["langevin"]))
    first = state_of(md_config().output)
    run(md_config(output=tmp_path / "next", structure=str(md_config().output), initial_temperature=None))
    start = ase.io.read(tmp_path / "next" / "trajectory.traj", 0)
    np.testing.assert_array_equal(start.positions, first["positions"])
    np.testing.assert_array_equal(start.get_momenta(), first["momenta"])


def test_dynamics_that_explode(md_config):
    with pytest.raises(
        DynamicsError,
        match=r"step \d+ \(.* fs\): the temperature is .* above limits.temperature.*"
        r"atom \d \([HCO]\).*Shorten time_step.*The state of step \d+ is kept",
    ):
        run(md_config(time_step=30.0, steps=100))
    folder = md_config().output
    assert "the run stopped: " in (folder / "md.log").read_text()
    with np.load(folder / "state.npz") as file:
        assert np.isfinite(file["positions"]).all()
    assert run(md_config(output=folder / "next", structure=str(folder), steps=2)).complete


def test_forces_that_are_not_finite(md_config):
    flawed = {"calculator": "tests.dynamics.springs:Springs", "arguments": {"good": 7}}  # one call at the start, one per step
    with pytest.raises(DynamicsError, match=r"step 7 \(3.5 fs\): the force on atom 1 \(H\) is not finite.*state of step 4"):
        run(md_config(potential=flawed))


def test_atoms_that_meet(md_config, write_extxyz):
    from ase import Atoms

    path = write_extxyz(Atoms("OHH", positions=[[0, 0, 0], [0.4, 0, 0], [0, 2.0, 0]]))
    springs = {"calculator": "tests.dynamics.springs:Springs", "arguments": {"length": 0.0, "stiffness": 5.0}}
    with pytest.raises(DynamicsError, match=r"step \d \(.*: atoms 0 \(O\) and 1 \(H\) are 0.\d+ Å apart, closer than"):
        run(
            md_config(
                structure=str(path),
                potential=springs,
                sampling={"log": 1},
                initial_temperature=0.0,
                time_step=1.0,
                limits={"distance": 0.38, "temperature": 1e6},
            )
        )


def test_nothing_says_how_fast_the_atoms_are(md_config):
    with pytest.raises(DynamicsError, match="has no velocities to start from; give an initial_temperature"):
        run(md_config(initial_temperature=None))
    assert not md_config().output.exists()
    run(md_config(initial_temperature=None, ensemble=ENSEMBLES["langevin"]))
