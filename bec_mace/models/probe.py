"""A small cluster whose predictions stand in every checkpoint, so that a model that computes something else is noticed.

The weights of a checkpoint mean what they mean in the basis that mace and e3nn make of a configuration. Should another version
of them order or scale its couplings otherwise, the same weights would give other numbers, without a word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from bec_mace.data import Frame, build_graph
from bec_mace.errors import ModelError
from bec_mace.models.base import PolarizationModel

_MOST_ATOMS = 8
_MEASURED = ("born_effective_charges", "energy", "charges", "polarizability")
_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3}
_DECIMALS = 7
_BASIS = ("mace-torch", "e3nn", "torch")
# Corners of a cube, moved so that nothing is symmetric.
_PLACES = np.array([
    [0.00, 0.02, -0.05], [1.07, 0.11, 0.03], [-0.09, 0.94, 0.12], [0.13, -0.08, 1.11],
    [0.97, 1.05, -0.12], [1.10, -0.06, 0.93], [0.05, 1.12, 0.96], [0.91, 0.99, 1.08],
])  # fmt: skip


def probe_frame(model: PolarizationModel) -> Frame:
    """A molecule of elements from all over those that the model knows, with distances within its cutoff."""
    n = min(_MOST_ATOMS, max(4, len(model.elements)))
    chosen = [model.elements[number] for number in np.linspace(0, len(model.elements) - 1, n).round().astype(int)]
    spacing = min(2.0, 0.6 * model.r_max)
    return Frame(np.array(chosen), spacing * _PLACES[:n], np.zeros((3, 3)), np.zeros(3, dtype=bool), source="probe")


def measure_probe(model: PolarizationModel) -> dict[str, Any]:
    """What the model gives for its probe, by property, and the versions of the packages that make its basis.

    Args:
        model: In float64, so that the numbers do not depend on what was computed before.
    """
    values = {name: np.round(value, _DECIMALS).tolist() for name, value in _evaluate(model).items()}
    finite = all(np.isfinite(value).all() for value in values.values())
    return {"values": values if finite else {}, "versions": {name: _version(name) for name in _BASIS}}


def check_probe(model: PolarizationModel, stored: Mapping[str, Any], source: str) -> None:
    """Compare a loaded model with what it gave when it was saved.

    Raises:
        ModelError: It gives something else.
    """
    expected = {name: np.array(value) for name, value in stored["values"].items()}
    found = _evaluate(model)
    for name, value in expected.items():
        size = max(1.0, float(np.abs(value).max(initial=0.0)))
        same = name in found and found[name].shape == value.shape
        error = float(np.abs(found[name] - value).max(initial=0.0)) if same else math.inf
        if not error <= _TOLERANCE[model.dtype] * size:
            then = ", ".join(f"{package} {number}" for package, number in stored["versions"].items())
            now = ", ".join(f"{package} {_version(package)}" for package in stored["versions"])
            raise ModelError(
                f"{source}: the model does not give what it gave when it was saved: {name} of a small molecule differs by "
                f"{error:.2g}. It was saved with {then}; here is {now}. Install those versions, or train the model again."
            )


def _evaluate(model: PolarizationModel) -> dict[str, np.ndarray]:
    graph = build_graph(probe_frame(model), model.r_max).to(model.reference_charges.device)
    output = model(graph, properties=[name for name in _MEASURED if name in model.provides])
    return {name: output[name].double().cpu().numpy() for name in _MEASURED if name in output}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
