"""vasprun.xml of VASP: what ASE reads, with the Born effective charges checked.

They stand as ``<array name="born_charges">`` in the ``<calculation>`` whose structure they belong to: a set of three rows
for each ion, rows the direction of the polarization, columns that of the displacement. The dielectric tensor at clamped nuclei
is ``<varray name="epsilon">``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bec_mace.data.formats.outcar import ADVICE, warn_hartree_only, warn_not_converged
from bec_mace.data.formats.parsing import Lines, attach, attach_dielectric, check_count, numbers, read_lines
from bec_mace.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["ADVICE", "read", "recognises"]

_CHARGES, _DIELECTRIC = "born_charges", 'name="epsilon"'
_ARRAY = re.compile(r'<array name="born_charges"')
_SETS = re.compile(r"<set[^>]*>(.*?)</set>", re.DOTALL)
_ROWS = re.compile(r"<v>(.*?)</v>", re.DOTALL)
_SETTING = re.compile(r'<i [^>]*name="(\w+)"[^>]*>([^<]*)</i>')
_STEP_ENERGY = re.compile(r'<i name="e_fr_energy">([^<]*)</i>')
_ATOMS = re.compile(r"<atoms>\s*(\d+)\s*</atoms>")


def recognises(head: str) -> bool:
    """Whether a file that begins like this is a vasprun.xml."""
    return "<modeling>" in head and bool(re.search(r'name="program"[^>]*>\s*vasp', head))


def read(path: Path) -> Iterator[Atoms]:
    """Yield the structures of a vasprun.xml as ASE reads them, with Born effective charges where they belong.

    Raises:
        DataError: Tensors that are cut off, not numbers, of another number of ions, or outside any calculation.
    """
    import ase.io

    # ASE fills what is missing with zeros, so the tensors are read first.
    tensors_of = {(number, name): tensors for number, name, tensors in _scan(path)}
    hartree_only, unconverged = _circumstances(path)
    if hartree_only and tensors_of:
        warn_hartree_only(path)
        tensors_of.clear()
    for number, steps in unconverged:
        warn_not_converged(path, number, steps)
    for number, atoms in enumerate(ase.io.iread(path, index=":", format="vasp-xml", do_not_split_by_at_sign=True)):
        if hartree_only and atoms.calc is not None:  # ASE takes them whatever they are.
            for key in ("born_effective_charges", "dielectric_tensor"):
                atoms.calc.results.pop(key, None)
        if (number, _CHARGES) in tensors_of:
            attach(atoms, tensors_of[number, _CHARGES], f"{path}, frame {number}")
        if (number, _DIELECTRIC) in tensors_of:
            attach_dielectric(atoms, tensors_of[number, _DIELECTRIC])
        yield atoms


def _circumstances(path: Path) -> tuple[bool, list[tuple[int, int]]]:
    """Whether LRPA was set, and (number, electronic steps) of each calculation that stopped at NELM above EDIFF."""
    settings: dict[str, str] = {}
    unconverged: list[tuple[int, int]] = []
    energies: list[str] = []
    calculation, in_step = -1, False
    for _, line in read_lines(path):
        if "<calculation" in line:
            calculation, energies = calculation + 1, []
        in_step = in_step or "<scstep" in line
        if in_step:
            energies += _STEP_ENERGY.findall(line)
            in_step = "</scstep" not in line
        elif "<i " in line and calculation < 0:
            settings.update((name, value.strip()) for name, value in _SETTING.findall(line))
        if "</calculation>" in line and _stopped_early(energies, settings):
            unconverged.append((calculation, len(energies)))
    return settings.get("LRPA", "F").upper().startswith("T"), unconverged


def _stopped_early(energies: list[str], settings: dict[str, str]) -> bool:
    """Whether all steps allowed were made, and the last one still changed the energy by more than EDIFF."""
    try:
        most, tolerance = int(settings["NELM"]), float(settings["EDIFF"])
        changes = np.abs(np.diff([float(energy) for energy in energies]))
    except (KeyError, ValueError):
        return False  # Not said in this file, or not a number, which ASE reports where it matters.
    return 0 < most <= len(energies) and not (len(changes) > 0 and changes[-1] <= tolerance)


def _scan(path: Path) -> Iterator[tuple[int, str, np.ndarray]]:
    """Yield (number of the calculation, name, tensors) for each array of Born effective charges and dielectric tensor."""
    calculation, inside, n_atoms = -1, False, None
    lines = read_lines(path)
    for number, line in lines:
        if "<calculation" in line:
            calculation, inside = calculation + 1, True
        elif "</calculation>" in line:
            inside = False
        elif n_atoms is None and (match := _ATOMS.search(line)):
            n_atoms = int(match[1])
        elif _ARRAY.search(line):
            where = f"{path}, line {number}"
            if not inside:
                raise DataError(
                    f"{where}: Born effective charges outside a calculation, so of no structure for sure. "
                    "Compute them for one structure at a time (NSW = 0)."
                )
            text = _read_until("</array>", line, lines, where)
            charges = np.array([numbers(" ".join(_ROWS.findall(rows)), 9, where) for rows in _SETS.findall(text)])
            check_count(len(charges), n_atoms if n_atoms is not None else len(charges), where)
            yield calculation, _CHARGES, charges.reshape(-1, 3, 3)
        elif inside and _DIELECTRIC in line:
            where = f"{path}, line {number}"
            text = _read_until("</varray>", line, lines, where)
            yield calculation, _DIELECTRIC, np.array(numbers(" ".join(_ROWS.findall(text)), 9, where))


def _read_until(end: str, line: str, lines: Lines, where: str) -> str:
    """The text from a line to the end of its element."""
    text = line
    while end not in text:
        _, line = next(lines, (0, ""))
        if not line:
            raise DataError(
                f"{where}: the block of Born effective charges or of the dielectric tensor is cut off. "
                "Run the calculation again, or leave the file out."
            )
        text += line
    return text
