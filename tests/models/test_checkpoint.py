"""Saved models: bit by bit the same, and clear words for files that are damaged or do not fit together."""

from __future__ import annotations

import builtins
import json
import pickle
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bec_mace.data import Frame, build_graph, collate
from bec_mace.errors import ModelError
from bec_mace.models import PolarizationModel, checkpoint, load_model, save_model
from bec_mace.models.checkpoint import available_models
from bec_mace.models.checkpoint_file import digest, read_checkpoint
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


def edit(saved: Path, sealed: bool = True, **changes: object) -> None:
    """Change the description; ``sealed`` writes the digest that belongs to it, as an attacker would."""
    with safe_open(saved, framework="pt") as file:
        description = {**json.loads(file.metadata()["bec_mace"]), **changes}
    tensors = load_file(saved)
    if sealed:
        description["digest"] = digest(description, tensors)
    save_file(tensors, saved, metadata={"bec_mace": json.dumps(description)})


def description_of(saved: Path) -> dict:
    return read_checkpoint(saved)[0]


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
    assert metadata["format_version"] == 2
    assert set(metadata["probe"]["values"]) == {"born_effective_charges", "charges", "energy"}
    assert set(metadata["probe"]["versions"]) == {"mace-torch", "e3nn", "torch"}
    assert metadata["elements"] == ["H", "C", "O"]
    assert metadata["units"]["index_order"] == "polarization_first"
    assert metadata["metrics"] == {"rmse": 0.5}
    assert metadata["note"] == "Å"
    assert metadata["number_of_parameters"] == sum(p.numel() for p in model.parameters())
    assert sorted(p.name for p in saved.parent.iterdir()) == ["best.safetensors"]


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


@pytest.mark.parametrize("name", ["network", "committee", "kernel"])
def test_files_of_the_first_format(name: str, files: Path, tmp_path: Path) -> None:
    """Two files, written by the version that had that format: the same numbers, and one file when saved again."""
    folder = files / "checkpoints"
    stored = json.loads((folder / "expected.json").read_text())
    frame = Frame(np.array(stored["numbers"]), np.array(stored["positions"]), np.array(stored["cell"]), np.ones(3, dtype=bool))
    model = load_model(folder / f"{name}_1", dtype=torch.float64)
    again = load_model(save_model(model, tmp_path / "again", model.metadata), dtype=torch.float64)
    for loaded in (model, again):
        out = loaded(build_graph(frame, loaded.r_max), stored[f"{name}_1"])
        for key, value in stored[f"{name}_1"].items():
            assert np.abs(out[key].numpy() - np.array(value)).max() < 1e-10, key
        assert loaded.metadata["format_version"] == 2
    assert again.metadata.get("metrics") == model.metadata.get("metrics")
    assert [path.name for path in tmp_path.iterdir()] == ["again.safetensors"]


def test_the_first_format_keeps_its_files_together(files: Path, tmp_path: Path) -> None:
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"a{suffix}").write_bytes((files / "checkpoints" / f"network_1{suffix}").read_bytes())
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    with pytest.raises(ModelError, match=r"a\.safetensors: holds no description of a model, and a\.json is not beside it"):
        load_model(tmp_path / "a")
    other = (files / "checkpoints" / "committee_1.json").read_bytes()
    (tmp_path / "a.json").write_bytes(other)
    with pytest.raises(ModelError, match=r"not the file that a\.json was written with; keep the \.safetensors"):
        load_model(tmp_path / "a")
    for text in (b"", b"{", b"\xff"):
        (tmp_path / "a.json").write_bytes(text)
        with pytest.raises(ModelError, match=r"a\.json: cannot be read .*; the file is damaged"):
            load_model(tmp_path / "a")


@pytest.mark.parametrize("version", [0, 1, 3, "2", None, [2]])
def test_other_format_version(saved: Path, version: object) -> None:
    edit(saved, format_version=version)
    with pytest.raises(ModelError, match=rf"format version {re.escape(str(version))}, this package reads 1 to 2; install the"):
        load_model(saved)


def test_description_that_is_no_mapping(saved: Path) -> None:
    save_file(load_file(saved), saved, metadata={"bec_mace": "[1, 2]"})
    with pytest.raises(ModelError, match="does not describe a model; the file is damaged"):
        load_model(saved)


@pytest.mark.parametrize("changes", [{"config": {}}, {"statistics": {}}, {"elements": ["H", "C", "N"]}])
def test_a_description_that_was_edited(saved: Path, changes: dict) -> None:
    edit(saved, sealed=False, **changes)
    with pytest.raises(ModelError, match="is not as it was saved, its digest is another"):
        load_model(saved)


