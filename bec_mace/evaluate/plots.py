"""Parity of predictions and labels, as a picture with a panel for each property."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from ase.data.colors import jmol_colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bec_mace.errors import DataError
from bec_mace.evaluate.comparison import Comparison, Z, compared, error_of
from bec_mace.evaluate.metrics import OFF_DIAGONAL, mae, rmse, trivial_charges, trivial_prediction
from bec_mace.evaluate.residuals import reduce_to_quantum, residual_unit
from bec_mace.properties import PROPERTIES
from bec_mace.storage.figures import save_figure

MAX_POINTS = 20_000
"""Points drawn for one element in one panel; the numbers in the titles are of all points."""

_COLUMNS = 3
_FRAMES = "tab:blue"


def plot_parity(comparison: Comparison, path: str | Path) -> None:
    """Draw predicted against reference values of everything that can be compared.

    Z* has a panel for diagonal and one for off-diagonal components, each other property one. Values of atoms are coloured by
    element. Energies are per atom and less the best sum over elements of the labels, so that differences of composition do
    not hide their errors; dipoles are over the root of the number of atoms, polarizations on the branch of the label.

    Args:
        comparison: Values from ``compare``.
        path: The picture; its ending names the format.

    Raises:
        DataError: If no frame holds a label that is predicted.
    """
    others = [name for name in compared()[1:] if comparison.pairs(name)]
    charges = comparison.pairs(Z)
    if not charges and not others:
        raise DataError(
            f"parity plot: none of {', '.join(compared())} is labelled and predicted in {len(comparison.frames)} frames"
        )
    n_panels = (2 if charges else 0) + len(others)
    n_columns = min(n_panels, _COLUMNS)
    n_rows = -(-n_panels // n_columns)
    size = (9.0, 5.2) if n_panels == 2 else (3.9 * max(n_columns, 1.3), 4.3 * n_rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes in panels[n_panels:]:
        axes.remove()
    if charges:
        figure.suptitle(_charge_panels(panels[:2], comparison), fontsize=11)
    for axes, name in zip(panels[n_panels - len(others) :], others, strict=False):
        _property_panel(axes, comparison, name)
    save_figure(figure, path)


def _charge_panels(panels: Any, comparison: Comparison) -> str:
    """Draw Z*, and give the title of both panels."""
    pairs = comparison.pairs(Z)
    numbers = np.concatenate([frame.atomic_numbers for frame, _, _ in pairs])
    truth = np.concatenate([reference for _, reference, _ in pairs])
    guess = np.concatenate([predicted for _, _, predicted in pairs])
    trivial = trivial_prediction(numbers, trivial_charges(numbers, truth))
    for axes, (title, part) in zip(panels, (("diagonal", ~OFF_DIAGONAL), ("off-diagonal", OFF_DIAGONAL)), strict=True):
        _parity_panel(axes, numbers, truth[:, part], guess[:, part], r"$Z^*$ (e)")
        error, worst = guess[:, part] - truth[:, part], trivial[:, part] - truth[:, part]
        axes.set_title(
            f"{title}: RMSE {rmse(error):.4f} e, MAE {mae(error):.4f} e\ntrivial model: RMSE {rmse(worst):.4f} e", fontsize=10
        )
    error, worst = guess - truth, trivial - truth
    return (
        f"Born effective charges, {len(pairs)} frames: RMSE {rmse(error):.4f} e, MAE {mae(error):.4f} e "
        f"(trivial model: RMSE {rmse(worst):.4f} e)"
    )


def _property_panel(axes: Axes, comparison: Comparison, name: str) -> None:
    """Draw one property, of frames or of atoms."""
    row, pairs = PROPERTIES[name], comparison.pairs(name)
    if row.per == "atom":
        numbers = np.concatenate([frame.atomic_numbers for frame, _, _ in pairs])
        truth, guess = (np.concatenate([pair[i] for pair in pairs]).reshape(len(numbers), -1) for i in (1, 2))
        unit = row.unit
    else:
        numbers, unit = None, row.unit if row.error == "relative" else residual_unit(name)
        truth, guess = _values_of_frames(comparison, name)
    symbol = f"${row.symbol}$ less that of the composition" if name == "energy" else f"${row.symbol}$"
    _parity_panel(axes, numbers, truth, guess, symbol if unit == "1" else f"{symbol} ({unit})")
    error = np.concatenate([error_of(name, *pair) for pair in pairs])
    axes.set_title(
        f"{name.replace('_', ' ')}, {len(pairs)} frames\nRMSE {rmse(error):.4g}, MAE {mae(error):.4g} {residual_unit(name)}",
        fontsize=10,
    )


def _values_of_frames(comparison: Comparison, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Reference and prediction of a property of frames, as it is drawn; of shape (n_frames, n_components)."""
    row, pairs = PROPERTIES[name], comparison.pairs(name)
    truth, guess = (np.array([np.asarray(pair[i], dtype=np.float64).ravel() for pair in pairs]) for i in (1, 2))
    if row.modulo_quantum:
        cells, periodic = (torch.tensor(np.array([getattr(f, part) for f, _, _ in pairs])) for part in ("cell", "pbc"))
        guess = truth + reduce_to_quantum(torch.tensor(guess - truth), cells, periodic).numpy()
    n_atoms = np.array([len(frame) for frame, _, _ in pairs], dtype=np.float64)[:, None]
    divisor = {"per_atom": n_atoms, "per_root_atom": np.sqrt(n_atoms)}.get(row.error, np.ones_like(n_atoms))
    truth, guess = truth / divisor, guess / divisor
    if name == "energy":
        elements = np.unique(np.concatenate([frame.atomic_numbers for frame, _, _ in pairs]))
        shares = np.array([[np.mean(frame.atomic_numbers == z) for z in elements] for frame, _, _ in pairs])
        level = shares @ np.linalg.lstsq(shares, truth, rcond=None)[0]
        truth, guess = truth - level, guess - level
    return truth, guess


