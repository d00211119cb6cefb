import csv
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time

import ase.io
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from bec_mace.cli.info import describe_model
from bec_mace.config.schema import load_config, save_config
from bec_mace.data import Frame, read_frames
from bec_mace.errors import DataError, TrainingError
from bec_mace.models import load_model
from bec_mace.train import steps
from bec_mace.train.loop import train
from bec_mace.train.run_folder import read_metrics

Z = "born_effective_charges"


class Killed(BaseException):
    """Stands for a kill: nothing in the package may catch it."""


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch, request):
    """Pictures take a second each; one test makes them."""
    if "with_pictures" not in request.fixturenames:
        for name in ("plot_parity", "plot_learning_curve"):
            monkeypatch.setattr(f"bec_mace.train.results.{name}", lambda *arguments: None)


@pytest.fixture
def with_pictures():
    """A test that asks for this makes pictures."""


def kill_at(monkeypatch, number):
    """Stop the run in the middle of its optimizer step ``number``, counted from 1."""
    step, calls = steps.training_step, []

    def stepping(*arguments):
        calls.append(1)
        if len(calls) == number:
            raise Killed
        return step(*arguments)

    monkeypatch.setattr(steps, "training_step", stepping)


def final_weights(folder):
    state = torch.load(folder / "last.pt", weights_only=True)["state"]
    return {**state["model"], **{f"average.{name}": value for name, value in state["average"]["average"].items()}}


@pytest.mark.parametrize("schedule", [{"name": "cosine"}, {"name": "plateau", "patience": 1}])
def test_a_killed_run_ends_with_the_same_bits(make_config, monkeypatch, schedule):
    options = {"epochs": 4, "position_noise": 0.02, "schedule": {**schedule, "warmup_epochs": 1.5}}
    whole, cut = make_config("whole", **options), make_config("cut", **options)
    train(whole)
    with monkeypatch.context() as patch:
        kill_at(patch, 6)  # two steps an epoch: the second of epoch 3
        with pytest.raises(Killed):
            train(cut)
    assert read_metrics(cut.output / "metrics.csv")[0]["epoch"] == [1, 2]
    train(cut, resume=True)
    expected, found = final_weights(whole.output), final_weights(cut.output)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    best = [load_file(config.output / "best.safetensors") for config in (whole, cut)]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])
    rows = [list(csv.DictReader((config.output / "metrics.csv").read_text().splitlines())) for config in (whole, cut)]
    for row in (*rows[0], *rows[1]):
        del row["seconds"]
    assert rows[0] == rows[1]


def test_a_kill_between_metrics_and_checkpoint_repeats_no_row(make_config, monkeypatch):
    config = make_config(epochs=3)
    with monkeypatch.context() as patch:
        kill_at(patch, 5)
        with pytest.raises(Killed):
            train(config)
    with (config.output / "metrics.csv").open("a") as file:
        file.write("3,6,0.1,1.0,1.0,1.0\n")
    train(config, resume=True)
    assert read_metrics(config.output / "metrics.csv")[0]["epoch"] == [1, 2, 3]


