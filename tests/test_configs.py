"""Every configuration in configs/ is read; where its data is there, a step is trained from it, or steps are integrated."""

import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import yaml

from bec_mace.config.driver import load_driver_config
from bec_mace.config.phonons import load_phonon_config
from bec_mace.config.schema import load_config
from bec_mace.data import read_frames
from bec_mace.data.reading import expand
from bec_mace.dynamics import load_md_config
from bec_mace.errors import DataError

ROOT = Path(__file__).parents[1]
ALL = sorted((ROOT / "configs").rglob("*.yaml"))
DYNAMICS = [path for path in ALL if "ensemble" in yaml.safe_load(path.read_text(encoding="utf-8"))]
PHONONS = [path for path in ALL if "supercell" in yaml.safe_load(path.read_text(encoding="utf-8"))]
KERNELS = [path for path in ALL if yaml.safe_load(path.read_text(encoding="utf-8")).get("model", {}).get("kind") == "kernel"]
DRIVERS = [path for path in ALL if "address" in yaml.safe_load(path.read_text(encoding="utf-8"))]
CONFIGS = [path for path in ALL if path not in DYNAMICS + KERNELS + PHONONS + DRIVERS]
N_FRAMES = 2


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    """Paths in configs/ are relative to the root of the repository."""
    monkeypatch.chdir(ROOT)


def smallest_frames(config, path, trained=("born_effective_charges",)):
    """Write the smallest training structures to a file; false where the data of a config is not here."""
    from ase.io import write

    try:
        expand(config.data.train)
    except DataError:
        return False
    frames = read_frames(
        config.data.train, keys=config.data.keys, index_order=config.data.index_order, properties=tuple(trained)
    )
    # Only frames that hold every label; of those the smallest of the same elements, so that a step takes seconds.
    complete = [frame for frame in frames if set(trained) <= set(frame.labels)]
    alike = defaultdict(list)
    for frame in sorted(complete, key=len):
        group = alike[frozenset(frame.atomic_numbers.tolist())]
        group.append(frame)
        if len(group) == N_FRAMES:
            write(path, [frame.to_atoms() for frame in group], format="extxyz")
            return True
    raise AssertionError(f"{config.data.train}: no {N_FRAMES} frames of the same elements")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_valid_and_commented(path):
    config = load_config(path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#"), "the first line says what the config is for"
    assert config.output == Path("runs") / path.stem, "the run folder bears the name of the config"
    assert set(yaml.safe_load(text)) >= {"data", "model", "training"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_step_can_be_trained(path, tmp_path):
    from bec_mace.train.loop import train

    config = load_config(path)
    data = tmp_path / "few.extxyz"
    if not smallest_frames(config, data, config.training.loss.weights):
        pytest.skip(f"{config.data.train} is not on this machine")
    # One frame to learn from, one to look at; the keys and the index order are those that to_atoms writes.
    config = load_config(
        path,
        [
            f"output={tmp_path / 'run'}",
            f"data.train={data}",
            "data.validation=0.5",
            "data.test=null",
            "data.keys={}",
            "data.index_order=polarization_first",
            "training.epochs=1",
            "training.schedule.warmup_epochs=1",
            "training.batch_size=1",
            "device=cpu",
        ],
    )
    train(config)
    assert (tmp_path / "run" / "best.safetensors").is_file()
    header, row = (line.split(",") for line in (tmp_path / "run" / "metrics.csv").read_text().splitlines())
    assert len(header) == len(row)
    assert np.isfinite(float(row[header.index("train_loss")]))


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_kernel_config_is_valid_and_can_be_fitted(path, tmp_path):
    from bec_mace.train.kernel_fit import fit_kernel

    config = load_config(path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#"), "the first line says what the config is for"
    assert config.output == Path("runs") / path.stem, "the run folder bears the name of the config"
    data = tmp_path / "few.extxyz"
    if not smallest_frames(config, data):
        pytest.skip(f"{config.data.train} is not on this machine")
    results = fit_kernel(
        load_config(
            path,
            [
                f"output={tmp_path / 'run'}",
                f"data.train={data}",
                "data.validation=0",
                "data.test=0.5",
                "data.keys={}",
                "data.index_order=polarization_first",
                "model.num_representatives=20",
                "device=cpu",
            ],
        )
    )
    assert (tmp_path / "run" / "best.safetensors").is_file()
    errors = results["test"]["born_effective_charges"]
    assert errors["rmse"] < 0.5 * errors["trivial"]["rmse"], "one frame and twenty environments say that much"


@pytest.mark.parametrize("path", DYNAMICS, ids=lambda path: path.stem)
def test_dynamics_config_is_valid_and_commented(path):
    config = load_md_config(path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#"), "the first line says what the config is for"
    assert config.output == Path("runs") / path.stem, "the run folder bears the name of the config"
    if config.structure.startswith("runs/"):
        assert config.structure in {f"runs/{other.stem}" for other in DYNAMICS}, "goes on from the run of another config"


@pytest.mark.parametrize("path", DRIVERS, ids=lambda path: path.stem)
def test_driver_config_fits_to_the_input_of_i_pi(path):
    config = load_driver_config(path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#"), "the first line says what the config is for"
    system = ElementTree.parse(path.with_suffix(".xml")).getroot()
    assert system.findtext("ffsocket/address").strip() == config.address
    assert system.find("ffsocket").get("mode") == ("unix" if config.port is None else "inet")
    assert system.findtext("system/initialize/file").strip() in text, "the structure that i-PI starts from is made"


def test_steps_can_be_integrated(tmp_path):
    """The configs in the order of their names reversed: nvt, then nve from its end."""
    from bec_mace.dynamics import run

    for path in reversed(DYNAMICS):
        config = load_md_config(path)
        start = [f"structure={tmp_path / Path(config.structure).name}"] if config.structure.startswith("runs/") else []
        summary = run(
            load_md_config(path, [f"output={tmp_path / path.stem}", "steps=2", "sampling.log=1", "device=cpu", *start])
        )
        assert summary.steps == 2 and 100 < summary.mean_temperature_K < 1500


def test_there_is_a_quickstart_on_included_data():
    config = load_config(ROOT / "configs" / "quickstart.yaml")
    assert str(config.data.train).startswith("bec_mace:")


@pytest.mark.parametrize("path", PHONONS, ids=lambda path: path.stem)
def test_a_phonon_config_runs(path, tmp_path):
    pytest.importorskip("phonopy")
    from bec_mace.phonons import run

    assert load_phonon_config(path).output == Path("runs") / path.stem
    results = run(load_phonon_config(path, [f"output={tmp_path / 'out'}", "bands.points=20"]))
    assert results.spectrum is not None and (tmp_path / "out" / "phonons.json").is_file()
