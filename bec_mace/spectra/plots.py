"""Pictures of infrared spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from bec_mace.spectra.infrared import Spectrum
from bec_mace.spectra.peaks import Peak
from bec_mace.spectra.raman_spectrum import RamanSpectrum
from bec_mace.storage.figures import save_figure

Curve = tuple[np.ndarray, np.ndarray]

# Beyond this many pairs of elements their curves hide each other, and only the total is drawn.
_MAX_PAIRS = 6
# Width of a label of four digits, as a share of the axis.
_LABEL = 0.06
_COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:cyan")


def plot_spectrum(
    spectrum: Spectrum,
    path: str | Path,
    reference: Curve | None = None,
    reference_label: str = "reference",
    peaks: Sequence[Peak] = (),
) -> None:
    """Draw absorption with its standard error, and the shares of pairs of elements.

    Args:
        spectrum: From ``infrared_spectrum``.
        path: The picture; its ending names the format.
        reference: Wavenumbers and n alpha of a curve to compare with, in cm^-1.
        reference_label: Its name.
        peaks: Marked with their wavenumbers.
    """
    figure, axes = _frame()
    x = spectrum.wavenumber
    draws_pairs = 1 < len(spectrum.contributions) <= _MAX_PAIRS
    if draws_pairs:
        for (name, values), color in zip(spectrum.contributions.items(), _COLORS, strict=False):
            first, second = name.split("-")
            label = name.replace("-", "–") if first == second else f"{name.replace('-', '–')} (cross)"
            axes.plot(x, values, color=color, linewidth=1.0, alpha=0.85, label=label)
    _with_band(axes, spectrum, "black", "total" if draws_pairs else "this spectrum")
    _finish(axes, x, reference, reference_label)
    _mark(axes, peaks)
    save_figure(figure, path)


def plot_overlay(
    spectra: Mapping[str, Spectrum], path: str | Path, reference: Curve | None = None, reference_label: str = "reference"
) -> None:
    """Draw the absorption of several spectra, each with its standard error.

    Args:
        spectra: By label.
        path: The picture; its ending names the format.
        reference: Wavenumbers and n alpha of a curve to compare with, in cm^-1.
        reference_label: Its name.
    """
    figure, axes = _frame()
    for number, (label, spectrum) in enumerate(spectra.items()):
        _with_band(axes, spectrum, _COLORS[number % len(_COLORS)], label)
    last = max(spectra.values(), key=lambda spectrum: spectrum.wavenumber[-1])
    _finish(axes, last.wavenumber, reference, reference_label)
    save_figure(figure, path)


def _frame() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.0, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=r"wavenumber (cm$^{-1}$)", ylabel=r"$n(\omega)\,\alpha(\omega)$ (cm$^{-1}$)")
    return figure, axes


def _with_band(axes: Axes, spectrum: Spectrum, color: str, label: str) -> None:
    x, y, error = spectrum.wavenumber, spectrum.n_alpha, spectrum.n_alpha_error
    axes.plot(x, y, color=color, linewidth=1.5, label=label, zorder=3)
    if np.isfinite(error).all():
        axes.fill_between(x, y - error, y + error, color=color, alpha=0.25, linewidth=0, zorder=2)


def _finish(axes: Axes, x: np.ndarray, reference: Curve | None, label: str) -> None:
    if reference is not None:
        axes.plot(*reference, color="tab:gray", linestyle="--", linewidth=1.3, label=label, zorder=2)
    axes.axhline(0.0, color="black", linewidth=0.6, zorder=0)
    axes.set_xlim(0.0, float(x[-1]))
    low, high = axes.dataLim.intervaly
    axes.set_ylim(low - 0.05 * (high - low) if low < -0.02 * high else -0.02 * high, high + 0.1 * (high - low))
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.legend(frameon=False, fontsize=9)


def _mark(axes: Axes, peaks: Sequence[Peak]) -> None:
    """Write wavenumbers above peaks, the highest first, where there is room."""
    room = _LABEL * (axes.get_xlim()[1] - axes.get_xlim()[0])
    marked: list[float] = []
    for peak in sorted(peaks, key=lambda peak: -peak.height):
        if all(abs(peak.wavenumber - other) > room for other in marked):
            marked.append(peak.wavenumber)
            axes.annotate(
                f"{peak.wavenumber:.0f}",
                (peak.wavenumber, peak.height),
                xytext=(0, 5),
                zorder=5,
                fontsize=9,
                textcoords="offset points",
                ha="center",
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )


def plot_raman(spectrum: RamanSpectrum, path: str | Path) -> None:
    """Draw polarized and depolarized scattering with their standard errors."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.subplots()
    laser = spectrum.meta["laser_nm"]
    curves = (
        ("polarized (VV)", spectrum.polarized, spectrum.polarized_error, "tab:blue"),
        ("depolarized (VH)", spectrum.depolarized, spectrum.depolarized_error, "tab:orange"),
    )
    for label, values, errors, color in curves:
        axes.plot(spectrum.wavenumber, values, color=color, lw=1.2, label=label)
        if np.isfinite(errors).all():
            axes.fill_between(spectrum.wavenumber, values - errors, values + errors, color=color, alpha=0.25, lw=0)
    unit = "reduced (Å$^4$ cm/u)" if laser is None else f"cross section at {laser:g} nm (Å$^2$ cm/sr)"
    axes.set(xlabel=r"Raman shift (cm$^{-1}$)", ylabel=unit, xlim=(0, spectrum.wavenumber[-1]))
    axes.legend(frameon=False)
    save_figure(figure, path)
