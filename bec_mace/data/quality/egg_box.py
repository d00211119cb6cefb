r"""The egg-box error: labels that follow the real-space grid of the program that made them.

A program that holds the density on a grid breaks translational symmetry. Energies and forces of an atom then vary with the
period of the grid, and so does Z*. To leading order, with a grid point at the origin,

.. math:: Z_j \to Z_j + \sum_k A_{z_j k} \cos(2\pi n_k s_{jk}) \, \hat b_k \hat b_k^T

with fractional coordinates s, n_k grid points along lattice vector k, unit vectors :math:`\hat b_k` of the reciprocal
lattice and an amplitude A for each element. No model that is invariant under translation can give this, and one that is
trained on it fits noise.

It is found without any model: the sum of Z* over a cell must vanish, so what is left of
:math:`\hat b_k \cdot \sum_j Z_j \cdot \hat b_k` can be regressed on the sums of cosines. Nothing physical is in the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bec_mace.data.frames import Frame

_Z = "born_effective_charges"
# Periods that a grid may have, in Å: from the finest grid in use to the coarsest level of a multigrid.
_SHORTEST, _LONGEST = 0.08, 0.5
# Of the whole search, to take chance for a grid.
_FALSE_ALARM = 1e-4
# An element has an amplitude when it is this many standard errors away from zero.
_SIGNIFICANT = 4.0
# Labels that obey the sum rule to this, in e, are free of it, or were made to obey it.
_OBEYED = 1e-3
_MAX_FRAMES = 1000
_SAME_SPACING = 1e-3
# Cells whose planes are this much closer or farther, in relation, are taken to have another grid.
_SAME_CELL = 0.05


@dataclass(frozen=True)
class EggBox:
    """An egg-box error.

    Attributes:
        grid: Grid points along each lattice vector; 0 where none was found.
        period: Distance between grid planes in the usual cell, in Å; 0 where there is no grid.
        amplitudes: A along each lattice vector, of shape (3,), in e, by atomic number.
        share: What part of the variance of the sum of Z* it explains.
    """

    grid: tuple[int, int, int]
    period: tuple[float, float, float]
    amplitudes: dict[int, np.ndarray]
    share: float

    def remove(self, frames: Sequence[Frame]) -> list[Frame]:
        """Frames with labels Z* without the error; those without Z* or of another cell are given back as they are."""
        return [
            replace(frame, labels={**frame.labels, _Z: frame.labels[_Z] - self.error(frame)})
            if _Z in frame.labels and frame.pbc.all()
            else frame
            for frame in frames
        ]

    def error(self, frame: Frame) -> np.ndarray:
        """The error of each Z* of a periodic frame, of shape (n_atoms, 3, 3), in e; zero in a cell of another size."""
        normals, scaled, heights = _lattice(frame)
        amplitudes = np.zeros((len(frame), 3))
        if _alike_cells(np.multiply(self.period, self.grid), heights):
            for number, values in self.amplitudes.items():
                amplitudes[frame.atomic_numbers == number] = values
        shares = amplitudes * np.cos(2 * np.pi * np.array(self.grid) * scaled)
        result: np.ndarray = np.einsum("jk,ka,kb->jab", shares, normals, normals)
        return result

    def text(self) -> str:
        """What was found, for a person."""
        from ase.data import chemical_symbols

        axes = [axis for axis in range(3) if self.grid[axis]]
        sizes = ", ".join(
            f"{chemical_symbols[number]} {np.abs(values).max():.4f} e" for number, values in sorted(self.amplitudes.items())
        )
        return (
            f"{sizes} along {', '.join('abc'[axis] for axis in axes)}, period "
            f"{', '.join(dict.fromkeys(f'{self.period[axis]:.3f}' for axis in axes))} Å "
            f"({'x'.join(str(points or '-') for points in self.grid)} grid points), "
            f"{100 * self.share:.0f} % of the variance of the sum of Z*"
        )

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        from ase.data import chemical_symbols

        return {
            "grid": list(self.grid),
            "period": list(self.period),
            "share": self.share,
            "amplitudes": {chemical_symbols[number]: values.tolist() for number, values in self.amplitudes.items()},
        }


def find_egg_box(frames: Sequence[Frame]) -> EggBox | None:
    """Look for an egg-box error in the labels of frames.

    Lattice vectors of one length share a grid. Cells may differ by 5 %, with the same number of grid points.

    Args:
        frames: Any frames; those with Z*, periodic in three directions, neutral, and of the usual size are looked at,
            1000 of them spread evenly.

    Returns:
        The error, or None when there is none that is sure: a chance of less than 1e-4 that labels without it look like this.
    """
    labelled = [frame for frame in frames if _Z in frame.labels and frame.pbc.all() and not frame.total_charge]
    labelled = labelled[:: max(1, -(-len(labelled) // _MAX_FRAMES))]
    if not labelled:
        return None
    everywhere = [(frame, *_lattice(frame)) for frame in labelled]
    usual = np.median([heights for *_, heights in everywhere], axis=0)
    chosen = [(frame, normals, scaled) for frame, normals, scaled, heights in everywhere if _alike_cells(usual, heights)]
    if not chosen:
        return None
    sums = np.array([_along(normals, frame.labels[_Z]) for frame, normals, _ in chosen])
    elements = np.unique(np.concatenate([frame.atomic_numbers for frame, *_ in chosen]))
    grid, period = np.zeros(3, dtype=int), np.zeros(3)
    amplitudes = np.zeros((len(elements), 3))
    for axes in _alike(usual):
        lowest, highest = int(np.ceil(usual[axes[0]] / _LONGEST)), int(usual[axes[0]] / _SHORTEST)
        if highest < max(lowest, 1):
            continue
        cosines = np.array([_cosine_sums(frame, scaled[:, axes], elements, lowest, highest) for frame, _, scaled in chosen])
        values = sums[:, axes] - sums[:, axes].mean()
        fit = _regress(values.ravel(), cosines.transpose(0, 3, 1, 2).reshape(-1, *cosines.shape[1:3]))
        if fit is not None:
            place, fitted = fit
            grid[axes], period[axes] = lowest + place, usual[axes] / (lowest + place)
            amplitudes[:, axes] = fitted[:, None]
    if not grid.any():
        return None
    sizes = {int(number): values for number, values in zip(elements, amplitudes, strict=True) if values.any()}
    box = EggBox((int(grid[0]), int(grid[1]), int(grid[2])), (float(period[0]), float(period[1]), float(period[2])), sizes, 0.0)
    left = sums - np.array([_along(normals, box.error(frame)) for frame, normals, _ in chosen])
    return replace(box, share=1 - float(left.var(axis=0).sum() / sums.var(axis=0).sum()))


def _along(normals: np.ndarray, tensors: np.ndarray) -> np.ndarray:
    """The sum of tensors of shape (n_atoms, 3, 3) along each of three directions."""
    result: np.ndarray = np.einsum("ka,ab,kb->k", normals, tensors.sum(axis=0), normals)
    return result


def _lattice(frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors normal to the lattice planes as rows, fractional coordinates, and distances of the planes in Å."""
    reciprocal = np.linalg.inv(frame.cell).T
    heights = 1 / np.linalg.norm(reciprocal, axis=1)
    return reciprocal * heights[:, None], frame.positions @ reciprocal.T, heights