def test_run_folder_holds_what_it_promises(make_config, with_pictures):
    config = make_config(data={"test": 0.17})
    results = train(config)
    assert {path.name for path in config.output.iterdir()} == {
        "config.yaml",
        "train.log",
        "metrics.csv",
        "metrics_units.json",
        "best.safetensors",
        "last.pt",
        "results.json",
        "parity_validation.png",
        "parity_test.png",
        "learning_curve.png",
    }
    assert json.loads((config.output / "results.json").read_text()) == results
    assert load_config(config.output / "config.yaml") == config
    with (config.output / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"] and all(float(row["train_loss"]) > 0 for row in rows)
    of_column = json.loads((config.output / "metrics_units.json").read_text())
    assert list(of_column) == list(rows[0])
    assert of_column[f"validation_{Z}_rmse"] == "e"
    assert of_column["seconds"] == "s"
    log = (config.output / "train.log").read_text()
    assert "epoch    2/2" in log and "of each epoch: loss, and RMSE of each property, of training and of validation" in log
    assert re.search(r"epoch    2/2  loss [\d.e+-]+, [\d.e+-]+  Z\* [\d.]+, [\d.]+ e  lr ", log)


def test_results_are_those_of_the_best_averaged_model(make_config):
    config = make_config(epochs=3)
    results = train(config)
    model = load_model(config.output, dtype=torch.float64)
    columns, _ = read_metrics(config.output / "metrics.csv")
    best = min(columns["validation_loss"])
    assert results["best_epoch"] == columns["epoch"][columns["validation_loss"].index(best)]
    assert results["validation"][Z]["rmse"] == pytest.approx(best**0.5, rel=1e-6)
    assert model.metadata["metrics"]["validation_loss"] == pytest.approx(best, rel=1e-6)
    assert model.metadata["training_config"]["seed"] == 3
    average = torch.load(config.output / "last.pt", weights_only=True)["state"]["average"]["average"]
    if results["best_epoch"] == 3:
        assert torch.equal(average["reference_charges"], model.reference_charges)


def test_training_lowers_the_error(make_config):
    config = make_config(epochs=40, schedule={"name": "cosine", "warmup_epochs": 2.0})
    results = train(config)
    columns, _ = read_metrics(config.output / "metrics.csv")
    assert columns[f"train_{Z}_rmse"][-1] < 0.6 * columns[f"train_{Z}_rmse"][0]
    assert results["validation"][Z]["rmse"] < columns[f"validation_{Z}_rmse"][0]


def test_charges_energies_and_forces_train_together(make_config):
    config = make_config(
        model={"heads": ["charge_transfer", "energy"]},
        loss={"weights": {Z: 1.0, "energy": 1.0, "forces": 0.1}, "element_weights": {"O": 2.0}},
    )
    results = train(config)
    columns, units = read_metrics(config.output / "metrics.csv")
    assert units["train_energy_rmse"] == "eV/atom" and units["validation_forces_mae"] == "eV/Å"
    assert columns["train_forces_rmse"][1] < columns["train_forces_rmse"][0]
    assert results["validation"]["forces"]["rmse"] > 0.0
    assert set(results["validation"]["head_shares"]) == {"charge_transfer", "reference"}


def test_dielectric_tensors_train_with_charges(make_config, files):
    config = make_config(
        data={"train": str(files / "zirconia_pbe.extxyz")},
        epochs=40,
        model={"heads": ["charge_transfer", "polarizability"], "max_l": 2, "hidden_max_l": 2},
        loss={"weights": {Z: 1.0, "dielectric_tensor": 1.0}, "huber": {"dielectric_tensor": 0.1}},
    )
    results = train(config)
    columns, units = read_metrics(config.output / "metrics.csv")
    assert units["train_dielectric_tensor_rmse"] == "relative"
    assert columns["train_dielectric_tensor_rmse"][0] > 0.03
    assert columns["train_dielectric_tensor_rmse"][-1] < 0.02
    assert 0.0 < results["validation"]["dielectric_tensor"]["rmse"] < 0.06
    assert "polarizability" not in results["validation"]["head_shares"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pbc": [True, True, False]}, "needs a cell that is periodic in three directions; train `polarizability` instead"),
        ({"eps_inf": -np.eye(3)}, "dielectric_tensor has the trace -3, which must be positive"),
    ],
)
def test_dielectric_tensors_that_make_no_sense_are_refused(make_config, files, write_extxyz, change, message):
    frames = ase.io.read(files / "zirconia_pbe.extxyz", ":4")
    frames[2].pbc = change.pop("pbc", True)
    frames[2].info.update(change)
    config = make_config(
        data={"train": str(write_extxyz(frames)), "validation": 0},
        model={"heads": ["polarizability"]},
        loss={"weights": {"dielectric_tensor": 1.0}},
    )
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        train(config)
    assert "frame 2" in str(caught.value)


def test_a_folder_with_a_run_is_refused(make_config):
    config = make_config(epochs=1)
    train(config)
    with pytest.raises(TrainingError, match=r"holds a run already \(metrics.csv\); go on with it"):
        train(config)


def test_a_folder_where_a_run_stopped_at_its_data_is_free(make_config):
    config = make_config(epochs=1)
    config.output.mkdir(parents=True)
    for name in ("config.yaml", "train.log"):
        (config.output / name).write_text("of the run that stopped\n")
    assert train(config)["epochs"] == 1


