"""Trajectories of i-PI in xyz: cell and units stand in the comment of each frame.

``# CELL(abcABC): 20.0 20.0 20.0 90.0 90.0 90.0 Step: 0 Bead: 0 positions{atomic_unit} cell{atomic_unit}``
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bec_mace.data.formats.parsing import Lines, numbers, read_lines
from bec_mace.errors import DataError
from bec_mace.units import BOHR

if TYPE_CHECKING:
    from ase import Atoms

_CELL = re.compile(r"#\s*CELL[({](?P<kind>\w+)[)}]\s*:(?P<numbers>(?:\s+[-+\d.eE]+)+)")
_QUANTITY = re.compile(r"(?P<name>\w+)\s*\{(?P<unit>\w+)\}")
_LENGTHS = {"atomic_unit": BOHR, "bohr": BOHR, "angstrom": 1.0, "ase": 1.0, "nanometer": 10.0}
"""Units of length of i-PI, in Å."""


def recognises(head: str) -> bool:
    """Whether a file that begins like this is a trajectory of i-PI."""
    lines = head.split("\n", 2)
    return len(lines) > 2 and lines[0].strip().isdigit() and bool(re.match(r"#\s*CELL[({]", lines[1].strip()))


def read(path: Path) -> Iterator[Atoms]:
    """Yield the structures, lengths in Å.

    Raises:
        DataError: The file holds no positions, a cell or unit that is not known, or a frame that is cut.
    """
    lines = read_lines(path)
    for number, line in lines:
        if line.strip():
            yield _frame(line, lines, f"{path}, line {number}")


def _frame(first: str, lines: Lines, where: str) -> Atoms:
    from ase import Atoms

    try:
        count = int(first)
    except ValueError:
        raise DataError(f"{where}: expected the number of atoms, found {first.strip()[:40]!r}.") from None
    comment = next(lines, (0, ""))[1]
    cell, unit = _header(comment, where)
    symbols, places = [], []
    for _ in range(count):
        number, line = next(lines, (0, ""))
        words = line.split()
        if len(words) < 4:
            raise DataError(f"{where}: the frame ends before its {count} atoms; the file is cut off: leave the frame out.")
        symbols.append(words[0])
        places.append(numbers(" ".join(words[1:4]), 3, f"{where.rpartition(', line')[0]}, line {number}"))
    try:
        atoms = Atoms(symbols, cell=cell, pbc=True)
    except KeyError as error:
        raise DataError(f"{where}: {error.args[0]!r} is no element; a model needs the symbols of atoms.") from None
    atoms.positions = np.array(places).reshape(-1, 3) * unit
    return atoms


def _header(comment: str, where: str) -> tuple[list[float], float]:
    """Cell lengths in Å and angles in degrees, and the unit of positions in Å."""
    cell = _CELL.match(comment.strip())
    if cell is None or cell["kind"] != "abcABC":
        raise DataError(
            f"{where}: the cell in the comment {comment.strip()[:40]!r} is not of the kind CELL(abcABC) that is read; "
            "let i-PI write that kind, or convert the trajectory to extended XYZ."
        )
    quantities = {match["name"]: match["unit"] for match in _QUANTITY.finditer(comment)}
    others = sorted(quantities.keys() - {"cell", "positions"})
    if "positions" not in quantities:
        what = f"holds {', '.join(others)}" if others else "does not say what it holds, or in which units"
        raise DataError(f"{where}: {what}; give the file of positions{{...}}.")
    units = []
    for name in ("cell", "positions"):
        unit = quantities.get(name, quantities["positions"])
        if unit not in _LENGTHS:
            raise DataError(f"{where}: the unit {unit!r} of {name} is not known; known are {', '.join(_LENGTHS)}.")
        units.append(_LENGTHS[unit])
    values = numbers(cell["numbers"], 6, where)
    return [*(units[0] * length for length in values[:3]), *values[3:]], units[1]
