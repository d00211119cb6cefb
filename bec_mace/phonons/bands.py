"""Phonon bands along a path of special points, by ASE's names of them and phonopy's frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.cell import Cell

from bec_mace.errors import PhononError


@dataclass(frozen=True)
class Bands:
    """Frequencies along lines between special points.

    Attributes:
        wavevectors: Of each line, of shape (n_points, 3), in reciprocal vectors of the primitive cell.
        distances: Along the path, of each line, of shape (n_points,), in 1/Å, without 2 pi; lines are put side by side.
        frequencies: Of each line, of shape (n_points, n_modes), in THz; imaginary ones are negative.
        ends: Names of both ends of each line.
    """

    wavevectors: list[np.ndarray]
    distances: list[np.ndarray]
    frequencies: list[np.ndarray]
    ends: list[tuple[str, str]]


def phonon_bands(phonon: Any, path: str | None = None, points: int = 200) -> Bands:
    """Frequencies along a path. At Gamma the macroscopic field is that of the line, where phonopy has Z*.

    Args:
        phonon: With force constants.
        path: Names of special points, such as ``"GXWKGL,UX"``; that of the lattice, by Setyawan and Curtarolo, by default.
        points: Number of wavevectors on all lines together; each line has two at least.

    Raises:
        PhononError: The lattice has no special point of a name.
    """
    cell = Cell(phonon.primitive.cell)
    try:
        found = cell.bandpath(path, npoints=0)
        names = _split(found.path, found.special_points)
        corners = [[np.asarray(found.special_points[name], dtype=np.float64) for name in part] for part in names]
    except (KeyError, ValueError, RuntimeError) as error:
        known = ", ".join(sorted(cell.bandpath(npoints=0).special_points))
        raise PhononError(f"bands.path: {path} is no path of this lattice, whose special points are {known}") from error
    reciprocal = cell.reciprocal().array
    lines, ends = [], []
    for part, places in zip(names, corners, strict=True):
        for first, second, a, b in zip(part[:-1], part[1:], places[:-1], places[1:], strict=True):
            ends.append((first, second))
            lines.append((a, b, float(np.linalg.norm((b - a) @ reciprocal))))
    total = sum(length for _, _, length in lines)
    counts = [max(2, round(points * length / total)) for _, _, length in lines]
    wavevectors = [np.linspace(a, b, count) for (a, b, _), count in zip(lines, counts, strict=True)]
    result = phonon.run_band_structure(wavevectors) or phonon.band_structure
    starts = np.concatenate([[0.0], np.cumsum([length for _, _, length in lines])])
    distances = [
        start + np.linspace(0.0, length, count) for start, (_, _, length), count in zip(starts, lines, counts, strict=False)
    ]
    return Bands(wavevectors, distances, [np.array(one) for one in result.frequencies], ends)


def _split(path: str, special: dict[str, np.ndarray]) -> list[list[str]]:
    """Parts of a path and the names in each; names are a letter and digits."""
    from ase.dft.kpoints import parse_path_string

    parts: list[list[str]] = parse_path_string(path)
    unknown = [name for part in parts for name in part if name not in special]
    if unknown or any(len(part) < 2 for part in parts):
        raise KeyError(*unknown)
    return parts
