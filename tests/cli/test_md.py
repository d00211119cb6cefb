import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
CONFIG = """\
output: out
structure: {structure}@1
potential: {model}
ensemble: {{name: nose_hoover, temperature: 300, time_constant: 20}}
time_step: 0.25
steps: 6
device: cpu
limits: {{temperature: 1e6}}
sampling: {{currents: 2, trajectory: 3, log: 2, checkpoint: 4}}
"""


@pytest.fixture
def config(tmp_path, small_frames, model_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(structure=small_frames, model=model_path))
    return path


def test_run_and_resume(run, config, tmp_path):
    result = run("md", config, "--set", "steps=4")
    assert result.exit_code == 0, result.stderr
    assert "T/K" in result.stderr and "4 steps, 0.001 ps" in result.stderr
    assert json.loads((tmp_path / "out" / "results.json").read_text())["steps"] == 4
    result = run("md", config)
    assert result.exit_code == 2 and "this folder holds a run already" in result.stderr
    result = run("md", config, "--resume")
    assert result.exit_code == 0, result.stderr
    assert "resumed after step 4" in result.stderr and "6 steps" in result.stderr
    result = run("md", config, "--resume", "--set", "time_step=0.5")
    assert result.exit_code == 2 and "had time_step = 0.25, now it is 0.5" in result.stderr


def test_mistakes(run, config):
    result = run("md", config, "--set", "step=1")
    assert result.exit_code == 2
    assert result.stderr == "Error: --set step=1: step: unknown key; did you mean 'steps'?\n"
    result = run("md", config, "--set", "structure=none.xyz")
    assert result.exit_code == 2 and "none.xyz: no such file" in result.stderr
    result = run("md", config, "--set", "limits.temperature=1", "--set", "initial_temperature=300")
    assert result.exit_code == 2 and "above limits.temperature (1 K)" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_mistake_in_a_config_needs_neither_torch_nor_ase(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("structur: a\n")
    code = (
        "import sys\nfrom bec_mace.cli.main import main\n"
        f"try:\n    main(['md', {str(path)!r}])\nexcept SystemExit as end:\n    print(end.code)\n"
        "print(sorted({'torch', 'mace', 'ase', 'h5py'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.splitlines() == ["2", "[]"]
    assert "bad.yaml:1: structur: unknown key; did you mean 'structure'?" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "ensemble",
    [
        "nve",
        "{name: langevin, temperature: 300, time_constant: 20}",
        "{name: nose_hoover, temperature: 300, time_constant: 20}",
    ],
)
def test_a_run_that_was_killed_for_good(tmp_path, files, ensemble):
    """SIGKILL in the middle, another process goes on: the same bits, with the model of the package in a field."""
    path = tmp_path / "config.yaml"
    path.write_text(
        f"structure: {files / 'water_clusters_rpbe_d3.extxyz'}@-1\npotential: water\nensemble: {ensemble}\n"
        "electric_field: {sinusoid: {amplitude: [0, 0.02, 0.05], frequency_cm: 3000}}\ninitial_temperature: 300\n"
        "time_step: 0.5\nsteps: 90\ndevice: cpu\n"
        "sampling: {currents: 3, trajectory: 7, log: 10, checkpoint: 11}\n"
    )

    def start(name, *options):
        return subprocess.Popen(
            [sys.executable, "-m", "bec_mace", "md", str(path), "--set", f"output={tmp_path / name}", *options],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    assert "90 steps" in start("whole").communicate()[1]
    process = start("cut")
    for line in process.stderr:
        if line.split()[:1] == ["60"]:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert "resumed after step" in start("cut", "--resume").communicate()[1]
    with np.load(tmp_path / "whole" / "state.npz") as one, np.load(tmp_path / "cut" / "state.npz") as other:
        for name in ("positions", "momenta"):
            assert np.array_equal(one[name], other[name])
