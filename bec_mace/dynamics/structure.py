"""Where a run starts: a structure from a file, a data set of the package, or the end of another run."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from bec_mace.data import Frame
from bec_mace.data.formats import FORMATS, find_format
from bec_mace.data.labels import TOTAL_CHARGE
from bec_mace.data.reading import expand, read_atoms
from bec_mace.dynamics.folder import STATE, read_state
from bec_mace.errors import DataError, DynamicsError

_INDEXED = re.compile(r"(?P<file>.+)@(?P<index>-?\d+)")


def read_structure(text: str, repeat: tuple[int, int, int] | list[int] = (1, 1, 1)) -> Atoms:
    """Read a structure, with its momenta where it has any.

    Args:
        text: ``FILE`` (its last structure), ``FILE@INDEX``, ``bec_mace:NAME@INDEX``, or the folder of another run, of
            which the last state is taken.
        repeat: Number of copies along each lattice vector.

    Returns:
        Atoms with numbers, positions, cell, masses and, where they are known, momenta and charge; nothing else.

    Raises:
        DataError: No such file, no such structure in it, or one that cannot be used.
        DynamicsError: The folder holds no run, the structure has constraints, or ``repeat`` does not fit its periodicity.
    """
    folder = Path(text) if Path(text).is_dir() else Path(os.path.expanduser(text))
    if folder.is_dir():
        atoms = read_state(folder / STATE).atoms()
    else:
        atoms = _read_file(text)
    copies = np.array(repeat)
    if (copies[~atoms.pbc] != 1).any():
        raise DynamicsError(
            f"{text}: repeat is {list(repeat)}, but the structure is periodic along "
            f"{atoms.pbc.astype(int).tolist()}; repeat it along periodic directions only"
        )
    repeated = atoms.repeat(tuple(int(number) for number in copies)) if (copies > 1).any() else atoms
    if TOTAL_CHARGE in atoms.info:
        repeated.info[TOTAL_CHARGE] = atoms.info[TOTAL_CHARGE] * len(repeated) / len(atoms)
    return repeated


def _read_file(text: str) -> Atoms:
    match = _INDEXED.fullmatch(text)
    name, index = (match["file"], int(match["index"])) if match and not Path(text).is_file() else (text, -1)
    paths = expand(name)
    if len(paths) > 1:
        raise DataError(f"{name}: stands for {len(paths)} files; name the one to start from")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks of ASE's parsers
            found = find_format(paths[0])
            read: Any
            # ASE would lose cell and units of the first, and take types of the second for atomic numbers.
            if found.output in (FORMATS["i-PI trajectory"], FORMATS["LAMMPS dump"]):
                read = list(read_atoms(found))[index]
            else:
                read = ase.io.read(paths[0], index=index, do_not_split_by_at_sign=True)
    except (IndexError, StopIteration):
        raise DataError(f"{text}: there is no structure {index} in this file; they are counted from 0") from None
    except Exception as error:  # ASE's readers raise whatever their parsing meets
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise DataError(f"{text}: ASE cannot read it ({reason}); check the file and its format") from error
    if read.constraints:
        kinds = ", ".join(sorted({type(constraint).__name__ for constraint in read.constraints}))
        raise DynamicsError(f"{text}: the structure has constraints ({kinds}), but all atoms move here; remove them")
    frame = Frame.from_atoms(read, properties=(), source=text)  # checks cell, positions and charge
    atoms = Atoms(numbers=read.numbers, positions=read.positions, cell=read.cell, pbc=read.pbc)
    if frame.total_charge:
        atoms.info[TOTAL_CHARGE] = frame.total_charge
    if read.has("masses"):
        atoms.set_masses(read.get_masses())
    if read.has("momenta"):
        atoms.set_momenta(read.get_momenta())
    return atoms
