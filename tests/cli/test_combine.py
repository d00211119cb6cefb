"""``bec-mace combine``, and the commands that take a committee."""

import ase.io
import numpy as np
import pytest

CONFIG = """
output: {name}
seed: {seed}
data:
  train: {data}
  validation: 0
  test: 0.34
model: {{r_max: 3.0, channels: {channels}, max_l: 1, num_interactions: 1, num_radial: 4, radial_mlp: [8], readout_mlp: [4],
        heads: [monopole]}}
training:
  epochs: 1
  loss:
    weights: {{born_effective_charges: 1.0}}
"""


@pytest.fixture
def train(run, tmp_path, small_frames):
    """Train a run of one epoch in the folder ``name``."""

    def make(name, seed=0, channels=4, data=small_frames):
        (tmp_path / f"{name}.yaml").write_text(CONFIG.format(name=name, seed=seed, channels=channels, data=data))
        assert run("train", f"{name}.yaml").exit_code == 0

    return make


def test_a_committee_from_the_command_line(run, train, small_frames):
    train("a")
    train("b", seed=1, channels=3)
    result = run("combine", "a", "b", "-o", "both")
    assert result.exit_code == 0
    described = run("info", "both").output
    assert "network: 1 layers, 4 channels, r_max 3 Å\nnetwork: 1 layers, 3 channels, r_max 3 Å" in described
    assert "heads: monopole\n" in described and "test born effective charges rmse" in described
    assert run("predict", "both", small_frames, "-o", "out.extxyz", "--uncertainty").exit_code == 0
    for name in ("a", "b"):
        assert run("predict", name, small_frames, "-o", f"{name}.extxyz").exit_code == 0
    mean, first, second = (ase.io.read(f"{name}.extxyz", ":") for name in ("out", "a", "b"))
    for atoms, one, two in zip(mean, first, second, strict=True):
        values = [frame.arrays["predicted_becs"] for frame in (one, two)]
        assert np.allclose(atoms.arrays["predicted_becs"], np.mean(values, axis=0), atol=1e-5)
        assert np.allclose(atoms.arrays["predicted_becs_std"], np.std(values, axis=0, ddof=1), atol=1e-5)


def test_mistakes(run, train, small_frames):
    train("a")
    for arguments, sentence in (
        (("a", "nothing", "-o", "c"), "nothing: there is no config.yaml in it; give folders of runs"),
        (("a", "-o", "c"), "a committee needs at least 2 members, got 1"),
        (("a", "a", "-o", "c"), "a, a: a folder is named more than once"),
        (("a", "b", "-o", "a"), "a: this folder holds a run already (metrics.csv); choose another folder"),
        (("a", "b", "-o", "c", "--device", "cuda:99"), "--device cuda:99: torch cannot use it"),
    ):
        result = run("combine", *arguments)
        assert result.exit_code == 2 and sentence in result.output and "Traceback" not in result.output
