"""Saved models: bit by bit the same, and clear words for files that are damaged or do not fit together."""

from __future__ import annotations

import builtins
import json
import pickle
from pathlib import Path

import pytest
import torch

from bec_mace.data import build_graph, collate
from bec_mace.errors import ModelError
from bec_mace.models import PolarizationModel, load_model, save_model
from bec_mace.models.checkpoint import available_models
from bec_mace.testing.small_models import copy_model, make_model
from bec_mace.testing.structures import molecule, triclinic_pair

HEADS = ("monopole", "charge_transfer", "dipole", "energy")


@pytest.fixture
def model() -> PolarizationModel:
    return make_model(HEADS, 1)


@pytest.fixture
def saved(model: PolarizationModel, tmp_path: Path) -> Path:
    return save_model(model, tmp_path / "best", {"metrics": {"rmse": 0.5}, "note": "Å"})


def outputs(model: PolarizationModel) -> dict[str, torch.Tensor]:
    dtype = next(model.parameters()).dtype
    graph = collate([build_graph(frame, model.r_max, dtype) for frame in (triclinic_pair(), molecule())])
    return model(graph, ("born_effective_charges", "charges", "dipole", "energy", "forces"))


def edit(saved: Path, **changes: object) -> None:
    path = saved.with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("layers", [1, 2])
def test_round_trip_is_exact(layers: int, dtype: torch.dtype, tmp_path: Path) -> None:
    # Frozen as a loaded model is: torch orders a matrix product by whether the weights require a gradient.
    model = copy_model(make_model((*HEADS, "direct"), layers, None, dtype)).requires_grad_(False)
    loaded = load_model(save_model(model, tmp_path / "m"), dtype=dtype)
    graph = build_graph(triclinic_pair(), model.r_max, dtype)
    names = model.provides - {"head_contributions"}
    expected, actual = model(graph, names), loaded(graph, names)
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


def test_what_is_stored(saved: Path, model: PolarizationModel) -> None:
    metadata = load_model(saved).metadata
    assert metadata["format_version"] == 1
    assert metadata["elements"] == ["H", "C", "O"]
    assert metadata["units"]["index_order"] == "polarization_first"
    assert metadata["metrics"] == {"rmse": 0.5}
    assert metadata["note"] == "Å"
    assert metadata["number_of_parameters"] == sum(p.numel() for p in model.parameters())
    assert sorted(p.name for p in saved.parent.iterdir()) == ["best.json", "best.safetensors"]


def test_loaded_model_is_ready_for_use(saved: Path) -> None:
    state = torch.get_rng_state()
    loaded = load_model(saved)
    assert torch.equal(torch.get_rng_state(), state)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert loaded.config == make_model(HEADS, 1).config
    assert loaded.statistics == make_model(HEADS, 1).statistics


def test_every_way_to_name_a_model(saved: Path, model: PolarizationModel) -> None:
    expected = outputs(copy_model(model).requires_grad_(False))["charges"]
    for name in (saved, str(saved), saved.with_suffix(""), saved.with_suffix(".json"), saved.parent):
        assert torch.equal(outputs(load_model(name, dtype=torch.float64))["charges"], expected)


def test_dot_in_the_name(model: PolarizationModel, tmp_path: Path) -> None:
    path = save_model(model, tmp_path / "runs" / "water.v1.5")
    assert path.name == "water.v1.5.safetensors"
    assert load_model(tmp_path / "runs" / "water.v1.5").elements == model.elements


def test_save_replaces_the_old_model(saved: Path, model: PolarizationModel) -> None:
    save_model(make_model(HEADS, 2), saved)
    assert load_model(saved).config.num_interactions == 2


def test_unknown_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ", ".join(available_models()) or "none"
    with pytest.raises(ModelError, match=rf"there is no model 'atlantis': .*\({names}\)"):
        load_model("atlantis")


def test_missing_description(saved: Path) -> None:
    saved.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match=r"best\.json: missing; a model is two files, keep them together"):
        load_model(saved)


@pytest.mark.parametrize("text", ["", "{", "\udcff"], ids=["empty", "cut", "not text"])
def test_damaged_description(saved: Path, text: str) -> None:
    saved.with_suffix(".json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=r"best\.json: cannot be read .*; the file is damaged"):
        load_model(saved)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_format_version(saved: Path, version: object) -> None:
    edit(saved, format_version=version)
    with pytest.raises(ModelError, match=rf"format version {version}, this package reads 1; install the version"):
        load_model(saved)


def test_description_that_is_no_mapping(saved: Path) -> None:
    saved.with_suffix(".json").write_text("[1, 2]")
    with pytest.raises(ModelError, match="format version None"):
        load_model(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"elements": ["H", "Xx", "O"]},
        {"elements": []},
        {"elements": ["O", "H", "C"]},
        {"elements": 3},
        {"config": {"r_max": -1}},
        {"config": None},
        {"statistics": {"wrong": 1}},
        {"statistics": [1]},
        {"statistics": {"avg_num_neighbors": "many"}},
        {"statistics": {"avg_num_neighbors": 0.0}},
        {"statistics": {"avg_num_neighbors": 1.0, "reference_charges": {"H": 1}, "reference_energies": {}}},
    ],
)
def test_description_of_no_model(saved: Path, changes: dict) -> None:
    edit(saved, **changes)
    with pytest.raises(ModelError, match=r"best\.json: does not describe a model"):
        load_model(saved)


@pytest.mark.parametrize("size", [0, 4, 100, -8], ids=["empty", "header cut", "table cut", "end cut"])
def test_damaged_tensors(saved: Path, size: int) -> None:
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"best\.safetensors: cannot be read .*; the file is damaged"):
        load_model(saved)


def test_tensors_of_another_model(saved: Path, tmp_path: Path) -> None:
    """Even one of the same sizes."""
    other = make_model(HEADS, 1, "project")
    with torch.no_grad():
        other = copy_model(other)
        other.reference_charges.add_(1e-3)
    saved.write_bytes(save_model(other, tmp_path / "other").read_bytes())
    with pytest.raises(ModelError, match=r"not the file that best\.json was written with; keep the \.safetensors"):
        load_model(saved)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"heads": list(HEADS[:3])}, "heads.energy"),
        ({"heads": [*HEADS, "direct"]}, "heads.direct"),
        ({"channels": 4}, "backbone."),
        ({"num_interactions": 2}, "backbone.layers.1"),
    ],
    ids=["fewer heads", "more heads", "channels", "layers"],
)
def test_description_of_another_model(saved: Path, change: dict, name: str) -> None:
    config = json.loads(saved.with_suffix(".json").read_text(encoding="utf-8"))["config"]
    edit(saved, config={**config, **change})
    with pytest.raises(ModelError, match=rf"do not fit the description beside it \({name}.*keep the \.safetensors"):
        load_model(saved)


class Payload:
    """A pickle that would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return builtins.open, (str(self.path), "w")


def test_a_pickle_in_place_of_the_tensors_is_not_run(saved: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for write in (lambda f: pickle.dump(Payload(trap), f), lambda f: torch.save(Payload(trap), f)):
        with saved.open("wb") as file:
            write(file)
        with pytest.raises(ModelError, match="cannot be read"):
            load_model(saved)
        assert not trap.exists()


def test_no_file_of_the_model_is_unpickled(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("unpickled")

    for module, name in ((pickle, "load"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    assert load_model(saved).elements == [1, 6, 8]
