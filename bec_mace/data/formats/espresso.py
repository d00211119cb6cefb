"""Output of ph.x of Quantum ESPRESSO: one structure, its Born effective charges and its dielectric tensor.

The tensors come as derivatives of the forces, ``(d Force / dE)``, rows ``Ex``, ``Ey``, ``Ez`` the direction of the field, or
of the polarization, ``(d P / du)``, rows ``Px``, ``Py``, ``Pz`` its direction; columns are the displacement in both. The last
block is taken; where a file has both kinds, the last of the other is kept under the key ``becs_of_the_other_derivative`` and a
remark says so. Blocks to which ph.x has applied the acoustic sum rule are left aside: labels are the raw numbers.

Lengths have the few digits that ph.x writes: 4 or more of the lattice vectors and 5 or more of the positions, in units of the
lattice parameter.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bec_mace.data.formats.parsing import Lines, attach, attach_dielectric, check_count, numbers, read_lines
from bec_mace.errors import DataError
from bec_mace.units import BOHR

if TYPE_CHECKING:
    from ase import Atoms

logger = logging.getLogger(__name__)

ADVICE = "ph.x writes Born effective charges at q = 0 with epsil = .true. or zue = .true."

_ALAT = re.compile(r"lattice parameter \((?:alat|a_0)\)\s*=\s*(\S+)\s+a\.u\.")
_CELLDM = re.compile(r"celldm\s*\(1\)=\s*(\S+)")
_VOLUME = re.compile(r"unit-cell volume\s*=\s*(\S+)\s+\(a\.u\.\)\^3")
_N_ATOMS = re.compile(r"number of atoms/cell\s*=\s*(\d+)")
_AXIS = re.compile(r"^\s*a\(([123])\)\s*=\s*\(([^)]*)\)")
_SITE = re.compile(r"^\s*(\d+)\s+(\S+)\s+\S+\s+tau\(\s*\d+\)\s*=\s*\(([^)]*)\)")
_BLOCK = re.compile(r"Effective charges \(d (Force / dE|P / du)\) in cartesian axis(.*)")
OTHER_KEY = "becs_of_the_other_derivative"
"""Where the other derivative stands in files that have both."""
_DIELECTRIC = "Dielectric constant in cartesian axis"
_DIELECTRIC_ROW = re.compile(r"^\s*\(([^)]*)\)")
# Since 7.3 the block (d P / du) has no blank between number and type.
_ATOM = re.compile(r"^\s*atom\s*(\d+)\s*([^\s\d]\S*)")
_ROW = re.compile(r"^\s*[EP]([xyz])\s*\(([^)]*)\)")
_ELEMENT = re.compile(r"[A-Za-z]+")
# The volume from lattice vectors of 4 decimals, next to the one that ph.x writes.
_VOLUME_ERROR = 2e-3


@dataclass
class _Run:
    """What a file says; lengths in bohr or lattice parameters, as written.

    Attributes:
        scalars: Lattice parameter, volume and number of atoms, by name.
        axes: Lattice vectors by number.
        labels: Types of the atoms.
        positions: Of the atoms, in lattice parameters.
        blocks: The last raw block of tensors of each kind, the last of all at the end.
        dielectric: The last dielectric tensor, of shape (3, 3).
        corrected: Whether there is a block with the acoustic sum rule applied.
        line: Where the block began.
    """

    scalars: dict[str, float] = field(default_factory=dict)
    axes: dict[int, list[float]] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    positions: list[list[float]] = field(default_factory=list)
    blocks: dict[str, np.ndarray] = field(default_factory=dict)
    dielectric: np.ndarray | None = None
    corrected: bool = False
    line: int = 0


def recognises(head: str) -> bool:
    """Whether a file that begins like this is an output of ph.x."""
    return "Program PHONON v" in head


def read(path: Path) -> Iterator[Atoms]:
    """Yield the structure of an output of ph.x, with its Born effective charges and dielectric tensor if it has them.

    Raises:
        DataError: A structure that is not complete or not the same all through the file, or tensors that are cut off, not
            numbers, of another number of atoms, or there only with the acoustic sum rule applied.
    """
    run = _scan(path)
    atoms = _structure(run, path)
    if run.blocks:
        *others, taken = run.blocks
        attach(atoms, run.blocks[taken], f"{path}, line {run.line}")
        if others:
            _keep_other(atoms, run.blocks[taken], run.blocks[others[0]], path, taken, others[0])
    elif run.corrected:
        raise DataError(
            f"{path}: Born effective charges only with the acoustic sum rule applied. "
            "Give the whole output of ph.x, which has the raw ones too."
        )
    if run.dielectric is not None:
        attach_dielectric(atoms, run.dielectric)
    yield atoms


def _keep_other(atoms: Atoms, taken: np.ndarray, other: np.ndarray, path: Path, name: str, other_name: str) -> None:
    check_count(len(other), len(atoms), str(path))
    atoms.set_array(OTHER_KEY, other.reshape(len(atoms), 9))
    logger.warning(
        "%s: has Born effective charges as (d %s) and as (d %s), which differ by up to %.4f e; (d %s) is taken, "
        "keys: {born_effective_charges: %s} takes the other",
        path,
        name,
        other_name,
        float(np.abs(taken - other).max()),
        name,
        OTHER_KEY,
    )


def _scan(path: Path) -> _Run:
    run = _Run()
    lines = read_lines(path)
    for number, line in lines:
        where = f"{path}, line {number}"
        if match := _BLOCK.search(line):
            if "asr" in match[2] and "without" not in match[2]:
                run.corrected = True
                continue
            run.line = number
            run.blocks.pop(match[1], None)
            run.blocks[match[1]] = _read_block(lines, path, run)
        elif _DIELECTRIC in line:
            run.dielectric = _read_dielectric(lines, path, number)
        elif match := _SITE.match(line):
            _add_site(run, int(match[1]), match[2], numbers(match[3], 3, where), where)
        elif match := _AXIS.match(line):
            run.axes[int(match[1])] = numbers(match[2], 3, where)
        else:
            for name, pattern in (("alat", _ALAT), ("celldm", _CELLDM), ("volume", _VOLUME), ("atoms", _N_ATOMS)):
                if match := pattern.search(line):
                    (run.scalars[name],) = numbers(match[1], 1, where)
    return run


def _add_site(run: _Run, index: int, label: str, position: list[float], where: str) -> None:
    """Add a site; a file that shows the structure for each q must show the same."""
    if index == len(run.labels) + 1:
        run.labels.append(label)
        run.positions.append(position)
    elif index > len(run.labels) or run.labels[index - 1] != label or run.positions[index - 1] != position:
        raise DataError(f"{where}: this site is not as before. Give one file for each structure.")


def _read_block(lines: Lines, path: Path, run: _Run) -> np.ndarray:
    """The tensors below a header: for each atom a line with its number and type, then three rows."""
    tensors: list[list[list[float]]] = []
    for number, line in lines:
        match = _ATOM.match(line)
        if match is None:
            if tensors or line.strip():
                break
            continue
        index = len(tensors)
        if int(match[1]) != index + 1 or index < len(run.labels) and match[2] != run.labels[index]:
            expected = " ".join([str(index + 1), *run.labels[index : index + 1]])
            raise DataError(
                f"{path}, line {number}: expected atom {expected}, found {line.strip()[:40]!r}. "
                "The file is damaged: leave it out."
            )
        rows = []
        for axis in "xyz":
            number, line = next(lines, (number, ""))
            row = _ROW.match(line)
            if row is None or row[1] != axis:
                raise DataError(
                    f"{path}, line {number}: row {axis} of atom {index + 1} is missing. "
                    "The file is cut off or damaged: run the calculation again, or leave the file out."
                )
            rows.append(numbers(row[2], 3, f"{path}, line {number}"))
        tensors.append(rows)
    return np.array(tensors).reshape(-1, 3, 3)


def _read_dielectric(lines: Lines, path: Path, start: int) -> np.ndarray:
    """The three rows in parentheses below a header and an empty line."""
    next(lines, None)
    rows = []
    for _ in "xyz":
        number, line = next(lines, (start, ""))
        match = _DIELECTRIC_ROW.match(line)
        rows.append(numbers(match[1] if match else line, 3, f"{path}, line {number}"))
    return np.array(rows)


def _structure(run: _Run, path: Path) -> Atoms:
    from ase import Atoms

    missing = [
        name
        for name, present in (
            ("lattice parameter", "alat" in run.scalars),
            ("crystal axes", len(run.axes) == 3),
            ("sites", run.labels and len(run.labels) == run.scalars.get("atoms")),
        )
        if not present
    ]
    if missing:
        raise DataError(
            f"{path}: no complete {' and '.join(missing)} in this output of ph.x. It is cut off or damaged: "
            "run the calculation again, or leave the file out."
        )
    alat = run.scalars["alat"]
    # celldm has a digit more. It is another length where it is not the lattice parameter.
    celldm = run.scalars.get("celldm", alat)
    length = celldm if abs(celldm - alat) < 1e-3 else alat
    cell = np.array([run.axes[axis] for axis in (1, 2, 3)]) * length
    volume = run.scalars.get("volume")
    if volume is not None and abs(abs(np.linalg.det(cell)) - volume) > _VOLUME_ERROR * volume:
        raise DataError(
            f"{path}: the lattice vectors enclose {abs(np.linalg.det(cell)):.4f} bohr^3, but the volume is given "
            f"as {volume:.4f}. The file is damaged: leave it out."
        )
    species = [_atomic_number(label, path) for label in run.labels]
    return Atoms(numbers=species, positions=np.array(run.positions) * length * BOHR, cell=cell * BOHR, pbc=True)


def _atomic_number(label: str, path: Path) -> int:
    """The element of a type of atoms: ``Fe1``, ``Fe_up`` and ``FE`` are iron, ``Ox`` is oxygen."""
    from ase.data import atomic_numbers

    match = _ELEMENT.match(label)
    letters = match[0].capitalize() if match else ""
    for symbol in (letters[:2], letters[:1]):
        if symbol and symbol in atomic_numbers and symbol != "X":
            return int(atomic_numbers[symbol])
    raise DataError(f"{path}: the type of atoms {label!r} begins with no element. Rename it in the input of pw.x.")
