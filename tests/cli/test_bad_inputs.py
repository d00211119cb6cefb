"""More than a hundred inputs that cannot be used: each one sentence, exit 2, nothing written, no traceback."""

from __future__ import annotations

import copy
import gzip
import random
from typing import Any

import pytest
import torch
import yaml
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT

import bec_mace
from bec_mace.errors import BecMaceError
from bec_mace.integrations.ase import BECCalculator
from bec_mace.models import PolarizationModel, load_model
from bec_mace.predict import predict

RUN: dict[str, Any] = {
    "data": {"train": "frames.extxyz", "validation": 0.3},
    "model": {"r_max": 3.0, "channels": 2, "num_interactions": 1, "heads": ["monopole"]},
    "training": {"epochs": 3},
    "output": "out",
}
SETTINGS: list[tuple[str, Any]] = [
    ("model.channels", 10**9),
    ("model.channels", 0),
    ("model.channels", 1.5),
    ("model.radial_mlp", [0]),
    ("model.radial_mlp", [-1]),
    ("model.radial_mlp", [10**9]),
    ("model.readout_mlp", [0]),
    ("model.readout_mlp", [10**9]),
    ("model.correlation", 9),
    ("model.correlation", 0),
    ("model.max_l", 12),
    ("model.num_interactions", 500),
    ("model.num_radial", 10**9),
    ("model.cutoff_power", 10**9),
    ("model.r_max", 1e-9),
    ("model.r_max", -1.0),
    ("model.r_max", 1e9),
    ("model.r_max", float("nan")),
    ("model.r_max", float("inf")),
    ("model.hidden_max_l", 6),
    ("model.hidden_irreps", "99999999x0e"),
    ("model.hidden_irreps", "nonsense"),
    ("model.element_correlation", 1.0),
    ("model.heads", []),
    ("model.heads", ["monopol"]),
    ("model.heads", ["monopole", "monopole"]),
    ("model.heads", [{"monopole": {"colour": 1}}]),
    ("model.heads", [{"energy": {"wall": "maybe"}}, "monopole"]),
    ("model.heads", [{"energy": {"wal": True}}, "monopole"]),
    ("model.heads", ["no_such_module:Head"]),
    ("model.kind", "forest"),
    ("training.epochs", 0),
    ("training.epochs", 10**30),
    ("training.batch_size", 10**30),
    ("training.optimizer", {"learning_rate": 1e300}),
    ("training.optimizer", {"learning_rate": 0}),
    ("training.optimizer", {"name": "newton"}),
    ("training.schedule", {"warmup_epochs": 50}),
    ("training.ema_decay", 1.0),
    ("training.gradient_clip", 0),
    ("training.position_noise", 1e300),
    ("training.loss", {"weights": {"born_effective_charges": 0}}),
    ("training.loss", {"weights": {"born_effective_charge": 1}}),
    ("training.loss", {"element_weights": {"Xx": 1}}),
    ("training.loss", {"element_weights": {"H": 0, "O": 0}}),
    ("seed", 2**64),
    ("seed", -1),
    ("data.seed", 2**70),
    ("data.train", "a\0b"),
    ("data.train", ""),
    ("data.train", "/dev/null"),
    ("data.train", "no/such/*.xyz"),
    ("data.validation", 1.5),
    ("data.validation", {"indices": 3}),
    ("data.keys", {"born_effective_charges": "nothing"}),
    ("output", "a\0b"),
    ("output", "x" * 5000),
    ("output", "frames.extxyz/run"),
    ("output", "frames.extxyz"),
    ("device", "abacus"),
    ("precision", "float16"),
    ("trainig", {}),
]

