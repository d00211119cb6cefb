"""Predictions as extended XYZ, appended frame by frame."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from bec_mace.data import Frame
from bec_mace.data.formats.xyz import readable_info
from bec_mace.properties import PROPERTIES

if TYPE_CHECKING:
    from ase import Atoms


def annotate(frame: Frame, result: Mapping[str, Any]) -> Atoms:
    """Return the structure of a frame with predictions under the keys of the table of properties, tensors as 9 numbers.

    What is not defined for the frame is left out, as a dielectric tensor where it does not fill space.
    """
    atoms = frame.to_atoms()
    atoms.info = readable_info(atoms.info)
    for name, value in result.items():
        row = PROPERTIES[name]
        if not row.is_defined(frame.pbc):
            continue
        if row.per == "frame":
            atoms.info[row.predicted_key] = value.reshape(-1) if value.ndim else float(value)
        else:
            atoms.set_array(row.predicted_key, value.reshape(len(atoms), -1) if value.ndim > 1 else value)
    return atoms


class ExtxyzPart:
    """A growing file; its place is a number of bytes.

    Args:
        path: The file.
        place: Go on behind this many bytes; what follows is cut off.
        description: Not used: the format has no room for it.
    """

    suffix = ".extxyz"

    def __init__(self, path: Path, place: int, description: Mapping[str, Any]) -> None:
        self._file: BinaryIO = path.open("r+b" if place else "wb")
        self._file.truncate(place)
        self._file.seek(place)
        self._place = place
        self._waiting: list[bytes] = []

    def append(self, frame: Frame, result: Mapping[str, Any]) -> int:
        """Add a frame and give the place behind it; it stays in memory until :meth:`flush`."""
        from ase.io.extxyz import write_xyz

        text = io.StringIO()
        write_xyz(text, annotate(frame, result))
        self._waiting.append(text.getvalue().encode())
        self._place += len(self._waiting[-1])
        return self._place

    def flush(self) -> None:
        """Write what is in memory."""
        self._file.write(b"".join(self._waiting))
        self._file.flush()
        self._waiting.clear()

    def close(self) -> None:
        """Close the file; what is in memory is lost."""
        self._file.close()

    @staticmethod
    def length(path: Path) -> int:
        """The place behind all that a file holds; 0 where there is none."""
        return path.stat().st_size if path.exists() else 0

    @staticmethod
    def join(
        parts: Sequence[Path], pieces: Iterator[tuple[int, int, int]], target: Path, description: Mapping[str, Any]
    ) -> None:
        """Put pieces of several files together.

        Args:
            parts: The files.
            pieces: Number of a file, place where the piece begins, place behind it; those of one file in its order.
            target: The file to write.
            description: Not used.
        """
        files = [path.open("rb") for path in parts]
        try:
            with target.open("wb") as joined:
                for number, start, end in pieces:
                    files[number].seek(start)
                    joined.write(files[number].read(end - start))
                joined.flush()
                os.fsync(joined.fileno())
        finally:
            for file in files:
                file.close()
