"""Derivative databases of Abinit, which are recognised but not read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bec_mace.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms


def recognises(head: str) -> bool:
    """Whether a file that begins like this is a derivative database."""
    return "**** DERIVATIVE DATABASE ****" in head


def read(path: Path) -> Iterator[Atoms]:
    """Raise a DataError that says what to do instead."""
    raise DataError(
        f"{path}: an Abinit DDB is not read. Let anaddb or abipy compute the Born effective charges, and give "
        "them with the structure as extended XYZ: 9 columns REF_becs, row-major Z[polarization, displacement]."
    )