ONE = "1\nProperties=species:S:1:pos:R:3 {}\n{} {}\n"
CELL = 'Lattice="{}" pbc="T T T"'
NOISE = random.Random(1).randbytes(3000)
FILES: dict[str, bytes] = {
    "empty.extxyz": b"",
    "promise.extxyz": b"1000000000\nProperties=species:S:1:pos:R:3\nH 0 0 0\n",
    "negative.xyz": b"-5\n\n",
    "number.xyz": b"9" * 5000 + b"\n\n",
    "noise.extxyz": NOISE,
    "thin.extxyz": ONE.format(CELL.format("1e-3 0 0 0 1e-3 0 0 0 1e-3"), "H", "0 0 0").encode(),
    "needle.extxyz": ONE.format(CELL.format("1e-6 0 0 0 5 0 0 0 5"), "H", "0 0 0").encode(),
    "skewed.extxyz": ONE.format(CELL.format("5 0 0 5e6 5 0 0 0 5"), "H", "0 0 0").encode(),
    "overflow.extxyz": ONE.format(CELL.format("5 0 0 5e300 5 0 0 0 5"), "H", "0 0 0").encode(),
    "singular.extxyz": ONE.format(CELL.format("5 0 0 5 0 0 0 0 5"), "H", "0 0 0").encode(),
    "far.extxyz": ONE.format('pbc="F F F"', "O", "1e12 1 1").encode(),
    "farther.extxyz": ONE.format(CELL.format("5 0 0 0 5 0 0 0 5"), "O", "1e300 1 1").encode(),
    "undefined.extxyz": ONE.format("", "H", "nan 0 0").encode(),
    "infinite.extxyz": ONE.format("", "H", "inf 0 0").encode(),
    "dummy.extxyz": ONE.format("", "X", "0 0 0").encode(),
    "unknown.extxyz": ONE.format("", "Fe", "0 0 0").encode(),
    "same.extxyz": b"2\nProperties=species:S:1:pos:R:3\nH 0 0 0\nH 0 0 0\n",
    "cut.extxyz": b"3\nProperties=species:S:1:pos:R:3\nH 0 0 0\nH 0 0 1\n",
    "zeros.xyz.gz": gzip.compress(b"0" * (40 << 20)),
    "newlines.xyz.gz": gzip.compress(b"\n" * (40 << 20)),
    "no.xyz.gz": b"hello",
    "half.xyz.gz": gzip.compress(b"1\n\nH 0 0 0\n" * 1000)[:60],
    "OUTCAR": b" vasp.6 " + NOISE,
    "x.cif": b"data_\nloop_\n",
    "x.json": b"{",
    "x.traj": b"- of Ulm" + NOISE[:300],
    "x.db": b"SQLite format 3\0" + NOISE[:300],
    "x.h5": NOISE,
    "x.safetensors": NOISE,
    "none.safetensors": b"",
    "long.safetensors": (2**62).to_bytes(8, "little") + b"{}",
    "empty.yaml": b"",
    "list.yaml": b"[1, 2]",
    "text.yaml": b"a: b: c",
    "noise.yaml": NOISE,
    "tag.yaml": b"data: !!python/object/apply:os.system ['touch pwned']",
    "aliases.yaml": b"a: &a [x]\nb: [*a, *a]\n",
}


@pytest.fixture
def folder(tmp_path, small_frames):
    (tmp_path / "frames.extxyz").write_bytes(small_frames.read_bytes())
    return tmp_path


def check_refusal(result, folder, before):
    assert result.exit_code == 2, result.stderr
    last = [line for line in result.stderr.splitlines() if not line.startswith("  ")]
    assert last[-1].startswith("Error: ") and len(last[-1]) > 20, result.stderr
    assert "Traceback" not in result.stderr and "Unexpected" not in result.stderr
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before


@pytest.mark.parametrize(("key", "value"), SETTINGS, ids=[f"{key}={str(value)[:20]!a}" for key, value in SETTINGS])
def test_settings(run, folder, key, value):
    settings = copy.deepcopy(RUN)
    section = settings
    *path, last = key.split(".")
    for name in path:
        section = section.setdefault(name, {})
    section[last] = value
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    check_refusal(run("train", "run.yaml"), folder, before)


