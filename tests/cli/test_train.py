import json

import pytest

CONFIG = """\
output: out
device: cpu
data: {{train: {data}, validation: 0.34}}
model: {{r_max: 3.0, channels: 4, max_l: 1, num_interactions: 1, num_radial: 4, radial_mlp: [8], heads: [monopole]}}
training: {{epochs: 2}}
"""


@pytest.fixture
def config(tmp_path, small_frames):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(data=small_frames))
    return path


def test_train_then_use_the_run_folder(run, config, small_frames, tmp_path):
    result = run("train", config, "--set", "training.epochs=1")
    assert result.exit_code == 0, result.stderr
    assert "epoch    1/1" in result.stderr
    assert (tmp_path / "out" / "best.safetensors").is_file()
    assert "epochs: 1\n" in (tmp_path / "out" / "config.yaml").read_text()

    result = run("train", config)
    assert result.exit_code == 2 and "this folder holds a run already" in result.stderr
    assert "Traceback" not in result.stderr
    result = run("train", config, "--resume")
    assert result.exit_code == 0, result.stderr
    assert "resumed after epoch 1" in result.stderr and "epoch    1/" not in result.stderr

    result = run("info", "out")
    assert result.exit_code == 0 and f"trained on: {small_frames}" in result.stdout
    result = run("evaluate", "out", small_frames, "--json", "out.json")
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "out.json").read_text())["n_frames"] == 3
    assert run("info", "out/config.yaml").exit_code == 0


def test_mistakes(run, config):
    result = run("train", config, "--set", "training.epoch=1")
    assert result.exit_code == 2
    assert result.stderr == "Error: --set training.epoch=1: training.epoch: unknown key; did you mean 'epochs'?\n"
    result = run("train", config, "--set", "data.train=none.xyz")
    assert result.exit_code == 2 and "none.xyz: no such file" in result.stderr
    assert "Traceback" not in result.stderr
