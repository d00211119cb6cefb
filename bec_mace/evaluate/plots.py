"""Parity of Born effective charges, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from ase.data.colors import jmol_colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bec_mace.errors import DataError
from bec_mace.evaluate.comparison import Comparison, Z
from bec_mace.evaluate.metrics import OFF_DIAGONAL, mae, rmse, trivial_charges, trivial_prediction
from bec_mace.storage.figures import save_figure

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
        axes.set_title(
            f"{title}: RMSE {rmse(error):.4f} e, MAE {mae(error):.4f} e\ntrivial model: RMSE {rmse(worst):.4f} e", fontsize=10
        )
    error, worst = guess - truth, trivial - truth
    figure.suptitle(
        f"Born effective charges, {len(pairs)} frames: RMSE {rmse(error):.4f} e, MAE {mae(error):.4f} e "
        f"(trivial model: RMSE {rmse(worst):.4f} e)",
        fontsize=11,
    )
    save_figure(figure, path)


def _parity_panel(axes: Axes, numbers: np.ndarray, truth: np.ndarray, guess: np.ndarray) -> None:
    generator = np.random.default_rng(0)
    elements = np.unique(numbers)
    colors = element_colors(elements)
    for element in elements:
        x, y = truth[numbers == element].ravel(), guess[numbers == element].ravel()
        if x.size > MAX_POINTS:
            chosen = generator.choice(x.size, MAX_POINTS, replace=False)
            x, y = x[chosen], y[chosen]
        axes.scatter(
            x,
            y,
            s=9,
            color=colors[int(element)],
            alpha=0.6,
            linewidths=0,
            rasterized=True,
            label=chemical_symbols[int(element)],
        )
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
