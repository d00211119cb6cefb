"""Data sets that come with the package. LICENSES.md says where they are from."""

from __future__ import annotations

from pathlib import Path

from bec_mace.errors import DataError

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of the included data sets."""
    return sorted(entry.name for entry in _FOLDER.iterdir() if ".extxyz" in entry.suffixes)


def path(name: str) -> Path:
    """Where an included data set is.

    Raises:
        DataError: There is none of that name.
    """
    if name not in names():
        raise DataError(f"{name!r} is no included data set. There are: {', '.join(names())}.")
    return _FOLDER / name
