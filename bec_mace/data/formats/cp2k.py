"""The output of CP2K for one structure: energy, forces, and atomic polar tensors where they are printed into it.

Cell vectors have the 3 decimals of older versions or the 6 of newer ones, positions 6. An output of several steps is refused:
its trajectory files hold them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bec_mace.data.formats.parsing import attach, check_count, numbers, read_lines
from bec_mace.data.formats.polar_tensors import TensorTable, starts_table, to_charges
from bec_mace.errors import DataError
from bec_mace.units import BOHR, HARTREE

if TYPE_CHECKING:
    from ase import Atoms

ADVICE = (
    "CP2K writes atomic polar tensors with PROPERTIES / LINRES / DCDR, into a file of their own; have the structure beside it."
)

_VECTOR = re.compile(r"^\s*CELL\| Vector ([abc]) \[angstrom\]:?((?:\s+[-+]?\d+\.\d+){3})")
_PERIODIC = re.compile(r"^\s*(CELL|POISSON)\|\s+Periodicity\s+(\w+)\s*$")
_COORDINATES = re.compile(r"^\s*MODULE QUICKSTEP:\s+ATOMIC COORDINATES IN (\w+)", re.IGNORECASE)
_SITE = re.compile(r"^\s*(\d+)\s+\d+\s+([A-Z][a-z]?)\s*(\d+)((?:\s+[-+]?\d+\.\d+){3})\s")
_ENERGY = re.compile(r"^\s*ENERGY\| Total FORCE_EVAL .*energy\s+[\[(](?:a\.u\.|hartree)[\])]:?\s+(\S+)")
_FORCES = re.compile(r"^\s*(ATOMIC FORCES in \[a\.u\.\]|FORCES\| Atomic forces \[hartree/bohr\])")
_FORCE = re.compile(r"^\s*(?:FORCES\|)?\s*(\d+)(?:\s+\d+\s+[A-Z][a-z]?\w*)?((?:\s+[-+]?\d+\.\d+(?:[Ee][-+]?\d+)?){3})")
_UNCONVERGED = "SCF run NOT converged"


@dataclass
class _Run:
    """What an output says; lengths in Å, energy in hartree, forces in hartree per bohr.

    Attributes:
        cell: Lattice vectors by letter.
        periodic: Periodic directions, by which part of CP2K names them.
        elements: Of the atoms.
        positions: Of the atoms.
        energy: Each that is printed.
        forces: Each table.
        tensors: The tables of polar tensors.
    """

    cell: dict[str, list[float]] = field(default_factory=dict)
    periodic: dict[str, str] = field(default_factory=dict)
    elements: list[int] = field(default_factory=list)
    positions: list[list[float]] = field(default_factory=list)
    energy: list[float] = field(default_factory=list)
    forces: list[list[list[float]]] = field(default_factory=list)
    tensors: list[TensorTable] = field(default_factory=list)


def recognises(head: str) -> bool:
    """Whether a file that begins like this is an output of CP2K."""
    return "CP2K| version string" in head


def read(path: Path) -> Iterator[Atoms]:
    """Yield the structure of an output, with energy, forces and Born effective charges where it has them.

    Raises:
        DataError: A structure that is not complete, several steps, electrons that have not converged, or a table cut off.
    """
    from ase.calculators.singlepoint import SinglePointCalculator

    run = _scan(path)
    atoms = _structure(run, path)
    results: dict[str, object] = {}
    if len(run.energy) > 1 or len(run.forces) > 1:
        raise DataError(
            f"{path}: {max(len(run.energy), len(run.forces))} energies or tables of forces; give one output for each, "
            "or the trajectory files of the run."
        )
    if run.energy:
        results["energy"] = run.energy[0] * HARTREE
    if run.forces:
        check_count(len(run.forces[0]), len(atoms), str(path), "forces")
        results["forces"] = np.array(run.forces[0]) * HARTREE / BOHR
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    if len(run.tensors) > 1:
        raise DataError(f"{path}: {len(run.tensors)} tables of polar tensors; give one output for each structure.")
    if run.tensors:
        attach(atoms, to_charges(run.tensors[0]), run.tensors[0].where)
    yield atoms


def _scan(path: Path) -> _Run:
    run, table = _Run(), ""
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        if _UNCONVERGED in line:
            raise DataError(f"{where}: {_UNCONVERGED}; run the calculation again, or leave the file out.")
        if found := starts_table(line, where):
            run.tensors.append(found)
        elif run.tensors and run.tensors[-1].take(line, where):
            continue
        elif match := _VECTOR.match(line):
            run.cell[match[1]] = numbers(match[2], 3, where)
        elif match := _PERIODIC.match(line):
            run.periodic[match[1]] = match[2].upper()
        elif match := _COORDINATES.match(line):
            if match[1].lower() != "angstrom" or run.elements:
                what = "a second structure" if run.elements else f"coordinates in {match[1]}"
                raise DataError(f"{where}: {what}; give an output of one structure, with coordinates in angstrom.")
            table = "sites"
        elif table == "sites" and (match := _SITE.match(line)):
            run.elements.append(int(match[3]))
            run.positions.append(numbers(match[4], 3, where))
        elif match := _ENERGY.match(line):
            run.energy += numbers(match[1], 1, where)
        elif _FORCES.match(line):
            table = "forces"
            run.forces.append([])
        elif table == "forces" and (match := _FORCE.match(line)):
            run.forces[-1].append(numbers(match[2], 3, where))
        elif table and line.strip() and not re.match(r"^\s*(#|Atom|FORCES\|\s*(#|Atom))", line):
            table = ""
    return run


def _structure(run: _Run, path: Path) -> Atoms:
    from ase import Atoms

    if len(run.cell) != 3 or not run.elements:
        missing = " and ".join(
            name for name, there in (("cell", len(run.cell) == 3), ("coordinates", bool(run.elements))) if not there
        )
        raise DataError(
            f"{path}: no complete {missing} in this output of CP2K; let it print at PRINT_LEVEL MEDIUM, or leave out a file "
            "that is cut off."
        )
    if len(set(run.periodic.values())) != 1:
        said = ", ".join(f"{part} {value}" for part, value in run.periodic.items()) or "nothing"
        raise DataError(
            f"{path}: which directions are periodic is not clear from this output of CP2K ({said}); give the structure as "
            "extended XYZ with pbc, or print at PRINT_LEVEL MEDIUM."
        )
    letters = next(iter(run.periodic.values()))
    pbc = [letter in letters and letters != "NONE" for letter in "XYZ"]
    return Atoms(
        numbers=run.elements, positions=np.array(run.positions), cell=np.array([run.cell[name] for name in "abc"]), pbc=pbc
    )
