"""Trajectories whose frames do not follow each other as time does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from bec_mace.errors import SpectrumError
from bec_mace.spectra.steady import steady

NUMBERS = np.tile([8, 1, 1], 4)
PLACES = np.random.default_rng(2).uniform(0, 9, (12, 3))
PHASES = np.random.default_rng(3).uniform(0, 6, (3, 12, 3))


def frames(n: int = 120) -> list[Atoms]:
    """Harmonic vibrations of 600, 1600 and 3400 cm^-1, 1 fs apart, wrapped into the cell."""
    found = []
    for t in range(n):
        waves = [2 * np.pi * 2.9979e-5 * w * t + phase for w, phase in zip((600.0, 1600.0, 3400.0), PHASES, strict=True)]
        moved = sum(0.03 * 600 / w * np.cos(wave) for w, wave in zip((600, 1600, 3400), waves, strict=True))
        atoms = Atoms(NUMBERS, PLACES + moved, cell=[9, 9, 9], pbc=True, info={"time_fs": float(t)})
        atoms.wrap()
        found.append(atoms)
    return found


def without_times(structures: list[Atoms]) -> list[Atoms]:
    for atoms in structures:
        atoms.info.clear()
    return structures


def swapped(structures: list[Atoms]) -> list[Atoms]:
    order = np.arange(12)
    order[[1, 4]] = [4, 1]
    return [atoms if number < 60 else atoms[order] for number, atoms in enumerate(structures)]


def shuffled(structures: list[Atoms]) -> list[Atoms]:
    generator = np.random.default_rng(7)
    oxygens, hydrogens = np.flatnonzero(NUMBERS == 8), np.flatnonzero(NUMBERS == 1)
    found = []
    for atoms in structures:
        order = np.arange(12)
        order[oxygens], order[hydrogens] = generator.permutation(oxygens), generator.permutation(hydrogens)
        found.append(atoms[order])
    return found


def test_what_follows_passes() -> None:
    whole = frames()
    passed = list(steady(whole, Path("a.xyz"), 1.0))
    assert [id(atoms) for atoms, _ in passed] == [id(atoms) for atoms in whole]
    assert passed[0][1] is None and np.abs(passed[7][1]).max() < 0.1
    still = [frames(1)[0].copy() for _ in range(3)]
    assert len(list(steady(without_times(still), Path("a.xyz"), 1.0))) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: without_times(f[:61] + [a.copy() for a in f[51:]]), "a.xyz, frame 61: has the positions of frame 51"),
        (lambda f: without_times(f[:60] + f[85:]), "a.xyz, frame 60: atoms jump"),
        (lambda f: without_times(f[:8] + f[40:]), "a.xyz, frame 8: atoms jump"),
        (lambda f: without_times(swapped(f)), "a.xyz, frame 60: atoms jump"),
        (lambda f: without_times(shuffled(f)), "a.xyz: atoms move from frame to frame as at .* K; the atoms"),
        (lambda f: f[:60] + f[61:], "a.xyz, frame 60: its time is 61 fs, 2 fs after the frame before and not 1"),
    ],
)
def test_what_does_not_follow_is_refused(change: Callable[[list[Atoms]], list[Atoms]], message: str) -> None:
    with pytest.raises(SpectrumError, match=message):
        list(steady(change(frames()), Path("a.xyz"), 1.0))


def test_one_frame_is_missing_of_atoms_that_fly_steadily() -> None:
    flying = []
    for time in range(120):
        atoms = Atoms(NUMBERS, PLACES + [0.05 * time + 1e-4 * time**2, 0.0, 0.0], cell=[9, 9, 9], pbc=True)
        atoms.wrap()
        flying.append(atoms)
    assert len(list(steady(flying, Path("a.xyz"), 1.0))) == 120
    with pytest.raises(SpectrumError, match="a.xyz, frame 70: atoms jump"):
        list(steady(flying[:70] + flying[71:], Path("a.xyz"), 1.0))
