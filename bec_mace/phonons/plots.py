"""Pictures of bands, infrared optics of crystals, and lines of molecules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from bec_mace.phonons.bands import Bands
from bec_mace.phonons.optics import CM_PER_THZ, OpticalSpectrum
from bec_mace.storage.figures import save_figure

if TYPE_CHECKING:
    from bec_mace.phonons.molecules import Vibrations

_COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
_LABELLED = 0.05


def plot_bands(bands: Bands, path: str | Path) -> None:
    """Draw bands; imaginary frequencies are below zero.

    Args:
        bands: From ``phonon_bands``.
        path: The picture; its ending names the format.
    """
    figure = Figure(figsize=(8.0, 4.4), layout="constrained")
    axes = figure.subplots()
    for distances, frequencies in zip(bands.distances, bands.frequencies, strict=True):
        axes.plot(distances, frequencies, color="tab:blue", linewidth=1.1)
    places, names = [float(bands.distances[0][0])], [bands.ends[0][0]]
    for number, (first, second) in enumerate(bands.ends):
        if names[-1] != first and number:
            names[-1] = f"{names[-1]}|{first}"
        places.append(float(bands.distances[number][-1]))
        names.append(second)
    for place in places:
        axes.axvline(place, color="black", linewidth=0.5)
    axes.set_xticks(places, [name.replace("G", "Γ") for name in names])
    axes.axhline(0.0, color="black", linewidth=0.6)
    axes.set(ylabel="frequency (THz)", xlim=(places[0], places[-1]))
    right = axes.secondary_yaxis("right", functions=(_to_cm, _to_thz))
    right.set_ylabel(r"wavenumber (cm$^{-1}$)")
    save_figure(figure, path)


def plot_optics(spectrum: OpticalSpectrum, path: str | Path) -> None:
    """Draw absorption and reflectivity for each polarization; those that are equal are drawn once.

    Args:
        spectrum: From ``optical_spectrum``.
        path: The picture; its ending names the format.
    """
    figure = Figure(figsize=(8.0, 6.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    groups: list[list[int]] = []
    for number in range(len(spectrum.polarizations)):
        like = [group for group in groups if np.allclose(spectrum.epsilon[:, group[0]], spectrum.epsilon[:, number], rtol=1e-6)]
        if like:
            like[0].append(number)
        else:
            groups.append([number])
    for group, color in zip(groups, _COLORS * len(groups), strict=False):
        label = ", ".join(f"[{' '.join(f'{value:.3g}' for value in spectrum.polarizations[one])}]" for one in group)
        upper.plot(spectrum.wavenumber, spectrum.absorption[:, group[0]] / 1e4, color=color, linewidth=1.3, label=label)
        lower.plot(spectrum.wavenumber, spectrum.reflectivity[:, group[0]], color=color, linewidth=1.3, label=label)
    upper.set(ylabel=r"absorption ($10^4$ cm$^{-1}$)")
    lower.set(
        ylabel="reflectivity", xlabel=r"wavenumber (cm$^{-1}$)", xlim=(0.0, float(spectrum.wavenumber[-1])), ylim=(0.0, 1.02)
    )
    for axes in (upper, lower):
        axes.grid(alpha=0.3, linewidth=0.5)
    upper.legend(title="polarization", frameon=False, fontsize=9)
    save_figure(figure, path)


def plot_lines(vibrations: Vibrations, path: str | Path, width: float = 20.0) -> None:
    """Draw the lines of a molecule and their sum as Lorentzians.

    Args:
        vibrations: From ``vibrations``.
        path: The picture; its ending names the format.
        width: Full width at half maximum, in cm^-1.
    """
    figure = Figure(figsize=(8.0, 4.4), layout="constrained")
    axes = figure.subplots()
    lines, heights = vibrations.wavenumbers, vibrations.intensities_km_mol
    shown = lines > 0
    last = 1.1 * float(lines[shown].max(initial=100.0)) + 5 * width
    x = np.linspace(0.0, last, 2000)
    curve = sum(
        height * (width / 2) ** 2 / ((x - line) ** 2 + (width / 2) ** 2)
        for line, height in zip(lines[shown], heights[shown], strict=True)
    )
    axes.plot(x, curve + np.zeros_like(x), color="tab:blue", linewidth=1.0, alpha=0.8)
    axes.vlines(lines[shown], 0.0, heights[shown], color="black", linewidth=1.5)
    highest = float(heights[shown].max(initial=1e-9))
    for line, height in zip(lines[shown], heights[shown], strict=True):
        if height > _LABELLED * highest:
            axes.annotate(f"{line:.0f}", (line, height), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=9)
    axes.set(xlabel=r"wavenumber (cm$^{-1}$)", ylabel="infrared intensity (km/mol)", xlim=(0.0, last), ylim=(0.0, None))
    axes.grid(alpha=0.3, linewidth=0.5)
    save_figure(figure, path)


def _to_cm(thz: Any) -> Any:
    return np.asarray(thz) * CM_PER_THZ


def _to_thz(cm: Any) -> Any:
    return np.asarray(cm) / CM_PER_THZ
