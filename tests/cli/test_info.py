import re

from tests.cli.conftest import WATER


def test_model(run, model_path):
    result = run("info", model_path)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:3] == ["elements: H, O", "heads: monopole, dipole, energy", "network: 2 layers, 4 channels, r_max 3 Å"]
    assert "index order: polarization_first" in lines
    assert "trained on: a.xyz, b.xyz" in lines
    assert "fingerprint of the training data: 0123456789abcdef" in lines
    assert "validation rmse: 0.125" in lines
    assert int(next(line for line in lines if line.startswith("parameters: ")).split()[1]) > 500
    for name in (f"{model_path}.safetensors", f"{model_path}.json"):
        assert run("info", name).stdout == result.stdout


def test_data(run):
    result = run("info", WATER)
    assert result.exit_code == 0, result.stderr
    assert "23 frames (23 periodic), 4416 atoms" in result.stdout
    assert "RMSE of one charge per element: 0.1739 e" in result.stdout


def test_data_with_a_key(run, small_frames):
    text = small_frames.read_text().replace("REF_becs", "mine")
    with open("mine.extxyz", "w") as file:
        file.write(text)
    assert "born_effective_charges" not in run("info", "mine.extxyz").stdout
    result = run("info", "mine.extxyz", "--key", "born_effective_charges=mine")
    assert "born_effective_charges in all" in result.stdout
    result = run("info", "mine.extxyz", "--key", "mine")
    assert result.exit_code == 2 and "--key mine: expected PROPERTY=KEY" in result.stderr


def test_config(run, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("data: {train: a.xyz}\nmodel: {r_max: 5, heads: [dipole]}\ntraining: {epochs: 3}\n")
    result = run("info", path)
    assert result.exit_code == 0
    assert "output: runs/run\n" in result.stdout and "    learning_rate: 0.01\n" in result.stdout
    path.write_text("data: {train: a.xyz}\nmodel: {r_max: 5, heads: [dipole]}\ntraining: {epoch: 3}\n")
    result = run("info", path)
    assert result.exit_code == 2
    assert "run.yaml:3: training.epoch: unknown key; did you mean 'epochs'?" in result.stderr


def test_names_of_nothing(run):
    result = run("info", "wather")
    assert result.exit_code == 2 and "there is no model 'wather'" in result.stderr
    result = run("info", "wather.xyz")
    assert result.exit_code == 2 and "wather.xyz: no such file" in result.stderr
    result = run("info", "wather.json")
    assert result.exit_code == 2 and "wather.json: no such file" in result.stderr


def test_a_configuration_of_dynamics_is_checked_too(run, tmp_path):
    (tmp_path / "md.yaml").write_text("structure: a.xyz\npotential: water\nensemble: nve\ntime_step: 0.5\nstep: 3\n")
    result = run("info", "md.yaml")
    assert result.exit_code == 2 and "md.yaml:5: step: unknown key; did you mean 'steps'?" in result.stderr
    (tmp_path / "md.yaml").write_text("structure: a.xyz\npotential: water\nensemble: nve\ntime_step: 0.5\nsteps: 3\n")
    assert "currents: 4" in run("info", "md.yaml").stdout


def test_elements_that_a_model_has_hardly_seen(run):
    line = next(line for line in run("info", "crystals").stdout.splitlines() if "training structures" in line)
    assert line.startswith("in fewer than 10 training structures, so that charges may be far off: Cr 1, Mn 1, Tc 2")
    assert "training structures" not in run("info", "water").stdout


def test_predictions(run, model_path, small_frames):
    assert run("predict", model_path, small_frames, "-o", "out.h5").exit_code == 0
    result = run("info", "out.h5")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert re.fullmatch(r"predictions of \d+ structures, \d+ atoms", lines[0])
    assert "born_effective_charges (e)" in lines[2] and "energy (eV)" in lines[2]
    hydrogen, oxygen = (float(word) for word in re.findall(r"[+-]\d\.\d+", lines[3]))
    assert oxygen < -0.2 < 0.2 < hydrogen
    with open("no.h5", "w") as file:
        file.write("nothing")
    wrong = run("info", "no.h5")
    assert wrong.exit_code == 2 and "no.h5" in wrong.stderr
