"""OUTCAR of VASP: what ASE reads, and the Born effective charges of the ionic step that has them.

VASP ends each ionic step with a line ``LOOP+``. Between two of them stand the structure with its forces and then, with
LEPSILON or LCALCEPS, the response at these positions:

- per field direction, a list of positions and of one row of each tensor (LEPSILON);
- a summary, one tensor per ion, rows the direction of the polarization, columns that of the displacement.

In files of VASP 5.3 and 5.4 the two agree in every digit, so the list stands in for a summary that was never written,
and its positions prove to which structure the tensors belong.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bec_mace.data.formats.parsing import Lines, attach, attach_dielectric, numbers, read_lines
from bec_mace.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

logger = logging.getLogger(__name__)

ADVICE = "VASP writes Born effective charges with LEPSILON = .TRUE. or LCALCEPS = .TRUE., and LRPA = .FALSE."

_VERSION = re.compile(r"^ *vasp\.\d", re.MULTILINE)
_STRUCTURE = "FREE ENERGIE OF THE ION-ELECTRON SYSTEM"  # Where ASE ends a structure.
_STEP_END = "LOOP+"
_LISTING = re.compile(r"^\s*POSITION\s+DIRECTION\s+([123])\s+BORN EFFECTIVE CHARGE\s+\(rigid")
_SUMMARY = re.compile(r"^\s*BORN EFFECTIVE CHARGES \(")
# LEPSILON writes "in DFT", LCALCEPS does not. Tensors "in RPA" or "excluding" local fields lack a part of them.
_DIELECTRIC = re.compile(r"MACROSCOPIC STATIC DIELECTRIC TENSOR \(including local field effects(?: in DFT)?\)")
_HARTREE_ONLY = re.compile(r"^\s*LRPA\s*=\s*T\b")
_MOST_STEPS = re.compile(r"^\s*NELM\s*=\s*(\d+)\b")
_ELECTRONIC_STEP = re.compile(r"Iteration\s+\d+\(\s*(\d+)\)")
_CONVERGED = "aborting loop because EDIFF is reached"
_NOT_CONVERGED = "EDIFF was not reached"
_DIRECTIONS = (1, 2, 3)
# Positions are written to 5 decimals, in Å.
_SAME = 3e-5


@dataclass
class _Step:
    """What stands between two ends of ionic steps.

    Attributes:
        structures: Numbers of the structures, counted from 0 over the file.
        summaries: Tensors of shape (n_ions, 3, 3), by what their header says of local fields.
        listing: Positions and rows of shape (n_ions, 6), by direction of the field.
        dielectric: The dielectric tensor at clamped nuclei, of shape (3, 3).
        line: Where the last of the tensors began.
    """

    structures: list[int] = field(default_factory=list)
    summaries: dict[str, np.ndarray] = field(default_factory=dict)
    listing: dict[int, np.ndarray] = field(default_factory=dict)
    dielectric: np.ndarray | None = None
    line: int = 0

    def charges(self, hartree_only: bool) -> np.ndarray | None:
        """Z[ion, polarization, displacement] with all local fields, None where there is none.

        Args:
            hartree_only: The run had LRPA: what does not say that it includes local fields lacks a part of them.
        """
        if "including" in self.summaries:
            return self.summaries["including"]
        if hartree_only:
            return None
        if "" in self.summaries:
            return self.summaries[""]
        if set(self.listing) == set(_DIRECTIONS) and len({len(rows) for rows in self.listing.values()}) == 1:
            return np.stack([self.listing[direction][:, 3:] for direction in _DIRECTIONS], axis=1)
        return None


def recognises(head: str) -> bool:
    """Whether a file that begins like this is an OUTCAR."""
    return bool(_VERSION.search(head)) or head.startswith(" INCAR:") and "\n POTCAR:" in head


def read(path: Path) -> Iterator[Atoms]:
    """Yield the structures of an OUTCAR as ASE reads them, with Born effective charges where they belong.

    A dielectric tensor goes with the Born effective charges of its ionic step.

    Raises:
        DataError: Tensors that are cut off, not numbers, of another number of ions, or of no structure for sure.
    """
    import ase.io

    steps, hartree_only = _scan(path)
    if hartree_only and any(step.charges(False) is not None and step.charges(True) is None for step in steps):
        warn_hartree_only(path)
    with_charges = [(step, charges) for step in steps if (charges := step.charges(hartree_only)) is not None]
    if not with_charges:
        yield from ase.io.iread(path, index=":", format="vasp-out", do_not_split_by_at_sign=True)
        return
    images = list(ase.io.iread(path, index=":", format="vasp-out", do_not_split_by_at_sign=True))
    for step, charges in with_charges:
        where = f"{path}, line {step.line}"
        owner = images[_owner(step, images, where)]
        attach(owner, charges, where)
        if step.dielectric is not None:
            attach_dielectric(owner, step.dielectric)
    yield from images


def _scan(path: Path) -> tuple[list[_Step], bool]:
    """The ionic steps of a file, and whether LRPA was set."""
    steps = [_Step()]
    hartree_only = False
    loop = ElectronicLoop(path)
    structures = 0
    lines = read_lines(path)
    for number, line in lines:
        loop.follow(line)
        if _STRUCTURE in line:
            loop.end(structures)
            steps[-1].structures.append(structures)
            structures += 1
        elif _STEP_END in line:
            steps.append(_Step())
        elif "BORN" in line and _SUMMARY.match(line):
            kind = next((word for word in ("including", "excluding") if word in line), "")
            steps[-1].line = number
            steps[-1].summaries[kind] = _read_summary(lines, path, number)
        elif "DIRECTION" in line and (match := _LISTING.match(line)):
            steps[-1].line = number
            steps[-1].listing[int(match[1])] = _read_listing(lines, path, number)
        elif "MACROSCOPIC" in line and _DIELECTRIC.search(line):
            steps[-1].dielectric = _read_dielectric(lines, path, number)
        elif "LRPA" in line:
            hartree_only = hartree_only or bool(_HARTREE_ONLY.match(line))
    return steps, hartree_only


class ElectronicLoop:
    """Whether the electrons of a structure have converged, followed line by line through an OUTCAR.

    Args:
        path: The file, for messages.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._most, self._done, self._converged, self._failed = path, 0, 0, False, False

    def follow(self, line: str) -> None:
        """Take one line of the file."""
        if "Iteration" in line and (match := _ELECTRONIC_STEP.search(line)):
            self._done = int(match[1])
        elif "aborting loop" in line:
            self._converged, self._failed = _CONVERGED in line, _NOT_CONVERGED in line
        elif not self._most and "NELM" in line and (match := _MOST_STEPS.match(line)):
            self._most = int(match[1])

    def end(self, number: int) -> None:
        """Warn where the structure with this number has not converged; the next one begins."""
        if self._failed or not self._converged and 0 < self._most <= self._done:
            warn_not_converged(self._path, number, self._done)
        self._done, self._converged, self._failed = 0, False, False


