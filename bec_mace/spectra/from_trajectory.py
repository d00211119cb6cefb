"""Currents from trajectories made elsewhere: positions, velocities, and a model for Z*.

Velocities are those of the file. ASE keeps momenta in its own units; a column ``vel``, ``velo``, ``velocity`` or
``velocities`` of extended XYZ is read with the unit that the user names, because programs differ. Without velocities
they are central differences of positions,

    v(t) = (r(t + dt) - r(t - dt)) / (2 dt),

of the nearest images, so that wrapping does no harm; the first and the last frame are lost, and the spectrum is corrected
for the damping (see ``spectrum``). The kinetic energy of such velocities is too low by a relative error of order dt^2.
That error is four times as large over 2 dt as over dt, and so removed: 4/3 of the kinetic energy of the differences of
neighbouring frames less 1/3 of that of the central ones.

The temperature is 2 K / (k f), with f = 3 n - 3 degrees of freedom while the cell as a whole is at rest, else 3 n.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.units
import numpy as np
from ase.data import chemical_symbols

from bec_mace.data import Frame
from bec_mace.data.formats import find_format
from bec_mace.data.reading import read_atoms
from bec_mace.errors import SpectrumError
from bec_mace.spectra.currents import DIFFERENCES, VELOCITIES, Currents, find
from bec_mace.spectra.steady import TIME, steady, temperature
from bec_mace.units import BOHR, HARTREE, PLANCK

if TYPE_CHECKING:
    from ase import Atoms

    from bec_mace.models import PolarizationModel

VELOCITY_UNITS = {"ase": ase.units.fs, "A/fs": 1.0, "A/ps": 1e-3, "au": BOHR * HARTREE * 2.0 * np.pi / PLANCK}
"""Units of velocity columns, in Å/fs."""

_COLUMNS = ("velocities", "velocity", "velo", "vel")
_TRAJECTORIES = ("trajectory.traj", "trajectory.extxyz")


@dataclass(frozen=True)
class _Step:
    """What one frame gives: velocities (n_atoms, 3) in Å/fs, kinetic energy in eV."""

    frame: Frame
    velocities: np.ndarray
    temperature: float
    volume: float


def trajectory_of(path: str | Path) -> Path:
    """The trajectory that a path stands for: itself, or the one in a run folder.

    Raises:
        SpectrumError: There is none.
    """
    path = Path(path)
    if not path.is_dir():
        return find(path)
    for name in _TRAJECTORIES:
        if (path / name).is_file():
            return path / name
    raise SpectrumError(f"{path}: the folder has no {' or '.join(_TRAJECTORIES)} to use a model on; name the file")


def frame_interval(path: str | Path, time_step: float | None = None) -> float:
    """The time between two frames of a trajectory, in fs.

    Args:
        path: As in ``currents_from_trajectory``.
        time_step: What the user says; it must agree with the file where that says it too.

    Raises:
        SpectrumError: If it is not known, not positive, or not what the file says.
    """
    if time_step is not None and not (np.isfinite(time_step) and time_step > 0):
        raise SpectrumError(f"the time between two frames must be a positive number of fs, got {time_step}")
    path = trajectory_of(path)
    times = [float(atoms.info[TIME]) for atoms in islice(read_atoms(find_format(path)), 2) if TIME in atoms.info]
    stated = times[1] - times[0] if len(times) == 2 else None
    interval = stated if time_step is None else time_step
    if interval is None:
        raise SpectrumError(
            f"{path}: does not say how far apart its frames are; give the time step between them in fs (--time-step)"
        )
    if stated is not None and abs(stated - interval) > 1e-3 * interval:
        raise SpectrumError(f"{path}: its frames are {stated:g} fs apart, not {interval:g}; leave the time step out")
    return float(interval)


def currents_from_trajectory(
    path: str | Path,
    model: PolarizationModel,
    time_step: float | None = None,
    *,
    velocity_unit: str | None = None,
    batch_size: int | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Currents:
    """Compute J(t) = sum_j Z_j v_j of a trajectory, frame by frame.

    Args:
        path: Any file of frames that ASE reads, or a run folder with a trajectory in it.
        model: Gives Z*; its precision is that of the computation.
        time_step: Time between two frames, in fs; only a trajectory of ``bec-mace md`` says it.
        velocity_unit: Unit of a velocity column, one of ``VELOCITY_UNITS``.
        batch_size: Largest number of frames in a batch.
        progress: Wraps the iteration over frames, to show how far it is.

    Raises:
        SpectrumError: As ``frame_interval``, or if there are too few frames, atoms change, velocities are missing in
            some frames, all zero, or of a unit that is not named, or frames are doubled, missing or in another order.
        DataError: If ASE cannot read the file.
        ModelError: If the model does not know an element.
    """
    if velocity_unit is not None and velocity_unit not in VELOCITY_UNITS:
        raise SpectrumError(f"velocity unit {velocity_unit!r} is not known; choose one of {', '.join(VELOCITY_UNITS)}")
    path = trajectory_of(path)
    time_step = frame_interval(path, time_step)
    structures = read_atoms(find_format(path))
    first = next(structures)
    has_velocities = _find_velocities(first, path, velocity_unit) is not None
    same = steady(same_atoms(chain([first], structures), path), path, time_step)
    steps = _with_velocities(same, path, velocity_unit) if has_velocities else _with_differences(same, path, time_step)
    numbers = np.unique(first.numbers)
    members = (first.numbers == numbers[:, None]).astype(np.float64)

    rows, kept = [], []
    for step, charges in progress(_with_charges(steps, model, batch_size)):
        rows.append(members @ np.einsum("nab,nb->na", charges, step.velocities))
        kept.append((step.temperature, step.volume))
    if not rows:
        raise SpectrumError(f"{path}: has too few frames; central differences of positions need three")
    temperature, volume = np.array(kept).T
    if has_velocities and temperature.max() == 0:
        raise SpectrumError(f"{path}: all velocities are zero; remove them to use differences of positions")
    start = 0 if has_velocities else 1
    return Currents(
        time=time_step * (start + np.arange(len(rows))),
        current=np.array(rows),
        temperature=temperature,
        volume=volume,
        elements=tuple(chemical_symbols[number] for number in numbers),
        sampling_interval_fs=time_step,
        source=str(path),
        method=VELOCITIES if has_velocities else DIFFERENCES,
        counts=tuple(int(count) for count in members.sum(axis=1)),
    )


def _with_charges(
    steps: Iterator[_Step], model: PolarizationModel, batch_size: int | None
) -> Iterator[tuple[_Step, np.ndarray]]:
    """Every step with its Born effective charges, of shape (n_atoms, 3, 3)."""
    from bec_mace.predict import predict

    # The model reads ahead, by one batch; what it has read waits here.
    waiting: deque[_Step] = deque()

    def frames() -> Iterator[Frame]:
        for step in steps:
            waiting.append(step)
            yield step.frame

    for result in predict(model, frames(), ("born_effective_charges",), batch_size):
        yield waiting.popleft(), result["born_effective_charges"]


def same_atoms(structures: Iterable[Atoms], path: Path) -> Iterator[Atoms]:
    """The structures, all of the same atoms in the same order, or an error that names the frame."""
    first = None
    for number, atoms in enumerate(structures):
        first = atoms.numbers if first is None else first
        if not np.array_equal(atoms.numbers, first):
            raise SpectrumError(
                f"{path}, frame {number}: has other atoms, or another order of atoms, than frame 0; "
                "a current follows the same atoms"
            )
        yield atoms


def _find_velocities(atoms: Atoms, path: Path, unit: str | None) -> np.ndarray | None:
    """Velocities in Å/fs, or None where the file has none."""
    if atoms.has("momenta"):
        if unit is not None:
            raise SpectrumError(
                f"{path}: the unit of its velocities is known, from the file or its format; leave --velocity-unit out"
            )
        result: np.ndarray | None = atoms.get_velocities() * ase.units.fs
        return result
    for name in _COLUMNS:
        if name in atoms.arrays:
            if unit is None:
                raise SpectrumError(
                    f"{path}: has a column {name!r} whose unit is not known; "
                    f"name it with --velocity-unit ({', '.join(VELOCITY_UNITS)})"
                )
            return atoms.arrays[name] * VELOCITY_UNITS[unit]
    return None


def _with_velocities(structures: Iterable[tuple[Atoms, np.ndarray | None]], path: Path, unit: str | None) -> Iterator[_Step]:
    for number, (atoms, _) in enumerate(structures):
        velocities = _find_velocities(atoms, path, unit)
        if velocities is None or not np.isfinite(velocities).all():
            raise SpectrumError(f"{path}, frame {number}: velocities are missing or not finite; other frames have them")
        yield _step(atoms, path, number, velocities, temperature(atoms, velocities))


def _with_differences(structures: Iterable[tuple[Atoms, np.ndarray | None]], path: Path, time_step: float) -> Iterator[_Step]:
    before: np.ndarray | None = None
    middle: Atoms | None = None
    for number, (atoms, moved) in enumerate(structures):
        after = None if moved is None else moved / time_step
        if middle is not None and before is not None and after is not None:
            velocities = 0.5 * (before + after)
            halves = 0.5 * (temperature(middle, before) + temperature(middle, after))
            corrected = (4.0 * halves - temperature(middle, velocities)) / 3.0
            yield _step(middle, path, number - 1, velocities, corrected)
        before, middle = after, atoms


def _step(atoms: Atoms, path: Path, number: int, velocities: np.ndarray, temperature: float) -> _Step:
    frame = Frame.from_atoms(atoms, properties=(), source=f"{path}, frame {number}")
    volume = float(atoms.get_volume()) if atoms.pbc.all() else float("nan")
    return _Step(frame, velocities, temperature, volume)
