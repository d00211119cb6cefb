"""Dumps of LAMMPS as text: elements from their column, velocities in a unit that the file or the user says.

Without ``ITEM: UNITS`` a dump does not say its units: lengths are then taken for Å, as in the styles metal and real, and
velocities are left as a column whose unit has to be named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bec_mace.data.formats.parsing import Lines, numbers, read_lines
from bec_mace.errors import DataError
from bec_mace.units import BOHR

if TYPE_CHECKING:
    from ase import Atoms

_UNITS = {"metal": (1.0, 1e-3, 1e3), "real": (1.0, 1.0, 1.0), "electron": (BOHR, BOHR / 1.03275, 1.0)}
"""Lengths in Å, velocities in Å/fs and times in fs of a style; a velocity of ``electron`` is a Bohr per 1.03275 fs."""

_PLACES = (("xu", "yu", "zu"), ("x", "y", "z"), ("xsu", "ysu", "zsu"), ("xs", "ys", "zs"))
_USED = {"id", "type", "element", "mass", "q", "vx", "vy", "vz", *(name for names in _PLACES for name in names)}


@dataclass
class _Frame:
    """What stands in one frame, by item."""

    where: str
    units: str = ""
    step: int = 0
    time: float | None = None
    bounds: list[list[float]] = field(default_factory=list)
    kind: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def recognises(head: str) -> bool:
    """Whether a file that begins like this is a dump of LAMMPS."""
    return head.lstrip().startswith(("ITEM: TIMESTEP", "ITEM: UNITS", "ITEM: TIME"))


def read(path: Path) -> Iterator[Atoms]:
    """Yield the structures, in the order of ``id`` where there is one.

    Raises:
        DataError: Atoms have numeric types and no elements, units or columns that are not known, or a frame is cut.
    """
    lines = read_lines(path)
    units = ""
    for number, frame in enumerate(_frames(lines, path)):
        units = frame.units = frame.units or units  # said once, in the first frame
        frame.where = f"{path}, frame {number}"
        yield _atoms(frame)


def _frames(lines: Lines, path: Path) -> Iterator[_Frame]:
    """The items of each frame; the one of the atoms is the last."""
    frame, count = _Frame(str(path)), -1
    for number, line in lines:
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        if not line.startswith("ITEM: "):
            raise DataError(f"{where}: expected 'ITEM: ...' of a LAMMPS dump, found {line.strip()[:40]!r}; is the file whole?")
        item = line[6:].split()
        if item[0] == "ATOMS":
            if count < 0 or not frame.bounds:
                raise DataError(f"{where}: atoms without their number and box before them; is the file whole?")
            frame.columns = item[1:]
            frame.rows = [_next(lines, where).split() for _ in range(count)]
            yield frame
            frame, count = _Frame(str(path)), -1
        elif item[0] == "BOX":
            frame.kind = item[2:]
            frame.bounds = [[float(word) for word in _next(lines, where).split()] for _ in range(3)]
        elif item[0] == "NUMBER":
            count = int(_next(lines, where))
        elif item[0] == "UNITS":
            frame.units = _next(lines, where).strip()
        elif item[0] == "TIME":
            frame.time = numbers(_next(lines, where), 1, where)[0]
        elif item[0] == "TIMESTEP":
            frame.step = int(_next(lines, where))
        else:
            raise DataError(f"{where}: the item {' '.join(item)!r} of a LAMMPS dump is not known.")


def _next(lines: Lines, where: str) -> str:
    number, line = next(lines, (0, ""))
    if not number or line.startswith("ITEM:"):
        raise DataError(f"{where}: the item ends too early; the file is cut off: leave the frame out.")
    return line


def _atoms(frame: _Frame) -> Atoms:
    from ase import Atoms, units

    where, values = frame.where, _columns(frame)
    if frame.units and frame.units not in _UNITS:
        raise DataError(f"{where}: units of the style {frame.units!r} are not known; known are {', '.join(_UNITS)}.")
    length, velocity, time = _UNITS.get(frame.units, (1.0, None, None))
    cell, origin, periodic = _box(frame)
    names = next((names for names in _PLACES if set(names) <= values.keys()), None)
    if names is None:
        raise DataError(f"{where}: has no positions (x y z, xu yu zu or xs ys zs), only {', '.join(frame.columns)}.")
    places = _vectors(values, names, where)
    if "s" in names[0]:
        places = origin + places @ cell
    symbols = _symbols(values, where)
    try:
        atoms = Atoms(symbols, places * length, cell=cell * length, pbc=periodic)
    except KeyError as error:
        raise DataError(f"{where}: {error.args[0]!r} is no element; let dump_modify element name them.") from None
    atoms.info["step"] = frame.step
    if frame.time is not None and time is not None:
        atoms.info["time_fs"] = frame.time * time
    if "mass" in values:
        atoms.set_masses(_vectors(values, ("mass",), where)[:, 0])
    if "q" in values:
        atoms.set_initial_charges(_vectors(values, ("q",), where)[:, 0])
    if {"vx", "vy", "vz"} <= values.keys():
        velocities = _vectors(values, ("vx", "vy", "vz"), where)
        if velocity is None:
            atoms.set_array("velocities", velocities)
        else:
            atoms.set_velocities(velocities * velocity / units.fs)
    for name in sorted(values.keys() - _USED):
        with suppress(ValueError):  # words are of no use here
            atoms.set_array(f"lammps_{name}", values[name].astype(np.float64))
    return atoms


def _columns(frame: _Frame) -> dict[str, np.ndarray]:
    """The columns by name, sorted by ``id``."""
    if any(len(row) != len(frame.columns) for row in frame.rows):
        raise DataError(f"{frame.where}: expected {len(frame.columns)} columns ({' '.join(frame.columns)}); is the file whole?")
    values = {name: np.array([row[i] for row in frame.rows]) for i, name in enumerate(frame.columns)}
    if "id" not in values:
        return values
    order = np.argsort(values["id"].astype(np.int64), kind="stable")
    return {name: value[order] for name, value in values.items()}


def _vectors(values: dict[str, np.ndarray], names: Sequence[str], where: str) -> np.ndarray:
    """Columns of numbers, of shape (n_atoms, n_columns)."""
    try:
        result = np.stack([values[name].astype(np.float64) for name in names], axis=1)
    except ValueError as error:
        raise DataError(f"{where}: {', '.join(names)} must be numbers ({error}).") from None
    if not np.isfinite(result).all():
        raise DataError(f"{where}: {', '.join(names)} are not finite.")
    return result


def _symbols(values: dict[str, np.ndarray], where: str) -> list[str]:
    if "element" in values:
        return [str(symbol) for symbol in values["element"]]
    types = sorted(set(values.get("type", np.array([]))))
    if not types or any(kind.isdigit() for kind in types):
        held = f"types {', '.join(types)}" if types else "no types"
        raise DataError(
            f"{where}: has {held} and no elements. Which element a type is stands in the input of LAMMPS alone: write the dump "
            "with a column `element` (dump_modify ID element O H), or convert it to extended XYZ with the symbols of atoms."
        )
    return [str(symbol) for symbol in values["type"]]


def _box(frame: _Frame) -> tuple[np.ndarray, np.ndarray, list[bool]]:
    """Lattice vectors as rows, the origin, and the periodic directions, in the units of the file."""
    bounds = np.array(frame.bounds)
    periodic = [word.startswith("p") for word in frame.kind if set(word) <= set("pfsm") and len(word) == 2]
    if len(periodic) != 3:
        raise DataError(f"{frame.where}: the box {' '.join(frame.kind)!r} does not say in which directions it is periodic.")
    if "abc" in frame.kind:
        return bounds[:, :3], bounds[:, 3], periodic
    if bounds.shape[1] == 2:
        return np.diag(bounds[:, 1] - bounds[:, 0]), bounds[:, 0], periodic
    xy, xz, yz = bounds[:, 2]
    low = bounds[:, 0] - [min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0]
    high = bounds[:, 1] - [max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0]
    lengths = high - low
    return np.array([[lengths[0], 0, 0], [xy, lengths[1], 0], [xz, yz, lengths[2]]]), low, periodic
