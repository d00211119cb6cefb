"""Spectra in files: CSV, JSON, and reference curves."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bec_mace.errors import SpectrumError
from bec_mace.spectra.infrared import Spectrum
from bec_mace.spectra.peaks import PROMINENCE, find_peaks
from bec_mace.storage.files import replace_text


def columns(spectrum: Spectrum) -> dict[str, np.ndarray]:
    """The columns of a file by name; units are part of the names, dielectric functions have none."""
    table = {
        "wavenumber_cm-1": spectrum.wavenumber,
        "n_alpha_cm-1": spectrum.n_alpha,
        "n_alpha_standard_error_cm-1": spectrum.n_alpha_error,
        "n_alpha_standard_error_of_runs_cm-1": spectrum.n_alpha_error_runs,
        "epsilon_imaginary": spectrum.epsilon_imaginary,
        "epsilon_imaginary_standard_error": spectrum.epsilon_imaginary_error,
        "epsilon_real": spectrum.epsilon_real,
        "epsilon_real_standard_error": spectrum.epsilon_real_error,
    }
    if len(spectrum.meta["runs"]) == 1:
        del table["n_alpha_standard_error_of_runs_cm-1"]
    for name, values in spectrum.contributions.items():
        table[f"n_alpha_{name}_cm-1"] = values
        table[f"n_alpha_{name}_standard_error_cm-1"] = spectrum.contribution_errors[name]
    return table


def write_csv(spectrum: Spectrum, path: str | Path) -> None:
    """Write a table: lines beginning with # say how it was made, then a row of names, then numbers.

    Args:
        spectrum: From ``infrared_spectrum``.
        path: The file, complete or not written at all.
    """
    write_columns(columns(spectrum), spectrum.meta, path)


def write_columns(table: Mapping[str, np.ndarray], meta: Mapping[str, Any], path: str | Path) -> None:
    """Write columns by name as a table, below lines with # that say how they were made."""
    lines = [f"# {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in meta.items()]
    lines += [",".join(table), *(",".join(f"{value:.8g}" for value in row) for row in zip(*table.values(), strict=True))]
    replace_text(Path(path), "\n".join(lines) + "\n")


def known_values(table: Mapping[str, np.ndarray]) -> dict[str, list[float | None]]:
    """Columns as what JSON can hold; numbers that are not known are None."""
    return {name: [_known(value) for value in values.tolist()] for name, values in table.items()}


def to_dict(spectrum: Spectrum, prominence: float = PROMINENCE) -> dict[str, Any]:
    """The spectrum, its peaks and how it was made, as what JSON can hold; numbers that are not known are None.

    Args:
        spectrum: From ``infrared_spectrum``.
        prominence: Least prominence of the peaks, as in ``find_peaks``.
    """
    return {
        "meta": spectrum.meta,
        "area_cm-2": spectrum.area(),
        "peaks": [
            {
                "wavenumber_cm-1": peak.wavenumber,
                "n_alpha_cm-1": peak.height,
                "standard_error_cm-1": _known(peak.error),
                "prominence_cm-1": peak.prominence,
            }
            for peak in find_peaks(spectrum, prominence)
        ],
        "columns": known_values(columns(spectrum)),
    }


def write_json(spectrum: Spectrum, path: str | Path, prominence: float = PROMINENCE) -> None:
    """Write ``to_dict``, complete or not at all."""
    text = json.dumps(to_dict(spectrum, prominence), indent=1, ensure_ascii=False) + "\n"
    replace_text(Path(path), text)


def read_curve(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read absorption from a table: of ``write_csv``, or of an experiment.

    Args:
        path: Comma-separated values with a row of names, among them ``wavenumber_cm-1`` and ``n_alpha_cm-1``. Lines
            beginning with # are left out.

    Returns:
        Wavenumbers and n alpha in cm^-1, of shape (n,) each.

    Raises:
        SpectrumError: If the file is not there, has no such columns, or holds something else than numbers.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpectrumError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    rows = list(csv.DictReader(line for line in text.splitlines() if line.strip() and not line.startswith("#")))
    wanted = ("wavenumber_cm-1", "n_alpha_cm-1")
    missing = [name for name in wanted if not rows or name not in rows[0]]
    if missing:
        raise SpectrumError(f"{path}: has no column {' and no column '.join(missing)}; name the columns in the first row")
    try:
        x, y = (np.array([float(row[name]) for row in rows]) for name in wanted)
    except (TypeError, ValueError) as error:
        raise SpectrumError(f"{path}: a row is not made of numbers ({error})") from None
    return x, y


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
