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
    figures: dict[str, Any] = {name: test[name]["rmse"] for name in ("energy", "forces", Z) if name in test}
    figures["seconds"] = results["seconds"]
    model, frames = load_model(folder / "best.safetensors", device), test_frames(folder)
    parts = {"bulk": [one for one in frames if one.pbc.any()], "clusters": [one for one in frames if not one.pbc.any()]}
    if all(parts.values()):
        for part, chosen in parts.items():
            errors_of_part = summarize_comparison(compare(model, chosen))
            figures.update({f"{name}_{part}": errors_of_part[name]["rmse"] for name in ("energy", "forces", Z)})
    if model.electrostatics is None:
        return figures
    found = list(predict(model, frames, [name for name in ("charges", "screening") if name in model.provides]))
    errors = [
        guess["charges"] - frame.labels["charges"]
        for guess, frame in zip(found, frames, strict=True)
        if "charges" in frame.labels
    ]
    if errors:
        figures["charge_error"] = float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
    figures["charges"] = by_element(frames, [guess["charges"] for guess in found])
    if "screening" in found[0]:
        figures["screening"] = by_element(frames, [guess["screening"] for guess in found])
        figures["gamma"] = float(np.mean(np.concatenate([guess["screening"] for guess in found])))
        for part, chosen in parts.items() if all(parts.values()) else ():
            places = [number for number, frame in enumerate(frames) if frame.pbc.any() == (part == "bulk")]
            figures[f"screening_{part}"] = by_element(chosen, [found[number]["screening"] for number in places])
    return figures


def by_element(frames: list[Frame], values: list[np.ndarray]) -> dict[str, dict[str, float]]:
    """Mean and spread of a number of atoms for each element."""
    from ase.data import chemical_symbols

    numbers, flat = np.concatenate([frame.atomic_numbers for frame in frames]), np.concatenate(values)
    return {
        chemical_symbols[z]: {"mean": float(flat[numbers == z].mean()), "spread": float(flat[numbers == z].std())}
        for z in np.unique(numbers)
    }


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
