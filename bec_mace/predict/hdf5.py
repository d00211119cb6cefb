"""Predictions as HDF5: flat arrays that grow, readable at any moment.

    offsets         (n_frames + 1,)      the atoms of frame i are the rows offsets[i] to offsets[i + 1]
    atomic_numbers  (n_atoms,)
    positions       (n_atoms, 3)         Å
    cell, pbc       (n_frames, 3, 3), (n_frames, 3)    lattice vectors as rows, Å
    PROPERTY        (n_atoms, ...) or (n_frames, ...)  one dataset per property, its unit and "per" as attributes

n_atoms counts the atoms of all frames. Attributes of the file: ``format``, ``format_version``, ``package_version``, ``model``,
``precision``, ``structures`` (the files that were read) and ``index_order`` of Born effective charges. Labels and metadata
of the structures are not copied; frames are in the order of the files.

The file can be read while it grows, see :mod:`bec_mace.storage.growing_tables`. Offsets are written last; a frame without them
is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bec_mace.data import Frame
from bec_mace.errors import DataError
from bec_mace.properties import PROPERTIES
from bec_mace.storage.growing_tables import GrowingTables, Table, complete_rows, open_tables, refusing_damage

FORMAT = "bec_mace predictions"
FORMAT_VERSION = 1

_CLOCK = "offsets"
_STRUCTURE = {"atomic_numbers": "atom", "positions": "atom", "cell": "frame", "pbc": "frame"}
_ROWS = {"atom": 4096, "frame": 256}
_ATOMS_IN_MEMORY = 200_000


@dataclass(frozen=True)
class FrameRange:
    """Consecutive frames.

    Attributes:
        offsets: Of shape (n_frames + 1,); the atoms of frame i are the rows offsets[i] to offsets[i + 1].
        arrays: By name of the dataset, the rows of all of them.
    """

    offsets: np.ndarray
    arrays: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def frames(self, first: int, last: int) -> FrameRange:
        """Some of the frames."""
        offsets = self.offsets[first : last + 1]
        rows = {"frame": slice(first, last), "atom": slice(int(offsets[0]), int(offsets[-1]))}
        return FrameRange(offsets - offsets[0], {name: value[rows[_per(name)]] for name, value in self.arrays.items()})


def _joined(ranges: Sequence[FrameRange]) -> FrameRange:
    sizes = np.concatenate([np.diff(frames.offsets) for frames in ranges])
    return FrameRange(
        np.concatenate([[0], np.cumsum(sizes)]),
        {name: np.concatenate([frames.arrays[name] for frames in ranges]) for name in ranges[0].arrays},
    )


def read_predictions(path: str | Path) -> Iterator[tuple[Frame, dict[str, Any]]]:
    """Yield the structures and results of an HDF5 file, in order; its frames need not fit in memory.

    Also reads a file that is still being written.

    Args:
        path: A file that ``bec-mace predict -o FILE.h5`` wrote.

    Yields:
        For each frame its structure, without labels, and arrays by property name, as
        :func:`~bec_mace.predict.predict` gives them.

    Raises:
        DataError: There is no such file, or it is another kind of file.
    """
    path = Path(path)
    with _open(path) as file, refusing_damage(path, DataError):
        for frames in _ranges(file, 0, _length(file)):
            for number in range(len(frames)):
                one = frames.frames(number, number + 1).arrays
                frame = Frame(
                    one.pop("atomic_numbers").astype(np.int64),
                    one.pop("positions"),
                    one.pop("cell")[0],
                    one.pop("pbc")[0],
                    source=f"{path}",
                )
                yield frame, {name: (value if _per(name) == "atom" else value[0]).copy() for name, value in one.items()}


class Hdf5Part:
    """A growing file; its place is a number of frames.

    Args:
        path: The file.
        place: Go on behind this many frames.
        description: Attributes of the file.
    """

    suffix = ".h5"

    def __init__(self, path: Path, place: int, description: Mapping[str, Any]) -> None:
        self._path, self._description, self._place = path, dict(description), place
        self._tables: GrowingTables | None = None
        self._waiting: list[FrameRange] = []
        if place:
            # A file whose writer was killed cannot be opened for writing again, so what it holds goes into a new one.
            with _open(path) as file:
                for frames in _ranges(file, 0, place):
                    self._write(frames)
            if self._tables is not None:
                self._tables.place()

    def append(self, frame: Frame, result: Mapping[str, Any]) -> int:
        """Add a frame and give the place behind it; it stays in memory until :meth:`flush`."""
        arrays = {
            "atomic_numbers": frame.atomic_numbers.astype(np.uint8),
            "positions": frame.positions,
            "cell": frame.cell[None],
            "pbc": frame.pbc[None],
        }
        for name, value in result.items():
            arrays[name] = np.asarray(value) if _per(name) == "atom" else np.asarray(value)[None]
        self._waiting.append(FrameRange(np.array([0, len(frame)]), arrays))
        self._place += 1
        return self._place

    def flush(self) -> None:
        """Write what is in memory."""
        if not self._waiting:
            return
        begins = self._tables is None
        self._write(_joined(self._waiting))
        self._waiting.clear()
        if begins and self._tables is not None:
            self._tables.place()

    def close(self) -> None:
        """Close the file; what is in memory is lost."""
        if self._tables is not None:
            self._tables.close()

    @staticmethod
    def length(path: Path) -> int:
        """The place behind all that a file holds; 0 where there is none."""
        if not path.exists():
            return 0
        with _open(path) as file:
            return _length(file)

    @staticmethod
    def join(
        parts: Sequence[Path], pieces: Iterator[tuple[int, int, int]], target: Path, description: Mapping[str, Any]
    ) -> None:
        """Put pieces of several files together.

        Args:
            parts: The files.
            pieces: Number of a file, place where the piece begins, place behind it; those of one file in its order.
            target: The file to write.
            description: Attributes of the file.
        """
        readers = [_Reader(path) for path in parts]
        joined = Hdf5Part(target, 0, description)
        n_atoms = 0
        try:
            for number, start, end in pieces:
                for frames in readers[number].take(start, end):
                    joined._waiting.append(frames)
                    n_atoms += int(frames.offsets[-1])
                if n_atoms > _ATOMS_IN_MEMORY:
                    joined.flush()
                    n_atoms = 0
            joined.flush()
        finally:
            joined.close()
            for reader in readers:
                reader.close()

    def _write(self, frames: FrameRange) -> None:
        tables = self._tables = self._tables or self._create(frames)
        tables.append({**frames.arrays, _CLOCK: int(tables.last(_CLOCK)) + frames.offsets[1:]})

    def _create(self, frames: FrameRange) -> GrowingTables:
        """An empty file for rows like these, open for appending."""
        tables = {_CLOCK: Table((), np.dtype(np.int64), _ROWS["frame"], missing=-1)}
        for name, rows in frames.arrays.items():
            unit = PROPERTIES[name].unit if name in PROPERTIES else "Å" if name in ("positions", "cell") else ""
            tables[name] = Table(rows.shape[1:], rows.dtype, _ROWS[_per(name)], attributes={"per": _per(name), "unit": unit})
        return GrowingTables(
            self._path,
            tables,
            _CLOCK,
            {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "index_order": "polarization_first",
                **self._description,
            },
            {_CLOCK: np.zeros(1, dtype=np.int64)},
        )


class _Reader:
    """Reads pieces of a file in its order, many frames at once."""

    def __init__(self, path: Path) -> None:
        self._file = _open(path)
        self._ranges = _ranges(self._file, 0, _length(self._file))
        self._range = FrameRange(np.zeros(1, dtype=np.int64), {})
        self._first = 0  # frame of the range

    def take(self, start: int, end: int) -> Iterator[FrameRange]:
        """The frames from one place to another."""
        while start < end:
            while start >= self._first + len(self._range):
                self._first += len(self._range)
                self._range = next(self._ranges)
            last = min(end, self._first + len(self._range))
            yield self._range.frames(start - self._first, last - self._first)
            start = last

    def close(self) -> None:
        self._file.close()


def _per(name: str) -> str:
    return _STRUCTURE[name] if name in _STRUCTURE else PROPERTIES[name].per


def _open(path: Path) -> h5py.File:
    """Open for reading, whether it was closed, is being written, or lost its writer."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return open_tables(path, FORMAT, FORMAT_VERSION, "predictions", DataError)


def _length(file: h5py.File) -> int:
    """Number of complete frames."""
    return max(0, complete_rows(file[_CLOCK], -1) - 1)


def _ranges(file: h5py.File, first: int, last: int) -> Iterator[FrameRange]:
    """Frames from one number to another, as many at once as may be in memory."""
    names = [name for name in file if name != _CLOCK]
    while first < last:
        offsets = file[_CLOCK][first : min(last, first + _ATOMS_IN_MEMORY) + 1]
        count = max(1, int(np.searchsorted(offsets, offsets[0] + _ATOMS_IN_MEMORY, side="right")) - 1)
        rows = {"frame": slice(first, first + count), "atom": slice(int(offsets[0]), int(offsets[count]))}
        yield FrameRange(offsets[: count + 1] - offsets[0], {name: file[name][rows[_per(name)]] for name in names})
        first += count