def test_another_basis_is_noticed(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Couplings of a layer in another sign, as another version of e3nn might have them."""
    build = checkpoint._build

    def other(*arguments: object) -> PolarizationModel:
        model = build(*arguments)
        for name, buffer in model.backbone.layer(0).named_buffers():
            if name.startswith(("couplings_0_", "raised_0_")):
                buffer.neg_()
        return model

    monkeypatch.setattr(checkpoint, "_build", other)
    for dtype in (torch.float32, torch.float64):
        with pytest.raises(ModelError, match=r"does not give what it gave when it was saved: born_effective_charges .*e3nn"):
            load_model(saved, dtype=dtype)


@pytest.mark.parametrize("probe", [None, 3, {}, {"values": 3, "versions": {}}, {"values": {"energy": "x"}, "versions": {}}])
def test_a_probe_that_is_none(saved: Path, probe: object) -> None:
    edit(saved, probe=probe)
    with pytest.raises(ModelError, match="does not describe a model"):
        load_model(saved)


def test_a_probe_without_numbers_is_that_of_a_model_that_diverged(model: PolarizationModel, tmp_path: Path) -> None:
    broken = copy_model(model)
    with torch.no_grad():
        broken.reference_charges.fill_(float("nan"))
    assert description_of(save_model(broken, tmp_path / "m"))["probe"]["values"] == {}
    load_model(tmp_path / "m")


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
    with pytest.raises(ModelError, match=r"best\.safetensors: does not describe a model"):
        load_model(saved)


@pytest.mark.parametrize("size", [0, 4, 100, -8], ids=["empty", "header cut", "table cut", "end cut"])
def test_damaged_tensors(saved: Path, size: int) -> None:
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"best\.safetensors: cannot be read .*; the file is damaged"):
        load_model(saved)


def test_tensors_that_were_changed(saved: Path) -> None:
    """One number of many, by the smallest amount."""
    tensors = load_file(saved)
    with safe_open(saved, framework="pt") as file:
        text = file.metadata()["bec_mace"]
    tensors["reference_charges"][0] = torch.nextafter(tensors["reference_charges"][0], torch.tensor(9.0, dtype=torch.float64))
    save_file(tensors, saved, metadata={"bec_mace": text})
    with pytest.raises(ModelError, match="is not as it was saved, its digest is another"):
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
    edit(saved, config={**description_of(saved)["config"], **change})
    with pytest.raises(ModelError, match=rf"do not fit the description beside them \({name}"):
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


def test_a_mace_file_that_a_model_names_is_not_read(saved: Path, tmp_path: Path) -> None:
    """Without sizes a configuration of training would have them read from the file, which is a pickle."""
    trap, pickled = tmp_path / "trap", tmp_path / "mace.model"
    torch.save(Payload(trap), pickled)
    config = {**description_of(saved)["config"], "backbone": {"from_mace": str(pickled), "freeze": True}}
    for backbone in (config["backbone"], {**config["backbone"], "sizes": None}, {**config["backbone"], "sizes": {}}):
        edit(saved, config={**config, "backbone": backbone})
        with pytest.raises(ModelError, match="does not describe a model .*the sizes of its backbone are missing"):
            load_model(saved)
    edit(saved, config={"kind": "committee", "members": [config, config]})
    with pytest.raises(ModelError, match="does not describe a model"):
        load_model(saved)
    assert not trap.exists()


def test_a_head_from_outside_is_not_imported_unasked(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_head.py").write_text("__import__('pathlib').Path('trap').touch()\nclass Head: pass\n")
    config = description_of(saved)["config"]
    for heads in (["evil_head:Head"], ["monopole", {"evil_head:Head": {}}]):
        edit(saved, config={**config, "heads": heads})
        with pytest.raises(ModelError, match=r"names evil_head:Head, which is code .*bec-mace --trust evil_head"):
            load_model(saved)
    assert not (tmp_path / "trap").exists()
    monkeypatch.setattr("bec_mace.outside._TRUSTED", {"evil_head"})
    with pytest.raises(ModelError, match="evil_head:Head is no head"):
        load_model(saved)
    assert (tmp_path / "trap").exists()
    sys.modules.pop("evil_head")


def test_a_file_of_the_name_of_a_model_of_the_package(
    model: PolarizationModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file or folder in the working directory is asked for by a path."""
    monkeypatch.chdir(tmp_path)
    save_model(model, tmp_path / "water")
    assert load_model("water").elements == [1, 8]
    assert load_model("./water.safetensors").elements == [1, 6, 8] == load_model(tmp_path / "water").elements
    with pytest.raises(ModelError, match="there is no model ''"):
        load_model("")


@pytest.mark.parametrize("seed", range(3))
def test_random_damage_gives_a_sentence_or_the_right_model(saved: Path, seed: int) -> None:
    """Bytes of the file that are changed, left out or doubled, and values of the description that are others."""
    original, generator = saved.read_bytes(), random.Random(seed)
    expected = outputs(load_model(saved, dtype=torch.float64))
    kinds = {"loaded": 0, "refused": 0}
    for _ in range(60):
        data = bytearray(original)
        place = generator.randrange(len(data) if generator.random() < 0.5 else 2500)
        match generator.randrange(4):
            case 0:
                data[place] ^= 1 << generator.randrange(8)
            case 1:
                data[place] = generator.randrange(256)
            case 2:
                del data[place : place + generator.randrange(1, 9)]
            case 3:
                data[place:place] = data[place : place + generator.randrange(1, 9)]
        saved.write_bytes(bytes(data))
        try:
            loaded = load_model(saved, dtype=torch.float64)
        except ModelError as error:
            assert str(error) and "\n" not in str(error)
            kinds["refused"] += 1
            continue
        kinds["loaded"] += 1
        assert all(torch.equal(value, expected[name]) for name, value in outputs(loaded).items())
    assert kinds["refused"] > 30


def _leaves(value: object, path: tuple = ()) -> list[tuple]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(leaf for key, child in children for leaf in _leaves(child, (*path, key)))]


@pytest.mark.parametrize("seed", range(3))
def test_random_edits_of_the_description(saved: Path, seed: int) -> None:
    """Under a digest that fits: a sentence, or a model that gives for its probe what the file says."""
    generator, whole = random.Random(seed), description_of(saved)
    replacements = [None, 0, -1, 1e300, "", "monopole", [], {}, [1], True, "water", float("nan")]
    for _ in range(40):
        part = generator.choice(["config", "statistics", "elements", "probe"])
        changed = json.loads(json.dumps(whole[part]))
        path = generator.choice(_leaves(changed)[1:])
        target = changed
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = generator.choice(replacements)
        edit(saved, **{part: changed})
        try:
            load_model(saved)
        except ModelError as error:
            assert str(error)
        edit(saved, **{part: whole[part]})
