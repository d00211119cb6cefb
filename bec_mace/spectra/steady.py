"""Whether the frames of a trajectory follow each other as time does: none twice, missing, or with atoms in another order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import ase.units
import numpy as np
from ase.geometry import find_mic

from bec_mace.errors import SpectrumError
from bec_mace.units import BOLTZMANN

if TYPE_CHECKING:
    from ase import Atoms

_JUMP = 5.0
"""A change of displacements that is so many times the usual one is no motion."""
_ENOUGH = 20
"""Frames before anything is usual."""
TIME = "time_fs"
"""Key of the time of a frame."""
_HOTTEST = 1e5
"""K; no atoms stay together at that."""
_KINETIC = 1.0 / ase.units.fs**2
"""1 amu Å^2/fs^2, in eV."""
_AT_REST = 1e-6
"""Less kinetic energy than this share in the motion of the cell as a whole: it is at rest."""


def steady(structures: Iterable[Atoms], path: Path, interval: float) -> Iterator[tuple[Atoms, np.ndarray | None]]:
    """Frames of a trajectory with how far atoms have moved since the one before, as long as each follows the one before.

    The second difference of positions, r(t + dt) - 2 r(t) + r(t - dt), is dt^2 times the acceleration, whose mean square over
    all atoms hardly changes from step to step. Where frames are missing or atoms change places it is the displacement itself.

    Args:
        structures: Frames of the same atoms.
        path: Where they are from, for messages.
        interval: Time between two frames, in fs.

    Yields:
        Each frame, and the displacements to it by the nearest images, of shape (n_atoms, 3), in Å; None for the first.

    Raises:
        SpectrumError: A frame occurs twice, its time is not that of the next frame, or its positions are not; atoms are faster
            than any that stay together.
    """
    seen: dict[bytes, int] = {}
    changes: list[float] = []
    heat: list[float] = []
    before: Atoms | None = None
    moved: np.ndarray | None = None
    time: float | None = None
    for number, atoms in enumerate(structures):
        time = _check_time(atoms, time, path, number, interval)
        key = blake2b(np.ascontiguousarray(atoms.positions).tobytes(), digest_size=8).digest()
        if key in seen and (before is None or not np.array_equal(before.positions, atoms.positions)):
            raise SpectrumError(
                f"{path}, frame {number}: has the positions of frame {seen[key]}; frames that a restart has written twice must "
                "be left out, for time goes on by one step from each to the next"
            )
        seen[key] = number
        step: np.ndarray | None = None
        if before is not None:
            step, _ = find_mic(atoms.positions - before.positions, before.cell, before.pbc)
            if len(heat) < _ENOUGH:
                heat.append(temperature(atoms, step / interval))
                _check_heat(heat, path)
            if moved is not None:
                changes.append(float(np.sqrt(np.mean((step - moved) ** 2))))
                _check_change(changes, path, number)
        before, moved = atoms, step
        yield atoms, step


def temperature(atoms: Atoms, velocities: np.ndarray) -> float:
    """2 K / (k f), in K, from velocities in Å/fs; f is 3 n - 3 while the cell as a whole is at rest, else 3 n."""
    masses = atoms.get_masses()
    kinetic = 0.5 * _KINETIC * float(np.sum(masses[:, None] * velocities**2))
    drift = 0.5 * _KINETIC * float(np.sum((masses @ velocities) ** 2)) / masses.sum()
    freedom = 3 * len(atoms) - (3 if len(atoms) > 1 and drift <= _AT_REST * kinetic else 0)
    return 2.0 * kinetic / (BOLTZMANN * freedom)


def _check_time(atoms: Atoms, before: float | None, path: Path, number: int, interval: float) -> float | None:
    time = float(atoms.info[TIME]) if TIME in atoms.info else None
    if time is not None and before is not None and abs(time - before - interval) > 1e-3 * interval:
        raise SpectrumError(
            f"{path}, frame {number}: its time is {time:g} fs, {time - before:g} fs after the frame before and not "
            f"{interval:g}; a spectrum needs frames at equal times: give the part without the gap"
        )
    return time


def _check_heat(heat: list[float], path: Path) -> None:
    if len(heat) == _ENOUGH and (kelvin := float(np.median(heat))) > _HOTTEST:
        raise SpectrumError(
            f"{path}: atoms move from frame to frame as at {kelvin:.1g} K; the atoms of the frames are in different orders, "
            "the frames are not those of one run, or the time step is not the one given"
        )


def _check_change(changes: list[float], path: Path, number: int) -> None:
    # All of the first few at once, as soon as there is something to compare with.
    if len(changes) < _ENOUGH:
        return
    usual = float(np.median(changes[-200:]))
    recent = changes if len(changes) == _ENOUGH else changes[-1:]
    for place, change in enumerate(recent):
        if usual > 0 and change > _JUMP * usual:
            frame = number - len(recent) + 1 + place
            raise SpectrumError(
                f"{path}, frame {frame}: atoms jump, {change / usual:.0f} times as far off their ways as usual; frames are "
                "missing or in another order, or atoms of one element change places. Give frames of the same atoms at equal "
                "times"
            )
