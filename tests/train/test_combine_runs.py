"""Committees of the networks of several runs."""

import json

import pytest
import torch

from bec_mace.errors import TrainingError
from bec_mace.evaluate.comparison import evaluate
from bec_mace.models import CommitteeModel, load_model
from bec_mace.train.combine_runs import combine_runs
from bec_mace.train.loop import train
from bec_mace.train.prepare import read_frame_sets

Z = "born_effective_charges"


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    for name in ("plot_parity", "plot_learning_curve"):
        monkeypatch.setattr(f"bec_mace.train.results.{name}", lambda *arguments: None)


@pytest.fixture
def train_member(make_config):
    """Train a run of one epoch, with three frames for training, one for validation and two for the test."""

    def make(name, seed=0, data=None, **options):
        config = make_config(name, data={"validation": 0.2, "test": 0.34, **(data or {})}, epochs=1, **options)
        config = config.model_copy(update={"seed": seed})
        return config, train(config)

    return make


def test_a_committee_of_runs(train_member, tmp_path):
    (config, first), (_, second) = train_member("a"), train_member("b", seed=1, model={"channels": 3})
    folder = tmp_path / "committee"
    results = combine_runs([tmp_path / "a", tmp_path / "b"], folder)
    assert results == json.loads((folder / "results.json").read_text())
    found, singles = results["test"][Z]["rmse"], [run["test"][Z]["rmse"] for run in (first, second)]
    assert found < sum(singles) / 2 and results["test"][Z]["n_frames"] == 2
    model = load_model(folder, dtype=torch.float64)
    assert isinstance(model, CommitteeModel) and [m.config.channels for m in model.networks] == [4, 3]
    test = read_frame_sets(config.data, (Z,)).test
    assert evaluate(model, test)[Z]["rmse"] == pytest.approx(found, rel=1e-12)
    assert model.metadata["metrics"][f"test_{Z}_rmse"] == found
    assert [member["training_config"]["seed"] for member in model.metadata["members"]] == [0, 1]
    assert results["test"]["uncertainty"]["rms"] > 0


def test_what_cannot_be_combined(train_member, tmp_path):
    train_member("a")
    train_member("b", data={"seed": 5})
    with pytest.raises(TrainingError, match="b: has another data section than .*a; frames that one held out"):
        combine_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    with pytest.raises(TrainingError, match="nothing: there is no config.yaml in it"):
        combine_runs([tmp_path / "a", tmp_path / "nothing"], tmp_path / "c")
    assert not (tmp_path / "c").exists()
    with pytest.raises(TrainingError, match="a: this folder holds a run already"):
        combine_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "a")
