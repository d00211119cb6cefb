"""What the readers of raw outputs share."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bec_mace.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

_KEY = "REF_becs"
_DIELECTRIC_KEY = "REF_dielectric_tensor"
_HEAD = 8192

Lines = Iterator[tuple[int, str]]
"""Lines of a file with their numbers, counted from 1."""


def read_head(path: Path) -> str:
    """The first few kB of a file; empty when it cannot be read, which the reading that follows reports."""
    from ase.io.formats import open_with_compression

    try:
        with open_with_compression(str(path), "rb") as file:
            return str(file.read(_HEAD).decode("latin-1"))
    except (OSError, EOFError, ValueError):
        return ""


def read_lines(path: Path) -> Lines:
    """Yield (number, line) of a file, compressed or not. Any bytes are text here: outputs may hold some that are not."""
    from ase.io.formats import open_with_compression

    with open_with_compression(str(path), "rb") as file, io.TextIOWrapper(file, encoding="latin-1") as text:
        yield from enumerate(text, start=1)


def numbers(text: str, count: int, where: str) -> list[float]:
    """The finite numbers of a part of a line.

    Args:
        text: What should hold them.
        count: How many there must be.
        where: File and line, for messages.

    Raises:
        DataError: Another number of words, or one that is no finite number, such as the asterisks of Fortran.
    """
    words = text.split()
    if len(words) != count:
        raise DataError(
            f"{where}: expected {count} numbers, found {text.strip()[:60]!r}. "
            "The file is cut off or damaged: run the calculation again, or leave the file out."
        )
    values = []
    for word in words:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(
                f"{where}: {word!r} stands where a number should be. The calculation went wrong, or a number "
                "did not fit its column: repair the file or leave it out."
            )
        values.append(value)
    return values


def attach(atoms: Atoms, charges: np.ndarray, where: str) -> None:
    """Give a structure its Born effective charges.

    Args:
        atoms: Structure.
        charges: Z[atom, polarization, displacement] in e, of shape (n_atoms, 3, 3).
        where: File and place, for messages.

    Raises:
        DataError: Their number is not the number of atoms.
    """
    check_count(len(charges), len(atoms), where)
    atoms.set_array(_KEY, charges.reshape(len(atoms), 9))


def attach_dielectric(atoms: Atoms, tensor: np.ndarray) -> None:
    """Give a structure its dielectric tensor at clamped nuclei, of shape (3, 3)."""
    atoms.info[_DIELECTRIC_KEY] = tensor.reshape(9)


def check_count(n_charges: int, n_atoms: int, where: str, what: str = "Born effective charges") -> None:
    """Raise a DataError when the number of tensors, or of ``what``, is not the number of atoms."""
    if n_charges != n_atoms:
        raise DataError(
            f"{where}: {what} of {n_charges} atoms, but the structure has {n_atoms}. "
            "The file is cut off or damaged: run the calculation again, or leave the file out."
        )
