"""Work that is killed, at any write or at any moment, and gone on with, ends as if nothing had happened."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ase.io
import h5py
import pytest
import torch

from bec_mace.storage import files

TRAIN = """
data: {{train: {frames}, validation: 0.34}}
model: {{r_max: 3, channels: 4, max_l: 1, num_interactions: 1, num_radial: 4, radial_mlp: [8], heads: [monopole]}}
training: {{epochs: {epochs}, batch_size: 2}}
seed: {seed}
"""
KERNEL = """
data: {{train: {frames}, validation: 0.34}}
model: {{kind: kernel, r_max: 3, num_radial: 3, max_l: 2, num_representatives: 6, heads: [monopole]}}
"""
DYNAMICS = """
structure: {frames}@0
potential: {model}
ensemble: {{name: langevin, temperature: 100}}
time_step: 0.5
steps: {steps}
seed: 3
limits: {{distance: 0}}
sampling: {{trajectory: 2, checkpoint: 3, currents: 2}}
"""


def hdf5(path: Path) -> dict[str, Any]:
    with h5py.File(path, "r") as file:
        return {name: file[name][:].tobytes() for name in file}


def of_training(folder: Path) -> dict[str, Any]:
    with (folder / "metrics.csv").open() as file:
        rows = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    state = torch.load(folder / "last.pt", weights_only=True)["state"]["model"]
    weights = {name: value.numpy().tobytes() for name, value in state.items()}
    return {"best": (folder / "best.safetensors").read_bytes(), "rows": rows, **weights}


def of_dynamics(folder: Path) -> dict[str, Any]:
    frames = ase.io.read(folder / "trajectory.traj", index=":")
    atoms = [(frame.positions.tobytes(), frame.get_momenta().tobytes(), frame.info["step"]) for frame in frames]
    return {"atoms": atoms, **hdf5(folder / "currents.h5")}


class Work:
    """A command, what it leaves, and how it goes on."""

    def __init__(self, arguments: list[str], result: Any, resume: bool = True) -> None:
        self.arguments, self.result, self.resume = arguments, result, resume

    def again(self, started: bool) -> list[str]:
        return [*self.arguments, "--resume"] if started and self.resume else self.arguments


def make_work(kind: str, folder: Path, frames: Path, model: Path, long: bool, prepare: Any) -> Work:
    folder.mkdir(exist_ok=True)
    values = {"frames": frames, "model": model, "epochs": 400 if long else 2, "steps": 400 if long else 6, "seed": 0}
    out = folder / "out"
    if kind in ("train", "kernel", "md"):
        text = {"train": TRAIN, "kernel": KERNEL, "md": DYNAMICS}[kind]
        (folder / "run.yaml").write_text(text.format(**values) + f"output: {out}\n")
        result = {"train": of_training, "md": of_dynamics, "kernel": lambda out: (out / "best.safetensors").read_bytes()}[kind]
        return Work([kind if kind == "md" else "train", str(folder / "run.yaml")], lambda: result(out))
    if kind == "combine":
        for seed in (0, 1):
            member = folder.parent / f"member_{seed}"
            if not member.exists():
                text = TRAIN.format(**{**values, "epochs": 1, "seed": seed}) + f"output: {member}\n"
                (folder / f"{seed}.yaml").write_text(text)
                prepare(["train", str(folder / f"{seed}.yaml")])
        members = [str(folder.parent / f"member_{seed}") for seed in (0, 1)]
        return Work(["combine", *members, "-o", str(out)], lambda: (out / "best.safetensors").read_bytes(), resume=False)
    output = folder / f"out.{kind.removeprefix('predict ')}"
    many = folder / "many.extxyz"
    many.write_bytes(frames.read_bytes() * (600 if long else 2))
    read = hdf5 if output.suffix == ".h5" else Path.read_bytes
    return Work(["predict", str(model), str(many), "-o", str(output), "--batch-size", "2"], lambda: read(output))


KINDS = ["train", "kernel", "md", "combine", "predict extxyz", "predict h5"]


class Killed(BaseException):
    """What no code of ours catches."""


@pytest.mark.parametrize("after", [False, True], ids=["before the rename", "after the rename"])
@pytest.mark.parametrize("kind", KINDS)
def test_stopped_at_each_file_that_is_put_in_place(kind, after, run, small_frames, model_path, tmp_path, monkeypatch):
    """The work is stopped at its first file, started again, stopped at its second, and so on until it gets through."""

    def complete(arguments: list[str]) -> None:
        result = run(*arguments)
        assert result.exit_code == 0, result.stderr

    monkeypatch.setattr("bec_mace.train.results.plot_parity", lambda *a: None)
    monkeypatch.setattr("bec_mace.train.results.plot_learning_curve", lambda *a: None)
    monkeypatch.setattr("bec_mace.predict.partial._SECONDS", -1.0)
    whole = make_work(kind, tmp_path / "whole", small_frames, model_path, False, complete)
    complete(whole.arguments)
    cut = make_work(kind, tmp_path / "cut", small_frames, model_path, False, complete)
    replace, calls, stop_at = os.replace, 0, 1

    def stopping(source: Any, target: Any) -> None:
        nonlocal calls
        calls += 1
        if after or calls != stop_at:
            replace(source, target)
        if calls == stop_at:
            raise Killed

    monkeypatch.setattr(files.os, "replace", stopping)
    for attempt in range(60):
        calls = 0
        try:
            complete(cut.again(attempt > 0))
            break
        except Killed:
            stop_at += 1
        if kind == "combine" and (tmp_path / "cut" / "out" / "results.json").exists():
            break  # It is complete, and not made twice.
    assert 2 <= stop_at < 60
    if (tmp_path / "cut" / "out").exists():
        left = [path.name for path in (tmp_path / "cut" / "out").iterdir() if path.name.startswith(".")]
        assert not left
    assert cut.result() == whole.result()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_moments(kind, small_frames, model_path, tmp_path):
    """Five times by SIGKILL, each as a process of its own; 30 in all."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(arguments: list[str]) -> subprocess.Popen:
        command = [sys.executable, "-m", "bec_mace", *arguments]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, cwd=tmp_path)

    def complete(arguments: list[str]) -> None:
        process = start(arguments)
        error = process.communicate()[1]
        assert process.returncode == 0, error.decode()

    whole = make_work(kind, tmp_path / "whole", small_frames, model_path, True, complete)
    begin = time.monotonic()
    complete(whole.arguments)
    seconds = time.monotonic() - begin
    generator, kills, number = random.Random(KINDS.index(kind)), 0, 0
    while kills < 5:
        number += 1
        assert number < 30
        cut = make_work(kind, tmp_path / f"cut {number}", small_frames, model_path, True, complete)
        process = start(cut.arguments)
        try:
            # The first seconds go to imports; later moments are the interesting ones.
            process.communicate(timeout=seconds * generator.uniform(0.4, 1.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            if kind != "combine" or not (tmp_path / f"cut {number}" / "out" / "results.json").exists():
                complete(cut.again(True))
        assert cut.result() == whole.result()
