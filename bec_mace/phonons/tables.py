"""Phonons in files and on a terminal: CSV, JSON, text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bec_mace.phonons.analysis import PhononResults
from bec_mace.phonons.bands import Bands
from bec_mace.phonons.modes import GammaModes, LongitudinalModes
from bec_mace.phonons.optics import CM_PER_THZ, OpticalSpectrum
from bec_mace.storage.files import replace_text

_PARTS = (("xx", 0, 0), ("yy", 1, 1), ("zz", 2, 2), ("yz", 1, 2), ("xz", 0, 2), ("xy", 0, 1))
_SCATTERS = 1e-4
"""A level with less than this share of the largest activity is not shown."""
_SILENT = 1e-9
"""In Å^4/u, what rounding leaves of activities that symmetry forbids."""


def write_tables(results: PhononResults, folder: Path) -> None:
    """Write phonons.json and the tables of a folder; see ``bec_mace.phonons.from_config``."""
    _write(folder / "phonons.json", json.dumps(to_dict(results), indent=1, ensure_ascii=False))
    write_rows(folder / "modes.csv", *mode_rows(results.modes))
    if results.longitudinal:
        write_rows(folder / "longitudinal.csv", *_longitudinal_rows(results.longitudinal))
    if results.spectrum is not None:
        write_rows(folder / "spectrum.csv", *_spectrum_rows(results.spectrum))
    if results.bands is not None:
        write_rows(folder / "bands.csv", *_band_rows(results.bands))


def write_rows(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table of comma-separated values, complete or not at all; units are part of the names."""
    text = "\n".join([",".join(names), *(",".join(map(_cell, row)) for row in rows)])
    _write(path, text)


def mode_rows(modes: GammaModes) -> tuple[list[str], list[list[Any]]]:
    """Names and rows of the table of modes at Gamma."""
    names = ["mode", "irrep", "frequency_THz", "wavenumber_cm-1", "acoustic"]
    columns: list[Any] = [
        range(1, len(modes.frequencies) + 1),
        [label or "" for label in modes.labels],
        modes.frequencies,
        modes.frequencies * CM_PER_THZ,
        modes.is_acoustic.astype(int),
    ]
    if modes.born is not None:
        names += ["polar", *(f"mode_charge_{axis}_e" for axis in "xyz")]
        columns += [modes.is_polar.astype(int), *modes.charges.T]
        names += [f"oscillator_strength_{name}_e2/u" for name, _, _ in _PARTS]
        columns += [modes.oscillator_strengths[:, a, b] for _, a, b in _PARTS]
        names += [f"epsilon_static_share_{name}" for name, _, _ in _PARTS]
        columns += [modes.contributions[:, a, b] for _, a, b in _PARTS]
    if modes.raman is not None and modes.raman_derivatives is not None:
        names += ["raman_activity_Å4/u", "depolarization_ratio", *(f"raman_{name}_Å2/u^0.5" for name, _, _ in _PARTS)]
        columns += [*modes.raman, *(modes.raman_derivatives[:, a, b] for _, a, b in _PARTS)]
    return names, [list(row) for row in zip(*columns, strict=True)]


def to_dict(results: PhononResults) -> dict[str, Any]:
    """All results but spectrum and bands, which have files of their own, as what JSON can hold."""
    modes, born = results.modes, results.modes.born
    names, rows = mode_rows(modes)
    content: dict[str, Any] = {
        "meta": results.meta,
        "symbols": list(modes.symbols),
        "primitive_cell_Å": results.phonon.primitive.cell.tolist(),
        "scaled_positions": results.phonon.primitive.scaled_positions.tolist(),
        "modes": [{name: _plain(value) for name, value in zip(names, row, strict=True)} for row in rows],
    }
    if born is not None:
        static = modes.epsilon_static
        content |= {
            "born_effective_charges_e": born.charges.tolist(),
            "epsilon_infinity": born.epsilon.tolist(),
            "epsilon_static": None if static is None else static.tolist(),
            "charges_from": born.source,
            "largest_change_of_charges_by_symmetry_e": born.change,
            "largest_change_of_epsilon_by_symmetry": born.change_epsilon,
            "mean_of_charges_before_e": born.sum_before,
            "longitudinal": [
                {
                    "direction": one.direction.tolist(),
                    "frequencies_THz": one.frequencies.tolist(),
                    "transverse_longitudinal_THz": one.pairs.tolist(),
                }
                for one in results.longitudinal
            ],
        }
    return content


