"""The file of results: merged, judged, drawn and written as tables."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

Figures = dict[str, Any]


def machine(device: str) -> dict[str, Any]:
    """What the measurements ran on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor()
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if device != "cpu" else None,
        "torch": torch.__version__,
        "mace": _version("mace-torch"),
        "load": os.getloadavg()[0],
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def merge(path: Path, found: Figures) -> Figures:
    """Write new parts over the old ones of a file and leave the rest."""
    figures = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    machines = {**figures.get("machines", {}), **found.pop("machines", {})}
    figures = {**figures, **found, "machines": machines}
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return dict(figures)


def system(figures: Figures, n_atoms: int) -> Figures:
    """The measured system of about this size.

    Raises:
        KeyError: There is none.
    """
    row = min(figures["sizes"]["systems"], key=lambda row: abs(row["n_atoms"] - n_atoms))
    if abs(row["n_atoms"] - n_atoms) > 0.2 * n_atoms:
        raise KeyError(n_atoms)
    return dict(row)


def _growth(figures: Figures) -> float:
    large, small = system(figures, 20_000), system(figures, 2_000)
    return float(large["microseconds_per_atom"] / small["microseconds_per_atom"])


BARS: dict[str, tuple[str, float, Callable[[Figures], float]]] = {
    "Z* over energy+forces, monopole": ("<=", 1.2, lambda f: f["ratios"]["monopole"]),
    "Z* over energy+forces, charge_transfer": ("<=", 1.8, lambda f: f["ratios"]["charge_transfer"]),
    "Z* over energy+forces, dipole": ("<=", 1.8, lambda f: f["ratios"]["dipole"]),
    "Z* over energy+forces, monopole+dipole": ("<=", 2.2, lambda f: f["ratios"]["monopole+dipole"]),
    "forces of a field alone over energy+forces, monopole": ("<=", 0.8, lambda f: f["field_forces"]["monopole"]),
    "mace's energy+forces over ours": (">=", 2.0, lambda f: f["mace"]["speedup"]),
    "training step with Z* over energy and forces, worst": ("<=", 3.0, lambda f: max(f["training"]["ratios"].values())),
    "time per atom, 20,000 over 2,000 atoms": ("<=", 1.15, _growth),
    "peak memory at 100,000 atoms (GB)": ("<=", 16.0, lambda f: system(f, 100_000)["peak_memory_gb"]),
    "share of the time in the model, stream of frames": (">=", 0.9, lambda f: f["predict"]["runs"][-1]["share_in_model"]),
    "memory of four times as many frames": ("<=", 1.1, lambda f: f["predict"]["memory_ratio"]),
    "GPU, 192 atoms (ms)": ("<=", 10.0, lambda f: f["gpu"]["small"]["milliseconds"]),
    "GPU, atoms in one call": (">=", 1e6, lambda f: f["gpu"]["systems"][-1]["n_atoms"]),
    "GPU, atoms/s over one CPU thread": (">=", 100.0, lambda f: f["gpu"]["over_one_thread"]),
}


def judged(figures: Figures) -> list[tuple[str, float, str, bool]]:
    """Each figure that was measured, its bar, and whether it holds."""
    rows = []
    for name, (sign, bar, value_of) in BARS.items():
        try:
            value = float(value_of(figures))
        except (KeyError, IndexError, TypeError, ValueError):
            continue
        rows.append((name, value, f"{sign} {bar:g}", value <= bar if sign == "<=" else value >= bar))
    return rows


def table(figures: Figures) -> str:
    """All figures with a bar."""
    lines = [f"{'':56s} {'value':>10s} {'bar':>10s}"]
    for name, value, bar, holds in judged(figures):
        lines.append(f"{name:56s} {value:10.3g} {bar:>10s}{'' if holds else '  missed'}")
    return "\n".join(lines)


def markdown(figures: Figures) -> str:
    """The tables of docs/figures/cost.md."""
    parts = []
    if "ratios" in figures:
        names = list(figures["ratios"])
        parts.append(
            _rows(
                ["", *names],
                [
                    ["Z* over energy and forces", *(f"{figures['ratios'][name]:.2f}" for name in names)],
                    ["forces of a field alone", *(_number(figures["field_forces"], name) for name in names)],
                    [
                        "forces of a field, extra in the same pass",
                        *(_number(figures["field_forces_extra"], name) for name in names),
                    ],
                ],
            )
        )
    if "mace" in figures:
        seconds = figures["mace"]["seconds"]
        parts.append(
            _rows(
                ["energy and forces", "seconds"],
                [
                    ["mace", f"{seconds['mace']:.2f}"],
                    ["bec_mace, same weights", f"{seconds['bec_mace']:.2f}"],
                    ["mace over bec_mace", f"{figures['mace']['speedup']:.1f}"],
                ],
            )
        )
    if "training" in figures:
        found = figures["training"]
        names = list(found["steps_per_second"])
        parts.append(
            _rows(
                ["training step", *names],
                [
                    ["steps/s", *(f"{found['steps_per_second'][name]:.2f}" for name in names)],
                    ["over energy and forces", *(_number(found["ratios"], name, "1") for name in names)],
                ],
            )
        )
    for part in ("sizes", "gpu"):
        if part in figures:
            parts.append(
                _rows(
                    ["atoms", "atoms/s", "µs/atom", "peak memory (GB)", "atoms in a block"],
                    [
                        [
                            f"{row['n_atoms']:,}",
                            f"{row['atoms_per_second']:,.0f}",
                            f"{row['microseconds_per_atom']:,.0f}",
                            f"{row['peak_memory_gb']:.2f}",
                            str(row["block_size"] or "all"),
                        ]
                        for row in figures[part]["systems"]
                    ],
                )
            )
    if "predict" in figures:
        parts.append(
            _rows(
                ["frames", "frames/s", "share in the model", "peak memory (GB)"],
                [
                    [
                        str(row["frames"]),
                        f"{row['frames_per_second']:.2f}",
                        f"{row['share_in_model']:.3f}",
                        f"{row['peak_memory_gb']:.2f}",
                    ]
                    for row in figures["predict"]["runs"]
                ],
            )
        )
    return "\n\n".join(parts)


def _number(values: Figures, name: str, missing: str = "") -> str:
    return f"{values[name]:.2f}" if name in values else missing


def _rows(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def plot(figures: Figures, path: Path) -> None:
    """Atoms/s and memory against size, and what Z* costs beside energy and forces."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13, 3.8))
    for part, label in (("sizes", "CPU, one thread"), ("gpu", "GPU")):
        rows = figures.get(part, {}).get("systems", [])
        if rows:
            sizes = [row["n_atoms"] for row in rows]
            left.semilogx(sizes, [row["atoms_per_second"] for row in rows], "o-", label=label)
            middle.semilogx(sizes, [row["peak_memory_gb"] for row in rows], "o-", label=label)
    left.set(xlabel="atoms", ylabel="atoms / s", title="Z*, monopole head")
    middle.set(xlabel="atoms", ylabel="peak memory (GB)", title="in blocks where needed")
    for axes in (left, middle):
        if axes.lines:
            axes.set_ylim(bottom=0)
    if left.lines:
        left.legend()
    if "ratios" in figures:
        names = list(figures["ratios"])
        right.bar(names, [figures["ratios"][name] for name in names])
        right.axhline(1, color="0.5", linewidth=0.8)
        right.set(ylabel="over energy and forces", title="processor time of Z*")
        right.tick_params(axis="x", rotation=30)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