def _alike_cells(usual: np.ndarray, heights: np.ndarray) -> bool:
    """Whether the planes of a cell are as far from each other as usual; 0 stands for any distance."""
    return bool(np.all((usual == 0) | (np.abs(heights - usual) <= _SAME_CELL * usual)))


def _alike(heights: np.ndarray) -> list[list[int]]:
    """Lattice vectors grouped by the distance of their planes."""
    groups: list[list[int]] = []
    for axis in range(3):
        home = next((group for group in groups if abs(heights[axis] / heights[group[0]] - 1) < _SAME_SPACING), None)
        if home is None:
            groups.append([axis])
        else:
            home.append(axis)
    return groups


def _cosine_sums(frame: Frame, scaled: np.ndarray, elements: np.ndarray, lowest: int, highest: int) -> np.ndarray:
    """Sums of cos(2 pi n s) over the atoms of each element, of shape (n_counts, n_elements, n_axes)."""
    counts = np.arange(lowest, highest + 1)[:, None, None]
    cosines = np.cos(2 * np.pi * counts * scaled)
    result: np.ndarray = np.einsum("njk,jz->nzk", cosines, (frame.atomic_numbers[:, None] == elements).astype(float))
    return result


def _regress(values: np.ndarray, cosines: np.ndarray) -> tuple[int, np.ndarray] | None:
    """Find the number of grid points that explains values.

    Args:
        values: Of shape (n_values,), with mean zero.
        cosines: Of shape (n_values, n_counts, n_elements).

    Returns:
        The place of the count, and the amplitude of each element, of shape (n_elements,); None when nothing is beyond chance.
    """
    from scipy.special import betainc

    n_values, n_counts, n_elements = cosines.shape
    if n_values < 4 or values.std() < _OBEYED:
        return None
    centred = cosines - cosines.mean(axis=0)
    variances = np.mean(centred**2, axis=0)
    # Atoms that sit at one phase of a grid in all frames tell nothing of it.
    usable = variances > 1e-3
    correlations = np.einsum("v,vnz->nz", values, centred) / n_values
    shares = np.where(usable, correlations**2 / np.where(usable, variances, 1.0), 0.0) / np.mean(values**2)
    place, element = np.unravel_index(int(np.argmax(shares)), shares.shape)
    chance = float(betainc(0.5 * (n_values - 2), 0.5, max(0.0, 1 - shares.max())))
    if chance * n_counts * n_elements > _FALSE_ALARM:
        return None
    candidates = np.flatnonzero(usable[place])
    fitted, errors = _fit(values, centred[:, place, candidates])
    sure = candidates[np.abs(fitted) > _SIGNIFICANT * errors]
    kept = sure if len(sure) else np.array([element])
    amplitudes = np.zeros(n_elements)
    amplitudes[kept] = _fit(values, centred[:, place, kept])[0]
    return int(place), amplitudes


def _fit(values: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of columns by least squares, and their standard errors, infinite where the values do not suffice."""
    fitted, *_ = np.linalg.lstsq(columns, values, rcond=None)
    freedom = len(values) - 1 - columns.shape[1]
    noise = np.sum((values - columns @ fitted) ** 2) / freedom if freedom > 0 else np.inf
    return fitted, np.sqrt(noise * np.diag(np.linalg.pinv(columns.T @ columns)))
