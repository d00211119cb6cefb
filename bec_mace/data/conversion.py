"""Files of any kind that is read here into one extended XYZ file that needs no keys."""

from __future__ import annotations

import gzip
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bec_mace.data.finite_fields import read_field_runs
from bec_mace.data.formats import FORMATS, find_format
from bec_mace.data.formats.xyz import readable_info
from bec_mace.data.frames import Frame
from bec_mace.data.label_units import factor, in_units_of_the_package
from bec_mace.data.reading import Paths, expand, file_frames
from bec_mace.errors import BecMaceError, DataError
from bec_mace.storage.files import replace_file

FIELD_RUNS = (".yaml", ".yml")
"""Endings of files that name runs in fields."""


@dataclass(frozen=True)
class Conversion:
    """What one file gave.

    Attributes:
        path: The file.
        kind: What it is.
        n_frames: How many structures it has.
        n_atoms: How many atoms they have.
        labels: Number of frames with a label, by property.
        unread: Number of frames with a key that is no label, by key.
        mistake: Why it could not be read; empty where it was.
    """

    path: Path
    kind: str
    n_frames: int = 0
    n_atoms: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    unread: Mapping[str, int] = field(default_factory=dict)
    mistake: str = ""

    def text(self) -> str:
        """The same as one line."""
        if self.mistake:
            return f"{self.path}: {self.kind}, not read"
        held = ", ".join(f"{name}{self._share(count)}" for name, count in self.labels.items()) or "no labels"
        unread = ", ".join(f"{name}{self._share(count)}" for name, count in self.unread.items())
        frames = "1 frame" if self.n_frames == 1 else f"{self.n_frames} frames"
        return f"{self.path}: {self.kind}, {frames}, {self.n_atoms} atoms: {held}{f'; not read: {unread}' if unread else ''}"

    def _share(self, count: int) -> str:
        return "" if count == self.n_frames else f" in {count}"


def read_source(
    path: Path, *, keys: Mapping[str, str] | None = None, index_order: str = "polarization_first", units: Mapping[str, str]
) -> list[Frame]:
    """All frames of one file in the units of the package; a YAML file names runs in fields.

    Raises:
        BecMaceError: It cannot be read.
    """
    if path.suffix.lower() in FIELD_RUNS:
        return read_field_runs(path, keys=keys, units=units)
    found = find_format(path)
    frames = [frame for frame, _ in file_frames(found, keys=keys, index_order=index_order)]
    return frames if found.output is not None else [in_units_of_the_package(frame, units) for frame in frames]


def convert(
    sources: Paths,
    output: Path,
    *,
    keys: Mapping[str, str] | None = None,
    index_order: str = "polarization_first",
    units: Mapping[str, str] | None = None,
    skip_errors: bool = False,
) -> Iterator[Conversion]:
    """Write the structures and labels of files into one file, and yield what each file gave.

    Args:
        sources: A file, a glob, or a list of them.
        output: Extended XYZ, compressed where its name ends in ``.gz``. Written whole, behind the last file, or not at all.
        keys: As for :func:`~bec_mace.data.read_frames`.
        index_order: As for :func:`~bec_mace.data.read_frames`.
        units: Unit of a property in files that are no raw outputs, by property name.
        skip_errors: Go on past a file that cannot be read.

    Raises:
        BecMaceError: A file that cannot be read, or none that can.
    """
    units = units or {}
    for name, unit in units.items():
        factor(name, unit)
    frames: list[Frame] = []
    for path in expand(sources):
        try:
            own = read_source(path, keys=keys, index_order=index_order, units=units)
        except BecMaceError as error:
            if not skip_errors:
                raise
            yield Conversion(path, kind_of(path), mistake=str(error))
            continue
        frames += own
        labels = Counter(name for frame in own for name in frame.labels)
        unread = Counter(name for frame in own for name in frame.unread)
        yield Conversion(path, kind_of(path), len(own), sum(map(len, own)), dict(labels), dict(unread))
    if not frames:
        raise DataError(f"{output}: not written, no file could be read.")
    write_frames(frames, output)


def kind_of(path: Path) -> str:
    """What a file is, in words."""
    if path.suffix.lower() in FIELD_RUNS:
        return "runs in fields"
    found = find_format(path)
    if found.output is not None:
        return next(name for name, kind in FORMATS.items() if kind is found.output)
    return "extended XYZ" if found.is_extxyz else "a format of ASE"


def write_frames(frames: Iterable[Frame], path: Path) -> None:
    """Write frames with their labels as extended XYZ, whole or not at all; compressed where the name ends in ``.gz``."""

    def write(place: Path) -> None:
        with gzip.open(place, "wt", encoding="utf-8") if path.suffix == ".gz" else place.open("w", encoding="utf-8") as file:
            for frame in frames:
                file.write(_text(frame))

    replace_file(path, write)


def _text(frame: Frame) -> str:
    from ase.io.extxyz import write_xyz

    atoms = frame.to_atoms()
    atoms.info = readable_info(atoms.info)
    text = io.StringIO()
    write_xyz(text, atoms)
    return text.getvalue()
