"""Figures of trained models."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bec_mace.config.schema import RunConfig, load_config
from bec_mace.data import Frame, split_frames
from bec_mace.devices import DTYPES
from bec_mace.evaluate.comparison import compare, summarize_comparison
from bec_mace.models import PolarizationModel, load_model
from bec_mace.predict import predict
from bec_mace.train.loop import build_loss
from bec_mace.train.prepare import build_training_graph

Z = "born_effective_charges"


def test_frames(folder: Path) -> list[Frame]:
    """The frames that a run has not seen."""
    config = load_config(folder / "config.yaml")
    return split_frames(config.data)["test"]


def figures_of(folder: Path, device: str) -> dict[str, Any]:
    """Errors on the test frames, and of what kind the charges are."""
    results = json.loads((folder / "results.json").read_text())
    test = results["test"]
    names = ("energy", "forces", Z, "polarizability")
    figures: dict[str, Any] = {name: test[name]["rmse"] for name in names if name in test}
    figures["seconds"] = results["seconds"]
    figures.update(of_charges(test))
    model, frames = load_model(folder / "best.safetensors", device), test_frames(folder)
    parts = {"bulk": [one for one in frames if one.pbc.any()], "clusters": [one for one in frames if not one.pbc.any()]}
    for part, chosen in parts.items() if all(parts.values()) else ():
        found = summarize_comparison(compare(model, chosen))
        of_part = {name: found[name]["rmse"] for name in ("energy", "forces", Z)} | of_charges(found)
        figures.update({f"{name}_{part}": value for name, value in of_part.items()})
    known = [frame for frame in frames if "charges" in frame.labels]
    if model.electrostatics is not None and known:
        guesses = predict(model, known, ("charges",))
        errors = [guess["charges"] - frame.labels["charges"] for guess, frame in zip(guesses, known, strict=True)]
        figures["charge_error"] = float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
    return figures


def of_charges(evaluated: Mapping[str, Any]) -> dict[str, Any]:
    """Static charges and screening by element, and the mean of the screening; nothing where there are none."""
    report = evaluated.get("static_charges", {})
    figures = {name: report[name]["per_element"] for name in ("charges", "screening") if name in report}
    return {**figures, "gamma": report["screening"]["mean"]} if "screening" in report else figures


def cost_ratios(folders: Mapping[str, Path], device: str, repeats: int = 7) -> dict[str, dict[str, float]]:
    """Times of a training step over those of the first run, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in folders}
    steps = {name: _step(folder, device) for name, folder in folders.items()}
    for number in range(repeats + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number >= 2:
                times[name].append(time.perf_counter() - start)
    first = next(iter(folders), "")
    return {
        name: {"cost": statistics.median(taken) / statistics.median(times[first]), "step_seconds": statistics.median(taken)}
        for name, taken in times.items()
    }


def _step(folder: Path, device: str) -> Any:
    config = load_config(folder / "config.yaml")
    assert isinstance(config, RunConfig)
    model: PolarizationModel = load_model(folder / "best.safetensors", device, DTYPES[config.precision])
    loss = build_loss(config)
    graph = build_training_graph(test_frames(folder)[0], model.r_max, model.dtype, loss.properties).to(device)

    def step() -> None:
        model.zero_grad()
        sums = loss.error_sums(model(graph, loss.labelled(graph), create_graph=True), graph)
        loss.value(sums, loss.stack(sums, device)).backward()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()

    return step
