"""HDF5 files whose tables grow along their first axis, readable at any moment.

They are written in the single-writer multiple-reader mode of HDF5: what was flushed is there, also after a kill. One table, the
clock, is written last; a row that it lacks is not there. A file whose writer was killed cannot be opened for writing again, so
who goes on puts what it holds into a new one.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bec_mace.errors import BecMaceError
from bec_mace.storage.files import put_in_place


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        shape: Of a row.
        dtype: Of its numbers.
        chunk: Rows that the file keeps together.
        missing: What a row reads as that was not written.
        attributes: What is written beside it, such as its unit.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: int
    missing: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


class GrowingTables:
    """A file of tables, open for appending.

    It is made under a temporary name, and put in place by :meth:`place`.

    Args:
        path: The file.
        tables: By name.
        clock: Name of the table that is written last.
        attributes: Of the file, ``format`` and ``format_version`` among them.
        rows: Rows that are there from the beginning, by name of the table.
    """

    def __init__(
        self, path: Path, tables: Mapping[str, Table], clock: str, attributes: Mapping[str, Any], rows: Mapping[str, np.ndarray]
    ) -> None:
        self._path, self._clock = path, clock
        self._temporary = path.with_name(f".partial-{path.name}")
        # What a killed run left under the temporary name is overwritten.
        self._file = h5py.File(self._temporary, "w", libver="latest", locking=False)
        self._file.attrs.update(attributes)
        for name, table in tables.items():
            dataset = self._file.create_dataset(
                name,
                shape=(0, *table.shape),
                maxshape=(None, *table.shape),
                chunks=(table.chunk, *table.shape),
                dtype=table.dtype,
                fillvalue=table.missing,
                fletcher32=True,  # A flipped bit is an error and not a number; what lies around the data is always guarded.
            )
            dataset.attrs.update(table.attributes)
            self._grow(name, rows.get(name, np.empty((0, *table.shape))))
        self._file.swmr_mode = True
        self._file.flush()

    def place(self) -> None:
        """Put the file in place of what is there."""
        put_in_place(self._temporary, self._path)

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Add rows to tables, the clock among them, and write them to the file."""
        for name, values in rows.items():
            if name != self._clock:
                self._grow(name, values)
        self._file.flush()
        self._grow(self._clock, rows[self._clock])
        self._file.flush()

    def __getitem__(self, name: str) -> np.ndarray:
        """All rows of a table."""
        return np.asarray(self._file[name][:])

    def length(self, name: str) -> int:
        """Number of rows of a table."""
        return len(self._file[name])

    def last(self, name: str) -> np.ndarray:
        """The last row of a table."""
        return np.asarray(self._file[name][-1])

    @property
    def is_open(self) -> bool:
        """Whether it can be written to."""
        return bool(self._file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _grow(self, name: str, values: np.ndarray) -> None:
        if len(values):
            dataset = self._file[name]
            start = len(dataset)
            dataset.resize(start + len(values), axis=0)
            dataset[start:] = values


def open_tables(path: Path, form: str, version: int, noun: str, kind: type[BecMaceError]) -> h5py.File:
    """Open for reading, whether the file was closed, is being written, or lost its writer.

    Args:
        path: The file.
        form: Its attribute ``format``.
        version: Its attribute ``format_version``.
        noun: What is in such a file, for messages.
        kind: Of the error.

    Raises:
        BecMaceError: Of this kind: HDF5 cannot read it, or it is another file or of another version.
    """
    # The plain way first: of a file that was cut off, the other would try for minutes to read what is not there.
    for swmr in (False, True):
        try:
            file = _open_beside_writer(path) if swmr else h5py.File(path, "r", locking=False)
            break
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            if "truncated file" in reason:
                raise kind(f"{path}: the file was cut off ({reason.rpartition('(')[2].rstrip(')')}); copy it again") from error
            if "write" not in reason:  # It is not that of a writer, alive or killed.
                raise kind(f"{path}: HDF5 cannot read it ({reason})") from error
    else:
        raise kind(f"{path}: HDF5 cannot read it ({reason})")
    try:
        with refusing_damage(path, kind):
            stored = file.attrs.get("format", "")
            if (stored.decode() if isinstance(stored, bytes) else stored) != form:
                raise kind(f"{path}: is an HDF5 file, but not one of bec_mace's {noun}")
            held = int(file.attrs["format_version"])
            if held != version:
                raise kind(f"{path}: has format version {held}, this bec_mace reads {version}; update bec_mace")
    except BecMaceError:
        file.close()
        raise
    return file


_ATTEMPTS = 10
"""Readings of a piece whose checksum is wrong before it is damaged and not half written; HDF5's 100 take minutes for each."""


def _open_beside_writer(path: Path) -> h5py.File:
    """Open a file that has a writer, alive or killed."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_LATEST)
    access.set_file_locking(False, False)
    # h5py does not show this function of the library that it brings; its modules are linked to it.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(h5py.h5p.__file__).H5Pset_metadata_read_attempts(ctypes.c_int64(access.id), ctypes.c_uint(_ATTEMPTS))
    flags = h5py.h5f.ACC_RDONLY | h5py.h5f.ACC_SWMR_READ
    return h5py.File(h5py.h5f.open(os.fsencode(path), flags, fapl=access))


@contextmanager
def refusing_damage(path: Path, kind: type[BecMaceError]) -> Iterator[None]:
    """Turn what HDF5 and numpy make of a damaged file into one sentence.

    Raises:
        BecMaceError: Of this kind: the file does not hold what it should.
    """
    try:
        yield
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
        OSError,
        RuntimeError,
        OverflowError,
        MemoryError,
    ) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise kind(f"{path}: does not hold what such a file holds ({reason}); it is damaged, copy it again") from error


def complete_rows(clock: h5py.Dataset, missing: float) -> int:
    """Number of rows of the clock that were written."""
    n_rows = len(clock)
    while n_rows:
        value = clock[n_rows - 1]
        if not (np.isnan(value) if np.isnan(missing) else value == missing):
            break
        n_rows -= 1
    return n_rows
