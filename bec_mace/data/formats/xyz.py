"""Extended XYZ files frame by frame, as text.

ASE looks for all frames of a file before it gives the first, and remembers where each is. Here a frame is read when it is
asked for, so a file of any length takes the memory of one frame, and its text can be parsed in another process.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from bec_mace.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

_MOST_VECTORS = 3  # Cell vectors may follow the atoms, as lines that begin with VEC.


def is_extxyz(path: Path) -> bool:
    """Whether ASE takes a file for extended XYZ."""
    from ase.io.formats import UnknownFileTypeError, filetype

    try:
        return bool(filetype(str(path), read=True) == "extxyz")
    except (UnknownFileTypeError, OSError, EOFError):
        return False  # The reading that follows says what is wrong.


def read_texts(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the text of each frame and its number of atoms. Blank lines between frames are skipped.

    Raises:
        DataError: A frame does not begin with the number of its atoms.
    """
    from ase.io.formats import open_with_compression

    number = 0
    with open_with_compression(str(path), "r") as file:
        line = file.readline()
        while line:
            if not line.strip():
                line = file.readline()
                continue
            n_atoms = _count(line, f"{path}, frame {number}")
            lines = [line, *islice(file, 1 + n_atoms)]  # fewer at the end of a file that was cut
            line = file.readline()
            while line.lstrip().startswith("VEC") and len(lines) < 2 + n_atoms + _MOST_VECTORS:
                lines.append(line)
                line = file.readline()
            yield "".join(lines), n_atoms
            number += 1


def _count(line: str, source: str) -> int:
    try:
        count = int(line)
    except ValueError:
        count = -1
    if count < 0:
        raise DataError(
            f"{source}: ASE cannot read it (expected the number of atoms, found {line.strip()[:40]!r}). "
            "Check the file and its format."
        )
    return count


def parse_text(text: str) -> Atoms:
    """The structure that a text of :func:`read_texts` describes; raises whatever ASE's reader meets."""
    from ase.io.extxyz import read_xyz

    atoms: Atoms = next(read_xyz(io.StringIO(text), 0))
    return atoms
