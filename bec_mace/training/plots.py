"""Pictures: parity of Born effective charges, learning curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from ase.data.colors import jmol_colors
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from bec_mace.errors import DataError
from bec_mace.training.evaluation import Comparison, Z
from bec_mace.training.metrics import OFF_DIAGONAL, mae, rmse, trivial_charges, trivial_prediction
from bec_mace.training.run_folder import read_metrics

MAX_POINTS = 20_000
"""Points drawn for one element in one panel; the numbers in the titles are of all points."""


def plot_parity(comparison: Comparison, path: str | Path) -> None:
    """Draw predicted against reference Z*, diagonal and off-diagonal components, coloured by element.

    Args:
        comparison: Values from ``compare``.
        path: The picture; its ending names the format.

    Raises:
        DataError: If no frame holds Born effective charges.
    """
    pairs = comparison.pairs(Z)
    if not pairs:
        raise DataError(f"parity plot: {Z} found in 0 of {len(comparison.frames)} frames")
    numbers = np.concatenate([frame.atomic_numbers for frame, _, _ in pairs])
    truth = np.concatenate([reference for _, reference, _ in pairs])
    guess = np.concatenate([predicted for _, _, predicted in pairs])
    trivial = trivial_prediction(numbers, trivial_charges(numbers, truth))
    figure = Figure(figsize=(9.0, 5.2), layout="constrained")
    for axes, (title, part) in zip(
        figure.subplots(1, 2), (("diagonal", ~OFF_DIAGONAL), ("off-diagonal", OFF_DIAGONAL)), strict=True
    ):
        _parity_panel(axes, numbers, truth[:, part], guess[:, part])
        error, worst = guess[:, part] - truth[:, part], trivial[:, part] - truth[:, part]
        axes.set_title(f"{title}: RMSE {rmse(error):.4f} e, MAE {mae(error):.4f} e\n"
                       f"trivial model: RMSE {rmse(worst):.4f} e", fontsize=10)
    error, worst = guess - truth, trivial - truth
    figure.suptitle(f"Born effective charges, {len(pairs)} frames: RMSE {rmse(error):.4f} e, MAE {mae(error):.4f} e "
                    f"(trivial model: RMSE {rmse(worst):.4f} e)", fontsize=11)
    _save(figure, path)


def _parity_panel(axes: Axes, numbers: np.ndarray, truth: np.ndarray, guess: np.ndarray) -> None:
    generator = np.random.default_rng(0)
    elements = np.unique(numbers)
    colors = element_colors(elements)
    for element in elements:
        x, y = truth[numbers == element].ravel(), guess[numbers == element].ravel()
        if x.size > MAX_POINTS:
            chosen = generator.choice(x.size, MAX_POINTS, replace=False)
            x, y = x[chosen], y[chosen]
        axes.scatter(x, y, s=9, color=colors[int(element)], alpha=0.6, linewidths=0, rasterized=True,
                     label=chemical_symbols[int(element)])
    low, high = min(truth.min(), guess.min()), max(truth.max(), guess.max())
    margin = 0.05 * max(high - low, 1e-3)
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color="black", linewidth=0.8, zorder=0)
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel=r"reference $Z^*$ (e)", ylabel=r"predicted $Z^*$ (e)")
    if len(elements) <= 12:
        axes.legend(frameon=False, markerscale=2.0, loc="upper left")


def element_colors(elements: np.ndarray) -> dict[int, Any]:
    """The usual colours of the elements, darkened where they would not show on white."""
    colors = {}
    for element in elements:
        color = np.array(jmol_colors[int(element)])
        brightness = float(color @ np.array([0.299, 0.587, 0.114]))
        colors[int(element)] = tuple(color * min(1.0, 0.62 / max(brightness, 1e-3)))
    return colors


def plot_learning_curve(metrics: str | Path, path: str | Path, trivial_rmse: float | None = None) -> None:
    """Draw training and validation RMSE of every trained property against the epoch.

    Args:
        metrics: The metrics.csv of a run.
        path: The picture; its ending names the format.
        trivial_rmse: Error of the trivial model of Z*, in e, drawn as a line.
    """
    columns, units = read_metrics(metrics)
    names = [name.removeprefix("train_").removesuffix("_rmse") for name in columns
             if name.startswith("train_") and name.endswith("_rmse")]
    figure = Figure(figsize=(5.2 * len(names), 4.0), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for part, color in (("train", "tab:blue"), ("validation", "tab:orange")):
            values = np.array(columns[f"{part}_{name}_rmse"])
            there = np.isfinite(values)
            if there.any():
                axes.plot(np.array(columns["epoch"])[there], values[there], color=color, linewidth=1.4,
                          marker="o" if there.sum() < 30 else None, markersize=3, label=part)
        if name == Z and trivial_rmse is not None:
            axes.axhline(trivial_rmse, color="gray", linestyle="--", linewidth=1.0, label="trivial model")
        axes.set(xlabel="epoch", ylabel=f"RMSE ({units[f'train_{name}_rmse']})", yscale="log",
                 title=name.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3, which="both", linewidth=0.5)
        axes.legend(frameon=False)
    _save(figure, path)


def _save(figure: Figure, path: str | Path) -> None:
    # A canvas of its own: no global state, no window, whatever backend the user has set.
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=160)
