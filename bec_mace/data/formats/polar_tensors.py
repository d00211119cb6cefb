"""Tables of atomic polar tensors of CP2K, from the section DCDR: linear response, or finite differences of forces in a field.

Linear response (``APT | Atom``) has the displacement as rows and the polarization as columns; finite differences (number,
element, mean, three rows) have the field, which is the polarization, as rows and the force as columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bec_mace.data.formats.parsing import Lines, numbers
from bec_mace.errors import DataError

_RESPONSE = re.compile(r"^\s*APT \| Write the final apt matrix per atom(?! per)(.*)")
_OF_ATOM = re.compile(r"^\s*APT \| Atom\s*(\d+)\s+- GAPT\s")
_ROW = re.compile(r"^\s*APT \|((?:\s*[-+]?\d+\.\d+){3})\s*$")
_NUMBERED = re.compile(r"^\s*(\d+)\s*([A-Z][a-z]?)\s+(-?\d+\.\d{10})\s*$")
_PLAIN = re.compile(r"^((?:\s*-?\d+\.\d{10}){3})\s*$")
_END = re.compile(r"^\s*(APT \| (Write the total|End)|Sum of Born charges:)")
_NUMBER = re.compile(r"[-+]?\d+\.\d+")


@dataclass
class TensorTable:
    """One table of tensors, filled line by line.

    Attributes:
        where: File and line where it begins.
        displacement_first: Whether rows are the displacement.
        rows: Three for each atom.
        symbols: Of the atoms, where the table names them.
        n_atoms: How many have begun.
        open: Whether more may come.
    """

    where: str
    displacement_first: bool
    rows: list[list[float]] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)
    n_atoms: int = 0
    open: bool = True

    def take(self, line: str, where: str) -> bool:
        """Take a line of the table; False where it is of something else, which may be the end."""
        if not self.open:
            return False
        head = (_OF_ATOM if self.displacement_first else _NUMBERED).match(line)
        row = (_ROW if self.displacement_first else _PLAIN).match(line)
        if head:
            self._check_rows(where)
            if int(head[1]) != self.n_atoms + 1:
                raise DataError(f"{where}: expected atom {self.n_atoms + 1}, found {line.strip()[:40]!r}; the file is damaged.")
            self.n_atoms += 1
            if not self.displacement_first:
                self.symbols.append(head[2])
        elif row and not _END.match(line):
            self.rows.append(numbers(" ".join(_NUMBER.findall(row[1])), 3, where))
        else:
            self.open = not (_END.match(line) or line.strip())
            return False
        return True

    def _check_rows(self, where: str) -> None:
        if len(self.rows) != 3 * self.n_atoms:
            raise DataError(
                f"{where}: {len(self.rows)} rows of polar tensors for {self.n_atoms} atoms; the file is cut off or damaged: "
                "leave it out."
            )


def is_table(head: str) -> bool:
    """Whether a file that begins like this holds polar tensors."""
    lines = head.split("\n")
    if any(line.lstrip().startswith("APT | ") for line in lines):
        return True
    return len(lines) > 2 and bool(_NUMBERED.match(lines[0])) and bool(_PLAIN.match(lines[1]))


def starts_table(line: str, where: str) -> TensorTable | None:
    """A new table where a line begins one of linear response, by displacements; those by velocities are another quantity."""
    match = _RESPONSE.match(line)
    return TensorTable(where, displacement_first=True) if match and "Velocity" not in match[1] else None


def to_charges(table: TensorTable) -> np.ndarray:
    """Z[atom, polarization, displacement] in e, of shape (n_atoms, 3, 3).

    Raises:
        DataError: The table is cut off, or some atoms were left out of the calculation.
    """
    if not table.n_atoms or len(table.rows) != 3 * table.n_atoms:
        raise DataError(f"{table.where}: the table of polar tensors is cut off; run the calculation again, or leave it out.")
    tensors = np.array(table.rows).reshape(-1, 3, 3)
    absent = np.flatnonzero(~tensors.any(axis=(1, 2)))
    if len(absent) and len(tensors) > 1:
        raise DataError(
            f"{table.where}: the polar tensor of atom {absent[0] + 1} is zero in all digits: the calculation left it out "
            "(LIST_OF_ATOMS); compute all atoms."
        )
    return tensors.swapaxes(1, 2) if table.displacement_first else tensors


def all_tables(lines: Lines, path: Path) -> Iterator[TensorTable]:
    """Yield the tables of a file that holds nothing else."""
    table: TensorTable | None = None
    for number, line in lines:
        where = f"{path}, line {number}"
        begun = starts_table(line, where)
        if begun is None and (first := _NUMBERED.match(line)) and int(first[1]) == 1:
            begun = TensorTable(where, displacement_first=False)
        if begun is not None:
            if table is not None:
                yield table
            table = begun
            if begun.displacement_first:
                continue
        if table is not None:
            table.take(line, where)
    if table is not None:
        yield table
