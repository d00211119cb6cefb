"""What charges that act through Coulomb's law have become: their size and their screening by element."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from bec_mace.config.electrostatics import ElectrostaticsConfig
from bec_mace.data import Frame

Z = "born_effective_charges"
_UNITS = {"charges": "e", "screening": ""}


def describe_charges(
    frames: Sequence[Frame], predicted: Sequence[Mapping[str, Any]], section: ElectrostaticsConfig
) -> dict[str, Any]:
    """Static charges and screening of some frames.

    Args:
        frames: The structures, with labels of Z* or without.
        predicted: For each frame, arrays by property name; ``charges`` among them.
        section: How the charges act.

    Returns:
        ``kind`` of the screening; ``charges`` in e and ``screening``, where charges make Z*, each with ``mean``, ``spread``
        (standard deviation) and these ``per_element``; ``root_of_epsilon_infinity`` where that is known; where the screening
        is ``fixed`` and there are labels, ``r_squared`` and ``r_squared_of_other_sign`` of Z*: energies and forces leave the
        common sign of all charges open.
    """
    report: dict[str, Any] = {"kind": section.screening}
    numbers = np.concatenate([frame.atomic_numbers for frame in frames])
    for name in _UNITS:
        if all(name in guess for guess in predicted):
            report[name] = _by_element(numbers, np.concatenate([guess[name] for guess in predicted]))
    if section.epsilon_infinity is not None:
        report["root_of_epsilon_infinity"] = math.sqrt(section.epsilon_infinity)
    pairs = [(f.labels[Z], guess[Z]) for f, guess in zip(frames, predicted, strict=True) if Z in f.labels and Z in guess]
    if section.screening == "fixed" and pairs:
        reference, found = (np.concatenate(tensors) for tensors in zip(*pairs, strict=True))
        report["r_squared"] = _r_squared(reference, found)
        report["r_squared_of_other_sign"] = _r_squared(reference, -found)
    return report


def _by_element(numbers: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    parts = {chemical_symbols[int(z)]: values[numbers == z] for z in np.unique(numbers)}
    return {**_mean(values), "per_element": {symbol: _mean(part) for symbol, part in parts.items()}}


def _mean(values: np.ndarray) -> dict[str, float]:
    return {"mean": float(values.mean(dtype=np.float64)), "spread": float(values.std(dtype=np.float64))}


def _r_squared(reference: np.ndarray, found: np.ndarray) -> float:
    """Share of the variance of all components that is explained; negative where a mean would be better."""
    variance = np.square(reference - reference.mean(dtype=np.float64)).sum(dtype=np.float64)
    return float(1 - np.square(reference - found).sum(dtype=np.float64) / variance) if variance > 0 else math.nan


def charge_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """A report as lines of text."""
    root = report.get("root_of_epsilon_infinity")
    for name, unit in _UNITS.items():
        if name not in report:
            continue
        title = "static charges" if name == "charges" else f"screening ({report['kind']})"
        known = f"; root of epsilon_infinity {root:.4f}" if root is not None and name == "screening" else ""
        total = f" {report[name]['mean']:.4f}, spread {report[name]['spread']:.4f}," if name == "screening" else ""
        parts = ", ".join(
            f"{symbol} {part['mean']:.4f} (spread {part['spread']:.4f})" for symbol, part in report[name]["per_element"].items()
        )
        yield f"{title}:{total} by element {parts}{' ' + unit if unit else ''}{known}"
    if "r_squared" in report:
        found, other = report["r_squared"], report["r_squared_of_other_sign"]
        yield f"R^2 of Z*: {found:.4f}, with the other sign of all charges {other:.4f}"
        if found < other:
            yield "  the labels ask for the other sign: turn the signs of model.electrostatics.charge_sign and train again"
