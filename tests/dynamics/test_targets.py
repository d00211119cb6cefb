"""Temperatures that change while a run goes on."""

import numpy as np
import pytest

from bec_mace.dynamics import run
from bec_mace.dynamics.ensembles.targets import TargetTemperature
from bec_mace.errors import DynamicsError

from .test_integrate import killed_at

RAMP = {"from": 100.0, "to": 500.0}


def test_straight_lines_between_points():
    target = TargetTemperature({"from": 100, "to": 300}, 50)
    assert [target(step) for step in (0, 10, 25, 50, 70)] == [100, 140, 200, 300, 300] and target.changes
    target = TargetTemperature([[0, 100], [10, 300], [30, 200]], 50)
    assert [target(step) for step in (0, 5, 10, 20, 30, 50)] == [100, 200, 300, 250, 200, 200]
    assert TargetTemperature(250.0, 50)(7) == 250 and not TargetTemperature(250.0, 50).changes
    assert np.isnan(TargetTemperature(None, 50)(7))


@pytest.mark.parametrize("name", ["langevin", "nose_hoover"])
def test_a_killed_run_resumes_exactly(name, md_config, tmp_path, monkeypatch, state_of):
    common = {"steps": 19, "ensemble": {"name": name, "temperature": RAMP, "time_constant": 10.0}}
    whole, cut = md_config(output=tmp_path / "whole", **common), md_config(output=tmp_path / "cut", **common)
    expected = run(whole)
    killed_at(monkeypatch, cut, 13)
    summary = run(cut, resume=True)
    one, other = state_of(whole.output), state_of(cut.output)
    assert all(np.array_equal(one[key], other[key]) for key in one)
    assert summary.drift_ev_per_atom_ps == expected.drift_ev_per_atom_ps
    log = (cut.output / "md.log").read_text()
    lines = [line.split() for line in log.splitlines() if line.split()[:1] == ["10"]]
    assert "target/K" in log and float(lines[-1][7]) == pytest.approx(100 + 400 * 10 / 19, abs=0.06)
    with pytest.raises(DynamicsError, match="the temperature changes over all 19 steps"):
        run(md_config(output=tmp_path / "cut", **{**common, "steps": 30}), resume=True)


@pytest.mark.parametrize("name", ["langevin", "nose_hoover"])
def test_the_temperature_follows(name, md_config):
    """From 100 K to 500 K: the mean of each half is that of the ramp, the work on the chain taken out of what is conserved."""
    ensemble = {"name": name, "temperature": {"from": 100.0, "to": 500.0}, "time_constant": 20.0}
    sampling = {"currents": None, "trajectory": 5000, "log": 10, "checkpoint": 20000}
    kelvin, largest = [], []
    for seed in range(2):
        given = {"ensemble": ensemble, "sampling": sampling, "time_step": 1.0, "steps": 4000, "limits": {"distance": 0.0}}
        config = md_config(output=md_config().output / str(seed), seed=seed, initial_temperature=100.0, **given)
        largest.append(run(config).largest_deviation_ev_per_atom)
        rows = [line.split() for line in (config.output / "md.log").read_text().splitlines() if line[:9].strip().isdigit()]
        kelvin.append([float(row[2]) for row in rows])
    halves = np.array(kelvin)[:, :400].reshape(2, 2, 200).mean(axis=(0, 2))
    np.testing.assert_allclose(halves, [200.0, 400.0], rtol=0.2)
    if name == "nose_hoover":
        assert max(largest) < 0.01