def _parity_panel(axes: Axes, numbers: np.ndarray | None, truth: np.ndarray, guess: np.ndarray, symbol: str) -> None:
    """Draw values of atoms by element, or of frames; of shape (n, n_components)."""
    generator = np.random.default_rng(0)
    elements = np.unique(numbers) if numbers is not None else np.array([], dtype=int)
    colors: dict[int, Any] = element_colors(elements)
    for element in elements if numbers is not None else [None]:
        chosen = slice(None) if element is None else numbers == element
        x, y = truth[chosen].ravel(), guess[chosen].ravel()
        if x.size > MAX_POINTS:
            kept = generator.choice(x.size, MAX_POINTS, replace=False)
            x, y = x[kept], y[kept]
        color, label = (_FRAMES, None) if element is None else (colors[int(element)], chemical_symbols[int(element)])
        axes.scatter(x, y, s=9, color=color, alpha=0.6, linewidths=0, rasterized=True, label=label)
    low, high = min(truth.min(), guess.min()), max(truth.max(), guess.max())
    margin = 0.05 * max(high - low, 1e-3)
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color="black", linewidth=0.8, zorder=0)
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel=f"reference {symbol}", ylabel=f"predicted {symbol}")
    if 0 < len(elements) <= 12:
        axes.legend(frameon=False, markerscale=2.0, loc="upper left")


def element_colors(elements: np.ndarray) -> dict[int, Any]:
    """The usual colours of the elements, darkened where they would not show on white."""
    colors = {}
    for element in elements:
        color = np.array(jmol_colors[int(element)])
        brightness = float(color @ np.array([0.299, 0.587, 0.114]))
        colors[int(element)] = tuple(color * min(1.0, 0.62 / max(brightness, 1e-3)))
    return colors