@pytest.mark.parametrize("name", FILES)
def test_files(run, folder, name):
    (folder / name).write_bytes(FILES[name])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    command = {
        "yaml": ["train", name],
        "h5": ["spectrum", name],
        "safetensors": ["info", name],
    }.get(name.rpartition(".")[2], ["predict", "water", name, "-o", "out.extxyz"])
    check_refusal(run(*command), folder, before)


@pytest.fixture(scope="module")
def water() -> PolarizationModel:
    return load_model("water")


def first(*arguments: Any, **options: Any) -> Any:
    return list(predict(*arguments, **options))


CALLS: dict[str, Any] = {
    "a number for a model": lambda m, a: BECCalculator(5),
    "nothing for a model": lambda m, a: BECCalculator(None),
    "a device that is none": lambda m, a: BECCalculator(m, device="foo"),
    "a device of another kind": lambda m, a: BECCalculator(m, device=3),
    "half precision": lambda m, a: BECCalculator(m, dtype="half"),
    "always as text": lambda m, a: BECCalculator(m, always="forces"),
    "always of something else": lambda m, a: BECCalculator(m, always=("foo",)).get_property("energy", a),
    "an unknown keyword": lambda m, a: BECCalculator(m, foo=3),
    "a class for a base": lambda m, a: BECCalculator(m, base=EMT),
    "a number for a base": lambda m, a: BECCalculator(m, base=3),
    "a field in words": lambda m, a: BECCalculator(m, electric_field="x"),
    "a field of two numbers": lambda m, a: BECCalculator(m, electric_field=[1, 2]),
    "a field that is undefined": lambda m, a: BECCalculator(m, electric_field=[1, 2, float("nan")]),
    "a negative skin": lambda m, a: BECCalculator(m, skin=-1),
    "a skin in words": lambda m, a: BECCalculator(m, skin="x"),
    "predict nothing": lambda m, a: first(m, None),
    "predict a number": lambda m, a: first(m, 5),
    "predict numbers": lambda m, a: first(m, [5]),
    "predict without a model": lambda m, a: first(None, [a]),
    "predict with a name": lambda m, a: first("water", [a]),
    "half a batch": lambda m, a: first(m, [a], batch_size=1.5),
    "an empty batch": lambda m, a: first(m, [a], batch_size=0),
    "a batch in words": lambda m, a: first(m, [a], batch_size="many"),
    "negative workers": lambda m, a: first(m, [a], workers=-1),
    "workers in words": lambda m, a: first(m, [a], workers="x"),
    "an unknown property": lambda m, a: first(m, [a], ("foo",)),
    "a property as text": lambda m, a: first(m, [a], "forces"),
    "no properties": lambda m, a: first(m, [a], None),
    "predict elsewhere": lambda m, a: first(m, [a], device="foo"),
    "no atoms": lambda m, a: first(m, [Atoms()]),
    "an unknown element": lambda m, a: first(m, [Atoms("Fe")]),
    "a model without a name": lambda m, a: load_model(""),
    "a model of nothing": lambda m, a: load_model(None),
    "a model of a number": lambda m, a: load_model(5),
    "a folder without a model": lambda m, a: load_model("/tmp"),
    "a null byte": lambda m, a: load_model("a\0b"),
    "a name too long": lambda m, a: load_model("x" * 5000),
    "a place that is none": lambda m, a: load_model("water", device="foo"),
    "whole numbers": lambda m, a: load_model("water", dtype=torch.int64),
    "words for a precision": lambda m, a: load_model("water", dtype="double"),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str, water: PolarizationModel) -> None:
    with pytest.raises(BecMaceError) as caught:
        CALLS[name](water, molecule("H2O"))
    assert len(str(caught.value)) > 20
    assert water.dtype == torch.float32


def test_there_are_enough_of_them() -> None:
    assert len(SETTINGS) + len(FILES) + len(CALLS) > 100
    assert bec_mace.__version__