def describe(results: PhononResults) -> Iterator[str]:
    """Yield what a user wants to see, line by line."""
    modes, born = results.modes, results.modes.born
    cell = f"{len(modes.symbols)} atoms in the primitive cell, {len(results.phonon.supercell)} in the supercell"
    yield f"{cell}; force constants from {results.meta['forces']}" if "forces" in results.meta else cell
    if born is not None:
        yield f"Z* and dielectric tensor from {born.source}; symmetry changes Z* by up to {born.change:.2g} e"
        yield from _charge_lines(modes)
    yield f"{'THz':>9}{'cm^-1':>9}  {'times':<6}{'irrep':<7}" + ("mode charge (e)   share of eps(0)" if born else "")
    for level in modes.levels:
        frequency = round(float(modes.frequencies[level].mean()), 4) + 0.0
        name = "acoustic" if modes.is_acoustic[level[0]] else modes.labels[level[0]] or "-"
        line = f"{frequency:9.3f}{frequency * CM_PER_THZ:9.1f}  {len(level):<6}{name:<7}"
        if born is not None and modes.is_polar[level].any():
            share = np.trace(modes.contributions[level].sum(axis=0)) / 3.0
            line += f"{np.sqrt(np.sum(modes.charges[level] ** 2) / len(level)):15.3f}{share:18.3f}"
        yield line.rstrip()
    yield from _raman_lines(modes)
    for one in results.longitudinal:
        pairs = ", ".join(f"{low:.3f} - {high:.3f}" for low, high in one.pairs) or "no polar mode"
        yield f"TO - LO (THz) along {_vector(one.direction)}: {pairs}"


def _charge_lines(modes: GammaModes) -> Iterator[str]:
    born = modes.born
    if born is None:
        return
    means: dict[str, dict[str, None]] = {}
    for symbol, tensor in zip(modes.symbols, born.charges, strict=True):
        means.setdefault(symbol, {})[f"{np.trace(tensor) / 3.0:+.3f}"] = None
    yield "tr Z*/3: " + ", ".join(f"{symbol} {'/'.join(found)}" for symbol, found in means.items()) + " e"
    yield f"eps(infinity): {_tensor(born.epsilon)}"
    if modes.epsilon_static is not None:
        yield f"eps(0):        {_tensor(modes.epsilon_static)}"


def _raman_lines(modes: GammaModes) -> Iterator[str]:
    """The levels that scatter."""
    if modes.raman is None:
        return
    activity, _ = modes.raman
    seen = [level for level in modes.levels if activity[level].sum() > _SCATTERS * max(activity.max(), _SILENT)]
    lines = [f"{modes.frequencies[level].mean() * CM_PER_THZ:.1f} ({activity[level].sum():.3g})" for level in seen]
    yield f"Raman lines in cm^-1 (activity of a primitive cell in Å^4/u): {', '.join(lines) or 'none'}"


def _longitudinal_rows(longitudinal: Sequence[LongitudinalModes]) -> tuple[list[str], list[list[Any]]]:
    names = ["direction_x", "direction_y", "direction_z", "transverse_THz", "longitudinal_THz", "splitting_THz"]
    return names, [[*one.direction, low, high, high - low] for one in longitudinal for low, high in one.pairs]


def _spectrum_rows(spectrum: OpticalSpectrum) -> tuple[list[str], list[list[Any]]]:
    names, columns = ["wavenumber_cm-1", "n_alpha_mean_cm-1"], [spectrum.wavenumber, spectrum.n_alpha]
    for number, unit in enumerate(spectrum.polarizations):
        of = f"[{' '.join(f'{value:.4g}' for value in unit)}]"
        names += [f"{what}_{of}" for what in ("epsilon_real", "epsilon_imaginary", "absorption_cm-1", "reflectivity")]
        epsilon = spectrum.epsilon[:, number]
        columns += [epsilon.real, epsilon.imag, spectrum.absorption[:, number], spectrum.reflectivity[:, number]]
    return names, [list(row) for row in zip(*columns, strict=True)]


def _band_rows(bands: Bands) -> tuple[list[str], list[list[Any]]]:
    names = ["line", "q_a", "q_b", "q_c", "distance_1/Å"]
    names += [f"frequency_{mode + 1}_THz" for mode in range(bands.frequencies[0].shape[1])]
    rows = []
    for ends, *parts in zip(bands.ends, bands.wavevectors, bands.distances, bands.frequencies, strict=True):
        rows += [["-".join(ends), *q, distance, *values] for q, distance, values in zip(*parts, strict=True)]
    return names, rows


def _vector(values: np.ndarray) -> str:
    return f"[{', '.join(f'{value:.4g}' for value in values)}]"


def _tensor(tensor: np.ndarray) -> str:
    if np.abs(tensor - np.diag(np.diag(tensor))).max() < 5e-4:
        return f"diagonal {', '.join(f'{value:.3f}' for value in np.diag(tensor))}"
    return ", ".join(f"{name} {tensor[a, b]:.3f}" for name, a, b in _PARTS)


def _cell(value: Any) -> str:
    # What is zero by symmetry is so to 1e-15 or so.
    return f"{round(value, 12) + 0.0:.9g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _write(path: Path, text: str) -> None:
    replace_text(path, text + "\n")
