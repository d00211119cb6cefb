"""The text output of Abinit (.abo): one structure, its Born effective charges and its dielectric tensor.

The blocks ``Effective charges, in cartesian coordinates`` list ``dir pert dir pert value``: where the electric field is the
first of the two perturbations, they are the response to displacements, else that to the field. Field directions are the
polarization in both. Their mean is taken where both are there. The structure is that of the data set of the block, as echoed
behind the calculation; lengths have 10 decimals.

Outputs without such blocks are read as ASE reads them, with energy and forces.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bec_mace.data.formats.abinit import mean_of_both, structure_of
from bec_mace.data.formats.parsing import attach, attach_dielectric, numbers, read_lines
from bec_mace.errors import DataError
from bec_mace.units import BOHR

if TYPE_CHECKING:
    from ase import Atoms

logger = logging.getLogger(__name__)

ADVICE = "Abinit gives Born effective charges with rfelfd = 3 and rfphon = 1 in one data set (mergeable DDB files otherwise)."

_DATASET = re.compile(r"^== DATASET\s+(\d+) =")
_HEADER = re.compile(r"^\s*(Effective charges|Dielectric tensor), in cartesian coordinates")
_ENTRY = re.compile(r"^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+\S+\s*$")
_ECHO = "-outvars: echo values of variables after computation"
_VARIABLE = re.compile(r"^[-P ]?\s*([a-z_]+)([?\d+]+)?\s+(?=[-+\d.])(.*)", re.IGNORECASE)
_VECTOR = re.compile(r"^\s*R\(([123])\)=((?:\s*[-+]?\d+\.\d+){3})")
_OF_STRUCTURE = ("natom", "acell", "rprim", "typat", "xred", "znucl")
_LIKE = 2e-6
"""Bohr; how far the lattice vectors of the echo may be from those that the data set prints, with 7 decimals."""


Entries = dict[tuple[int, int, int, int], float]
"""Values by (direction, perturbation) twice."""


@dataclass
class _Block:
    """One table of an output.

    Attributes:
        dataset: Which data set it is of.
        where: File and line of its header.
        entries: What it lists.
    """

    dataset: int
    where: str
    entries: Entries = field(default_factory=dict)


@dataclass
class _Found:
    """What an output holds.

    Attributes:
        charges: Tables of Born effective charges.
        dielectric: Tables of the dielectric tensor.
        rows: Lattice vectors by data set and number, in bohr.
        echo: Variables of the structure behind the calculation, by name with the number of the data set.
    """

    charges: list[_Block] = field(default_factory=list)
    dielectric: list[_Block] = field(default_factory=list)
    rows: dict[int, dict[int, list[float]]] = field(default_factory=dict)
    echo: dict[str, list[float]] = field(default_factory=dict)


def recognises(head: str) -> bool:
    """Whether a file that begins like this is a text output of Abinit."""
    return bool(re.search(r"^\.Version\s+\S+\s+of ABINIT", head, re.MULTILINE))


def read(path: Path) -> Iterator[Atoms]:
    """Yield the structure of an output with Born effective charges, or what ASE finds in one without.

    Raises:
        DataError: An output that is cut off, several data sets with charges, or charges of some atoms alone.
    """
    found = _scan(path)
    blocks = [*found.charges, *found.dielectric]
    if not blocks:
        import ase.io

        yield from ase.io.iread(str(path), index=":", format="abinit-out", do_not_split_by_at_sign=True)
        return
    dataset = blocks[0].dataset
    if other := next((block for block in found.charges if block.dataset != dataset), None):
        raise DataError(f"{other.where}: a second data set with Born effective charges; use the DDB files of the two.")
    atoms = structure_of(_variables(found.echo, dataset, path), str(path))
    printed = np.array([found.rows.get(dataset, {}).get(axis, [np.nan] * 3) for axis in (1, 2, 3)])
    if not np.abs(printed - atoms.cell.array / BOHR).max() < _LIKE:
        raise DataError(
            f"{path}: the lattice vectors R(1) to R(3) of data set {dataset} are not those of acell and rprim behind the "
            "calculation; use its DDB file instead."
        )
    if found.charges:
        _attach_charges(atoms, found.charges, path)
    for block in found.dielectric:
        if block.dataset == dataset:
            keys = [(a, len(atoms) + 2, b, len(atoms) + 2) for a in (1, 2, 3) for b in (1, 2, 3)]
            attach_dielectric(atoms, _values(block, keys))
    yield atoms


def _attach_charges(atoms: Atoms, blocks: list[_Block], path: Path) -> None:
    axes, outer = (1, 2, 3), len(atoms) + 2
    sides = {}
    for block in blocks:
        field_first = any(key[1] == outer for key in block.entries)
        keys = [
            (a, outer, b, atom) if field_first else (b, atom, a, outer)
            for atom in range(1, len(atoms) + 1)
            for a in axes
            for b in axes
        ]
        sides[field_first] = _values(block, keys).reshape(-1, 3, 3)
    attach(atoms, mean_of_both(list(sides.values()), path), blocks[0].where)
    if np.abs(atoms.arrays["REF_becs"].sum(axis=0)).max() < 1e-8 * len(atoms):
        logger.warning(
            "%s: Born effective charges sum to zero in all digits: Abinit has imposed charge neutrality (chneut); the DDB "
            "file has the raw ones",
            path,
        )


def _values(block: _Block, keys: list[tuple[int, int, int, int]]) -> np.ndarray:
    missing = [key for key in keys if key not in block.entries]
    if missing or len(block.entries) != len(keys):
        what = " ".join(map(str, (missing or [key for key in block.entries if key not in keys])[0]))
        raise DataError(
            f"{block.where}: the entry {what} is {'missing' if missing else 'of no atom'}. Compute all atoms "
            "and directions (rfatpol, rfdir), use the DDB file, or leave a file out that is cut off."
        )
    return np.array([block.entries[key] for key in keys])


def _scan(path: Path) -> _Found:
    found, dataset, echoing, name = _Found(), 1, False, ""
    block: _Block | None = None
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        entry = _ENTRY.match(line)
        if entry and block:
            first, second, third, fourth = (int(entry[place]) for place in (1, 2, 3, 4))
            block.entries[first, second, third, fourth] = numbers(entry[5], 1, where)[0]
        elif match := _HEADER.match(line):
            block = _Block(dataset, where)
            (found.charges if match[1] == "Effective charges" else found.dielectric).append(block)
        elif block and block.entries and line.strip():
            block = None
        if match := _DATASET.match(line):
            dataset = int(match[1])
        elif match := _VECTOR.match(line):
            found.rows.setdefault(dataset, {})[int(match[1])] = numbers(match[2], 3, where)
        elif _ECHO in line:
            echoing = True
        elif echoing:
            name = _note(found.echo, line, name, where)
    return found


def _note(echo: dict[str, list[float]], line: str, name: str, where: str) -> str:
    """Add a line of the echo to the variables; give the name that the next line may go on with."""
    if match := _VARIABLE.match(line):
        name, rest = match[1] + (match[2] or ""), match[3]
    elif re.match(r"^\s+[-+]?[\d.]", line):
        rest = line
    else:
        return ""
    if name.rstrip("0123456789?+") in _OF_STRUCTURE:
        words = [word for word in rest.split() if word != "Bohr"]
        echo.setdefault(name, []).extend(numbers(" ".join(words), len(words), where))
    return name


def _variables(echo: dict[str, list[float]], dataset: int, path: Path) -> dict[str, list[float]]:
    """The variables of the structure for one data set. What Abinit does not print has its default value."""
    if not echo:
        raise DataError(
            f"{path}: ends before Abinit repeats its variables; the run was cut off: use its DDB file, or leave the output out."
        )
    defaults = {"natom": [1.0], "acell": [1.0] * 3, "rprim": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]}
    values: dict[str, list[float]] = {}
    for name in _OF_STRUCTURE:
        value = echo.get(f"{name}{dataset}", echo.get(name, defaults.get(name)))
        others = [key for key in echo if key.startswith(name) and key != name]
        if value is None and name == "xred" and values["natom"] == [1.0] and not others:
            value = [0.0] * 3
        if value is None or any(mark in key for key in others for mark in "?+"):
            raise DataError(
                f"{path}: the {name} of data set {dataset} is not among the variables behind the calculation "
                f"({', '.join(others[:3]) or 'none'}); use its DDB file."
            )
        values[name] = value
    return values