def warn_not_converged(path: Path, number: int, steps: int) -> None:
    """Say that the electrons of a structure of VASP have not converged."""
    logger.warning(
        "%s, frame %d: the electrons have not converged in %d steps, so that its energy, forces and tensors may be wrong; "
        "compute it again with a larger NELM, or leave the frame out",
        path,
        number,
        steps,
    )


def warn_hartree_only(path: Path) -> None:
    """Say that a response of VASP is left out because it lacks exchange and correlation."""
    logger.warning(
        "%s: LRPA = .TRUE. leaves exchange and correlation out of the response; its Born effective charges and dielectric "
        "tensor are not taken; compute them with LRPA = .FALSE.",
        path,
    )


def _read_summary(lines: Lines, path: Path, start: int) -> np.ndarray:
    """The tensors below the header of a summary: for each ion its number, then three rows with theirs."""
    tensors: list[list[list[float]]] = []
    next(lines, None)
    for number, line in lines:
        words = line.split()
        if words[:1] != ["ion"]:
            break
        if words[1:] != [str(len(tensors) + 1)]:
            raise DataError(
                f"{path}, line {number}: expected ion {len(tensors) + 1}, found {line.strip()[:40]!r}. "
                "The file is damaged: leave it out."
            )
        rows = []
        for direction in _DIRECTIONS:
            number, line = next(lines, (number, ""))
            index, *values = numbers(line, 4, f"{path}, line {number}")
            if index != direction:
                raise DataError(
                    f"{path}, line {number}: expected row {direction} of ion {len(tensors) + 1}, found "
                    f"{line.strip()[:60]!r}. The file is damaged: leave it out."
                )
            rows.append(values)
        tensors.append(rows)
    if not tensors:
        raise DataError(
            f"{path}, line {start}: the block of Born effective charges is empty. "
            "The file is cut off or damaged: run the calculation again, or leave the file out."
        )
    return np.array(tensors)


def _read_listing(lines: Lines, path: Path, start: int) -> np.ndarray:
    """Positions and rows of the tensors below the header of a list, which two rules enclose."""
    rows: list[list[float]] = []
    next(lines, None)
    for number, line in lines:
        if line.strip().startswith("---"):
            return np.array(rows)
        rows.append(numbers(line.partition("(")[0], 6, f"{path}, line {number}"))
    raise DataError(
        f"{path}, line {start}: the list of Born effective charges is cut off. "
        "Run the calculation again, or leave the file out."
    )


def _read_dielectric(lines: Lines, path: Path, start: int) -> np.ndarray:
    """The three rows below the header of a dielectric tensor and a rule."""
    next(lines, None)
    rows = [next(lines, (start, "")) for _ in _DIRECTIONS]
    return np.array([numbers(line, 3, f"{path}, line {number}") for number, line in rows])


def _owner(step: _Step, images: Sequence[Atoms], where: str) -> int:
    """The number of the structure at which the tensors of a step were computed."""
    candidates = [index for index in step.structures if index < len(images)] or list(range(len(images)))
    for rows in step.listing.values():
        candidates = [index for index in candidates if _is_at(images[index], rows[:, :3])]
    if not candidates:
        raise DataError(
            f"{where}: no structure of this ionic step is at the positions of its Born effective charges. "
            "Compute them for one structure at a time (NSW = 0)."
        )
    last = images[candidates[-1]]
    if any(
        not _is_at(images[index], last.positions) or not np.allclose(images[index].cell, last.cell, atol=_SAME)
        for index in candidates
    ):
        raise DataError(
            f"{where}: these Born effective charges may belong to any of {len(candidates)} structures. "
            "Compute them for one structure at a time (NSW = 0)."
        )
    return candidates[-1]


def _is_at(atoms: Atoms, positions: np.ndarray) -> bool:
    """Whether atoms are at some positions, up to lattice vectors."""
    if len(atoms) != len(positions):
        return False
    shifts = np.linalg.solve(atoms.cell.array.T, (positions - atoms.positions).T).T
    return bool(np.abs((shifts - np.round(shifts)) @ atoms.cell.array).max() < _SAME)
