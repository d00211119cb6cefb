"""BORN files of phonopy, with the structure beside them.

Below a first line of anything stand the dielectric tensor and the Born effective charges, 9 numbers each, row-major with the
polarization first. Where only atoms that no symmetry relates are listed, those of the others follow from the space group.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bec_mace.data.formats.parsing import attach, attach_dielectric, numbers, read_lines
from bec_mace.data.formats.site_symmetry import expand
from bec_mace.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

_STRUCTURES = ("POSCAR-unitcell", "POSCAR")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|\*+|nan|[+-]?inf", re.IGNORECASE)
_LISTED = re.compile(r"^# epsilon and Z\* of atoms((?: +\d+)+)\s*$")


def recognises(head: str) -> bool:
    """Whether a file that begins like this is a BORN file."""
    # The last line of a head may be cut.
    lines = head.rstrip("\n").split("\n")[1:4]
    return len(lines) >= 2 and all(
        len(line.split()) == 9 and all(_NUMBER.fullmatch(word) for word in line.split()) for line in lines[:2]
    )


def read(path: Path) -> Iterator[Atoms]:
    """Yield the structure beside a BORN file, with its Born effective charges and dielectric tensor.

    Raises:
        DataError: No structure beside it, atoms that are not those of the structure, or values that are not numbers.
    """
    import ase.io

    content = [(number, line) for number, line in read_lines(path) if line.strip()]
    charges = np.array([numbers(line, 9, f"{path}, line {number}") for number, line in content[2:]]).reshape(-1, 3, 3)
    structure = next((path.with_name(name) for name in _STRUCTURES if path.with_name(name).is_file()), None)
    if structure is None:
        raise DataError(f"{path}: a BORN file of phonopy needs its structure beside it, as {' or '.join(_STRUCTURES)}.")
    atoms = next(ase.io.iread(structure, format="vasp", do_not_split_by_at_sign=True))
    listed = _LISTED.match(content[0][1])
    atoms_listed = [int(word) for word in listed[1].split()] if listed else None
    if len(charges) != len(atoms) or atoms_listed not in (None, list(range(1, len(atoms) + 1))):
        charges = expand(atoms, charges, atoms_listed, str(path))
    attach(atoms, charges, str(path))
    attach_dielectric(atoms, np.array(numbers(content[1][1], 9, f"{path}, line {content[1][0]}")))
    yield atoms