def test_resume_starts_a_run_where_there_is_none(make_config):
    assert train(make_config(epochs=1), resume=True)["epochs"] == 1


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"model": {"channels": 8}}, "model.channels = 4, now 8"),
        ({"data": {"validation": 0.5}}, r"data.validation = 0.\d+, now 0.5"),
        ({"batch_size": 3}, r"training.batch_size = \d, now 3"),
        ({"optimizer": {"learning_rate": 0.5}}, r"training.optimizer.learning_rate = 0.\d+, now 0.5"),
        ({"optimizer": {"name": "soap"}}, "training.optimizer.name = adam, now soap"),
        ({"schedule": {"name": "constant"}}, "training.schedule.name = cosine, now constant"),
        ({"ema_decay": 0.5}, r"training.ema_decay = 0.\d+, now 0.5"),
        ({"ema_decay": None}, r"training.ema_decay = 0.\d+, now None"),
        ({"position_noise": 0.1}, "training.position_noise = None, now 0.1"),
        ({"gradient_clip": 1.0}, "training.gradient_clip = 10.0, now 1.0"),
        ({"loss": {"weights": {Z: 2.0}}}, r"training.loss.weights = \{.born_effective_charges.: 1.0\}, now"),
        ({"loss": {"huber": {Z: 2.0}}}, "training.loss.huber = {}, now"),
        ({"epochs": 1}, "training.epochs = 2, now 1; more are possible, not fewer"),
        ({"validate_every": 2}, "training.validate_every = 1, now 2"),
    ],
)
def test_resume_of_another_run_is_refused(make_config, change, name):
    """By name, and nothing in the folder is touched: its model stays with the configuration that it was trained by."""
    config = make_config(epochs=2)
    train(config)
    before = {path.name: path.read_bytes() for path in config.output.iterdir()}
    with pytest.raises(TrainingError, match=f"cannot resume, the run in this folder had .*{name}"):
        train(make_config(**{"epochs": 2, **change}), resume=True)
    assert {path.name: path.read_bytes() for path in config.output.iterdir()} == before


def test_resume_with_another_precision_is_refused(make_config):
    train(make_config(epochs=1))
    config = make_config(epochs=1).model_copy(update={"precision": "float32"})
    with pytest.raises(TrainingError, match="precision = float64, now float32"):
        train(config, resume=True)


@pytest.mark.parametrize("which", ["train", "validation"])
def test_resume_with_other_labels_of_the_same_structures_is_refused(make_config, water_file, tmp_path, which):
    frames = ase.io.read(water_file, index=":")
    for name in ("train", "validation"):
        ase.io.write(tmp_path / f"{name}.extxyz", frames[:4] if name == "train" else frames[4:], format="extxyz")
    data = {"train": str(tmp_path / "train.extxyz"), "validation": str(tmp_path / "validation.extxyz")}
    config = make_config(epochs=1, data=data)
    train(config)
    before = {path.name: path.read_bytes() for path in config.output.iterdir()}
    changed = ase.io.read(tmp_path / f"{which}.extxyz", index=":")
    changed[0].arrays["REF_becs"][0, 0] += 1e-6
    ase.io.write(tmp_path / f"{which}.extxyz", changed, format="extxyz")
    with pytest.raises(TrainingError, match="had another validation data" if which == "validation" else "had another data"):
        train(config, resume=True)
    assert {path.name: path.read_bytes() for path in config.output.iterdir()} == before


def test_more_epochs_can_be_asked_for_on_resume(make_config):
    train(make_config(epochs=1))
    assert train(make_config(epochs=2), resume=True)["epochs"] == 2


def test_a_loss_that_is_not_finite_stops_the_run(make_config, monkeypatch):
    config = make_config(epochs=4)
    step, calls = steps.training_step, []

    def stepping(state, *arguments):
        calls.append(1)
        if len(calls) == 6:
            with torch.no_grad():
                state.parameters()[0].mul_(float("nan"))
        return step(state, *arguments)

    monkeypatch.setattr(steps, "training_step", stepping)
    with pytest.raises(TrainingError, match=r"the loss became nan .* in epoch 3, step 2, training frames"):
        train(config)
    state = torch.load(config.output / "last.pt", weights_only=True)["state"]
    assert state["progress"]["epoch"] == 2
    assert all(torch.isfinite(value).all() for value in state["model"].values())
    assert "the loss became nan" in (config.output / "train.log").read_text()


