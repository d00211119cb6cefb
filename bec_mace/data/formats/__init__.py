"""Raw outputs of first-principles programs: structures with the Born effective charges and dielectric tensors ASE leaves out.

A file is recognised by its beginning, not by its name. The order of the two indices is fixed in each of these formats, so
labels always come as Z[polarization, displacement].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bec_mace.data.formats import abinit, abinit_output, cp2k, cp2k_tensors, espresso, ipi, lammps, outcar, phonopy, vasprun
from bec_mace.data.formats.parsing import read_head
from bec_mace.data.formats.xyz import is_extxyz

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class OutputFormat:
    """How to read one kind of output.

    Attributes:
        recognises: Whether the first few kB of a file are of this kind.
        read: Yields the structures of a file, with Born effective charges under ``"REF_becs"`` where the file has them.
        advice: How the program is made to write them; empty where they are always there.
    """

    recognises: Callable[[str], bool]
    read: Callable[[Path], Iterator[Atoms]]
    advice: str = ""


FORMATS = {
    "VASP OUTCAR": OutputFormat(outcar.recognises, outcar.read, outcar.ADVICE),
    "vasprun.xml": OutputFormat(vasprun.recognises, vasprun.read, vasprun.ADVICE),
    "ph.x output": OutputFormat(espresso.recognises, espresso.read, espresso.ADVICE),
    "phonopy BORN": OutputFormat(phonopy.recognises, phonopy.read),
    "Abinit DDB": OutputFormat(abinit.recognises, abinit.read),
    "Abinit output": OutputFormat(abinit_output.recognises, abinit_output.read, abinit_output.ADVICE),
    "CP2K output": OutputFormat(cp2k.recognises, cp2k.read, cp2k.ADVICE),
    "CP2K polar tensors": OutputFormat(cp2k_tensors.recognises, cp2k_tensors.read),
    "i-PI trajectory": OutputFormat(ipi.recognises, ipi.read),
    "LAMMPS dump": OutputFormat(lammps.recognises, lammps.read),
}
"""Every kind of output that is read here, by name."""


@dataclass(frozen=True)
class FoundFormat:
    """What a file is, found once and handed on.

    Attributes:
        path: The file.
        output: Its kind, where it is a raw output.
        is_extxyz: Whether it is extended XYZ; ASE reads what is neither.
    """

    path: Path
    output: OutputFormat | None
    is_extxyz: bool


def find_format(path: Path) -> FoundFormat:
    """Look what a file is; it is opened for this once."""
    head = read_head(path)
    output = _kind_of(head)
    return FoundFormat(path, output, output is None and is_extxyz(path, head))


def recognise(path: Path) -> OutputFormat | None:
    """The kind of output that a file is, None when it is something else. Reads only the first few kB."""
    return _kind_of(read_head(path))


def _kind_of(head: str) -> OutputFormat | None:
    return next((kind for kind in FORMATS.values() if kind.recognises(head)), None)


def advice(paths: Iterable[Path]) -> str:
    """How the programs behind some files are made to write Born effective charges; empty without such files."""
    kinds = [kind for path in paths if (kind := recognise(path)) is not None]
    return " ".join(dict.fromkeys(kind.advice for kind in kinds if kind.advice))
