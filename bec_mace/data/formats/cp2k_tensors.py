"""Files of atomic polar tensors of CP2K, with the structure beside them.

The structure is looked for as ``NAME.extxyz``, ``NAME.out`` or ``NAME.log`` (an output of CP2K), where NAME is that of the
file, or what stands before ``-apt`` or ``-dcdr`` in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bec_mace.data.formats import cp2k
from bec_mace.data.formats.parsing import attach, read_lines
from bec_mace.data.formats.polar_tensors import all_tables, is_table, to_charges
from bec_mace.data.formats.xyz import parse_text, read_texts
from bec_mace.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

_PROJECT = re.compile(r"^(.+?)-(?:apt|dcdr)\b.*$", re.IGNORECASE)
_BESIDE = (".extxyz", ".out", ".log")


def recognises(head: str) -> bool:
    """Whether a file that begins like this holds polar tensors of CP2K."""
    return is_table(head)


def read(path: Path) -> Iterator[Atoms]:
    """Yield the structures beside a file of polar tensors, one for each table.

    Raises:
        DataError: No structure beside it, another number of tables than structures, or a table that is cut off.
    """
    tables = list(all_tables(read_lines(path), path))
    structures, beside = _structures(path)
    if len(tables) != len(structures):
        raise DataError(
            f"{path}: {len(tables)} tables of polar tensors, but {beside} beside it has {len(structures)} structures; CP2K "
            "appends to a file that is there: leave in what belongs together."
        )
    for table, atoms in zip(tables, structures, strict=True):
        attach(atoms, to_charges(table), table.where)
        if table.symbols and table.symbols != atoms.get_chemical_symbols():
            raise DataError(f"{table.where}: the elements are not those of {beside} in their order; give the right structure.")
        yield atoms


def _structures(path: Path) -> tuple[list[Atoms], str]:
    plain = path.name.removesuffix(path.suffix)
    project = _PROJECT.match(path.name)
    names = [plain, *([project[1]] if project else [])]
    candidates = [path.with_name(name + ending) for name in dict.fromkeys(names) for ending in _BESIDE]
    beside = next((other for other in candidates if other.is_file() and other != path), None)
    if beside is None:
        raise DataError(
            f"{path}: polar tensors of CP2K need their structure beside them, as one of "
            f"{', '.join(one.name for one in candidates)}."
        )
    return list(_read_beside(beside)), beside.name


def _read_beside(path: Path) -> Iterator[Atoms]:
    if path.suffix == ".extxyz":
        for number, (text, _) in enumerate(read_texts(path)):
            yield parse_text(text, f"{path}, frame {number}")
    else:
        yield from cp2k.read(path)