def test_a_run_without_a_finite_validation_has_no_best_model(make_config, monkeypatch):
    monkeypatch.setattr("bec_mace.train.loop.validate", lambda *arguments: {"loss": float("nan")})
    with pytest.raises(TrainingError, match="no validation gave a finite loss"):
        train(make_config(epochs=1))


def test_early_stopping(make_config, monkeypatch):
    losses = iter([1.0, 0.5, 0.6, 0.5, 0.1])
    monkeypatch.setattr("bec_mace.train.loop.validate", lambda *arguments: {"loss": next(losses)})
    results = train(make_config(epochs=20, early_stopping_patience=2))
    assert (results["epochs"], results["best_epoch"]) == (4, 2)


def test_validation_every_few_epochs(make_config):
    config = make_config(epochs=5, validate_every=2)
    train(config)
    columns, _ = read_metrics(config.output / "metrics.csv")
    assert [epoch for epoch, loss in zip(columns["epoch"], columns["validation_loss"], strict=True) if np.isfinite(loss)] == [
        2,
        4,
        5,
    ]


def test_without_validation_the_last_weights_are_kept(make_config):
    config = make_config(data={"validation": 0, "test": 0.34}, epochs=3)
    results = train(config)
    assert (results["best_epoch"], results["best_loss"]) == (3, None)
    assert "validation" not in results and results["test"][Z]["rmse"] > 0.0
    stored = load_file(config.output / "best.safetensors")
    last = final_weights(config.output)
    name = "reference_charges"
    assert torch.equal(stored[name], last[f"average.{name}"])


def test_the_time_limit_stops_a_run_that_can_go_on(make_config):
    config = make_config(epochs=3, time_limit_minutes=1e-6)
    assert train(config)["epochs"] == 1
    assert "time limit" in (config.output / "train.log").read_text()
    assert train(make_config(epochs=3), resume=True)["epochs"] == 3


def test_a_property_without_labels_is_refused(make_config):
    with pytest.raises(DataError, match="polarization: found in 0 of 6 frames"):
        train(make_config(model={"heads": ["dipole"]}, loss={"weights": {Z: 1.0, "polarization": 1.0}}))


def test_the_log_of_a_run_ends_with_it(make_config):
    package = logging.getLogger("bec_mace")
    before = package.handlers[:], package.level
    train(make_config(epochs=1))
    assert (package.handlers, package.level) == before


@pytest.mark.slow
def test_a_real_kill(make_config, tmp_path):
    options = {"epochs": 12}
    whole, cut = make_config("whole", **options), make_config("cut", **options)
    train(whole)
    save_config(cut, tmp_path / "cut.yaml")
    process = subprocess.Popen(
        [sys.executable, "-m", "bec_mace", "train", str(tmp_path / "cut.yaml")],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not (cut.output / "last.pt").exists():
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    train(cut, resume=True)
    expected, found = final_weights(whole.output), final_weights(cut.output)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_two_processes_train_as_one(make_config, tmp_path):
    # Three frames a batch leave one process with less than the other, and in the last batch with nothing.
    options = {"epochs": 2, "batch_size": 3}
    one, two = make_config("one", **options), make_config("two", **options)
    train(one)
    text = yaml.safe_load((one.output / "config.yaml").read_text())
    text["output"] = str(two.output)
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(text))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            "-m",
            "bec_mace",
            "train",
            str(tmp_path / "two.yaml"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stderr
    columns = [read_metrics(config.output / "metrics.csv")[0] for config in (one, two)]
    for name in columns[0]:
        if name != "seconds":
            np.testing.assert_allclose(columns[1][name], columns[0][name], rtol=1e-7, err_msg=name)
    expected, found = final_weights(one.output), final_weights(two.output)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-9)


