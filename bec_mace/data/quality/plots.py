"""A picture of what the checks of labels measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bec_mace.data.quality.checkup import Checkup
from bec_mace.storage.figures import save_figure

_COLORS = ("tab:blue", "tab:orange", "tab:green")
_FLOOR = 1e-6
"""The least that is drawn on a logarithmic axis."""
_MOST_ELEMENTS = 12


def plot_checkup(found: Checkup, path: str | Path) -> None:
    """Draw the sum rules by polarization direction and frame, site symmetry, and distances from one charge per element.

    Args:
        found: From :func:`~bec_mace.data.quality.checkup.check_labels`.
        path: The picture; its ending names the format.
    """
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    panels = figure.subplots(2, 2)
    _rows(panels[0, 0], found, "acoustic sum rule", r"residual of a row / $\sqrt{n}$ (e)")
    _rows(panels[0, 1], found, "rotational sum rule", r"residual of a row / $\sqrt{n}$ (e Å)")
    _rows(panels[1, 0], found, "site symmetry", "largest component that breaks it (e)")
    _distances(panels[1, 1], found)
    figure.suptitle(f"{len(found.sources)} frames, {len(found.wrong)} with findings")
    save_figure(figure, path)


def _rows(axes: Axes, found: Checkup, check: str, label: str) -> None:
    rows = [row for row in found.rows if row.name.startswith(check)]
    axes.set_title(check)
    axes.set_xlabel("frame")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(label)
    if not rows:
        axes.text(0.5, 0.5, "no such frames", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    for row, color in zip(rows, _COLORS, strict=False):
        numbers, values = np.array(found.values[row.name]).T
        name = row.name.removeprefix(check).removeprefix(", ")
        axes.plot(numbers, np.maximum(values, _FLOOR), ".", color=color, markersize=4, label=name or None)
    if rows[0].limit is not None:
        axes.axhline(rows[0].limit, color="black", linewidth=0.8, linestyle="--", label="limit")
    axes.set_yscale("log")
    axes.legend(fontsize="small")


def _distances(axes: Axes, found: Checkup) -> None:
    from ase.data import chemical_symbols

    axes.set_title("from one charge per element")
    axes.set_ylabel("distance (e)")
    if found.distances is None:
        axes.text(0.5, 0.5, "no Z*", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    limit = next(row.limit for row in found.rows if row.name.startswith("far from"))
    elements = found.distances.elements
    spread = np.array([np.ptp(found.distances.distances[elements == one]) for one in np.unique(elements)])
    shown = np.sort(np.unique(elements)[np.argsort(-spread)[:_MOST_ELEMENTS]])
    generator = np.random.default_rng(0)
    for place, element in enumerate(shown):
        own = elements == element
        far = found.distances.spreads[own] > (limit or np.inf)
        across = place + generator.uniform(-0.3, 0.3, own.sum())
        values = np.maximum(found.distances.distances[own], _FLOOR)
        axes.plot(across[~far], values[~far], ".", color="tab:gray", markersize=2)
        axes.plot(across[far], values[far], "x", color="tab:red", markersize=5)
    axes.set_xticks(range(len(shown)), [chemical_symbols[int(one)] for one in shown])
