"""The learning curve, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from bec_mace.evaluate.comparison import Z
from bec_mace.storage.figures import save_figure
from bec_mace.train.run_folder import read_metrics

_COLUMNS = 3
"""Panels beside each other: a page is not wider."""


def plot_learning_curve(metrics: str | Path, path: str | Path, trivial_rmse: float | None = None) -> None:
    """Draw training and validation RMSE of every trained property against the epoch.

    Args:
        metrics: The metrics.csv of a run.
        path: The picture; its ending names the format.
        trivial_rmse: Error of the trivial model of Z*, in e, drawn as a line.
    """
    columns, units = read_metrics(metrics)
    names = [
        name.removeprefix("train_").removesuffix("_rmse")
        for name in columns
        if name.startswith("train_") and name.endswith("_rmse")
    ]
    n_columns = min(len(names), _COLUMNS)
    n_rows = -(-len(names) // n_columns)
    figure = Figure(figsize=(5.2 if n_columns == 1 else 3.9 * n_columns, 3.6 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.remove()
    for axes, name in zip(panels, names, strict=False):
        for part, color in (("train", "tab:blue"), ("validation", "tab:orange")):
            values = np.array(columns[f"{part}_{name}_rmse"])
            finite = np.isfinite(values)
            if finite.any():
                axes.plot(
                    np.array(columns["epoch"])[finite],
                    values[finite],
                    color=color,
                    linewidth=1.4,
                    marker="o" if finite.sum() < 30 else None,
                    markersize=3,
                    label=part,
                )
        if name == Z and trivial_rmse is not None:
            axes.axhline(trivial_rmse, color="gray", linestyle="--", linewidth=1.0, label="trivial model")
        axes.set(xlabel="epoch", ylabel=f"RMSE ({units[f'train_{name}_rmse']})", yscale="log", title=name.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3, which="both", linewidth=0.5)
        axes.legend(frameon=False)
    save_figure(figure, path)