def test_energies_keep_their_digits_in_float32(make_config, water_file, tmp_path):
    frames = ase.io.read(water_file, index=":")
    for frame in frames:
        frame.info["REF_energy"] += -1e6 * len(frame)
    ase.io.write(tmp_path / "deep.extxyz", frames, format="extxyz")
    errors = []
    for name, file in (("plain", water_file), ("deep", tmp_path / "deep.extxyz")):
        config = make_config(
            name, data={"train": str(file)}, model={"heads": ["energy"]}, epochs=1, loss={"weights": {"energy": 1.0}}
        ).model_copy(update={"precision": "float32"})
        errors.append(train(config)["validation"]["energy"]["rmse"])
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)


def test_labels_without_their_egg_box_error_are_trained(make_config, tmp_path):
    frames = []
    for frame in read_frames("bec_mace:water_revpbe_d3.extxyz.gz"):
        phases = 2 * np.pi * 40 * np.linalg.solve(frame.cell.T, frame.positions.T).T
        shares = 0.3 * np.cos(phases) * (frame.atomic_numbers == 8)[:, None]
        axes = np.linalg.inv(frame.cell).T
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        labels = {Z: frame.labels[Z] + np.einsum("jk,ka,kb->jab", shares, axes, axes)}
        frames.append(Frame(frame.atomic_numbers, frame.positions, frame.cell, frame.pbc, labels))
    path = tmp_path / "grid.extxyz"
    ase.io.write(path, [frame.to_atoms() for frame in frames], format="extxyz")
    data = {"train": str(path), "validation": 0, "test": 0.2, "egg_box": "remove"}
    results = train(make_config(data=data, epochs=1))
    assert results["egg_box"]["grid"] == [40, 40, 40]
    assert results["egg_box"]["amplitudes"]["O"] == pytest.approx([0.3, 0.3, 0.3], abs=0.01)
    errors = results["test"][Z]
    # One in nine components of every third atom holds 0.3 e / sqrt(2), which no model can know.
    assert errors["rmse"] ** 2 - errors["rmse_without_egg_box"] ** 2 == pytest.approx(0.3**2 / 2 / 9, rel=0.2)


def test_what_static_charges_became_is_kept_beside_the_weights(make_config):
    section = {"sources": ["monopole"], "screening": "fixed", "epsilon_infinity": 1.5, "charge_sign": {"O": -1, "H": 1}}
    weights = {"weights": {"energy": 1.0, "forces": 1.0}}
    config = make_config(model={"heads": ["energy", "monopole"], "electrostatics": section}, epochs=1, loss=weights)
    report = train(config)["validation"]["static_charges"]
    assert report["r_squared"] > report["r_squared_of_other_sign"]
    assert report["screening"]["mean"] == pytest.approx(1.5**0.5, abs=1e-6)
    assert report["charges"]["per_element"]["O"]["mean"] < -0.3 < 0.1 < report["charges"]["per_element"]["H"]["mean"]
    metadata = load_model(config.output).metadata
    assert metadata["static_charges"] == report
    lines = "\n".join(describe_model(metadata))
    assert "Coulomb's law: monopole, screening fixed, smearing 1 Å" in lines
    assert "screening (fixed): 1.2247, spread 0.0000" in lines and "R^2 of Z*" in lines


def test_labels_that_are_not_trained_leave_no_trace(make_config, water_file, tmp_path):
    """Charges from energies and forces alone must not start from those of Z*."""
    section = {"sources": ["monopole"], "screening": "fixed", "epsilon_infinity": 1.5, "charge_sign": {"O": -1, "H": 1}}
    frames = ase.io.read(water_file, index=":")
    for atoms in frames:
        del atoms.arrays["REF_becs"]
    ase.io.write(tmp_path / "bare.extxyz", frames, format="extxyz")
    weights = []
    for name, path in (("labelled", water_file), ("bare", tmp_path / "bare.extxyz")):
        model = {"heads": ["energy", "monopole"], "electrostatics": section}
        loss = {"weights": {"energy": 1.0, "forces": 1.0}}
        config = make_config(name, data={"train": str(path)}, model=model, epochs=1, loss=loss)
        train(config)
        weights.append(load_file(config.output / "best.safetensors"))
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
