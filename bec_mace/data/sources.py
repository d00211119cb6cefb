"""Frames one after another, and what a worker does with each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bec_mace.data.fingerprint import structure_bytes
from bec_mace.data.formats import find_format
from bec_mace.data.frames import Frame
from bec_mace.data.neighbours import Neighbours, find_neighbours
from bec_mace.data.reading import Paths, expand, parse, read_atoms, read_frame_texts
from bec_mace.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class FrameText:
    """A frame that is not parsed yet.

    Attributes:
        text: As in the file.
        n_atoms: Its number of atoms.
        source: Where it comes from, for messages.
    """

    text: str
    n_atoms: int
    source: str

    def __len__(self) -> int:
        return self.n_atoms


Source = Frame | FrameText
"""A structure of a stream."""


def iter_sources(paths: Paths) -> Iterator[Source]:
    """Yield the structures of files, in order, each when it is asked for; their labels are not read.

    Args:
        paths: As for :func:`~bec_mace.data.read_frames`.

    Raises:
        DataError: A file that is missing or cannot be read, or a frame that cannot be used.
    """
    for path in expand(paths):
        number = -1
        found_format = find_format(path)
        if found_format.is_extxyz:
            for number, (text, n_atoms) in enumerate(read_frame_texts(path)):
                yield FrameText(text, n_atoms, f"{path}, frame {number}")
            if number < 0:
                raise DataError(f"{path}: no structures in this file.")
        else:
            for number, atoms in enumerate(read_atoms(found_format)):
                yield structure(atoms, f"{path}, frame {number}")


def structure(atoms: Atoms, source: str) -> Frame:
    """The frame of some atoms, without labels; what else they have comes along."""
    return Frame.from_atoms(atoms, properties=(), source=source, carry=True)


def to_frame(source: Source) -> Frame:
    """A structure of a stream as a frame without labels.

    Raises:
        DataError: It cannot be read or used.
    """
    if isinstance(source, FrameText):
        return structure(parse(source.text, source.source), source.source)
    return source


def content(source: Source) -> Iterable[bytes]:
    """What makes a structure of a stream what it is, for a digest; labels do not count unless they are in its text."""
    if isinstance(source, FrameText):
        return (source.text.encode(),)
    return structure_bytes(source)


def prepare(sources: Iterable[Source], r_max: float) -> list[tuple[Frame, Neighbours]]:
    """Parse structures and find their neighbours; needs no torch, so that a process that does it starts quickly.

    Args:
        sources: Structures.
        r_max: Cutoff in Å.

    Raises:
        DataError: A structure that cannot be read or used.
    """
    frames = [to_frame(source) for source in sources]
    return [(frame, find_neighbours(frame, r_max)) for frame in frames]
