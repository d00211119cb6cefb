"""The folder of an unfinished prediction, from which it can go on.

    OUTPUT.partial/run.json      what is computed: model, properties, options, number of processes
    OUTPUT.partial/0.extxyz      what the first process has written, or 0.h5
    OUTPUT.partial/0.journal     one record for each unit of work that is whole in that file

A record is appended after the unit it stands for. So a kill at any moment leaves a journal that is true; what the file holds
beyond it is cut off and computed again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from bec_mace.errors import DataError
from bec_mace.predict.extxyz import ExtxyzPart
from bec_mace.predict.hdf5 import Hdf5Part
from bec_mace.predict.stream import Done
from bec_mace.predict.work_units import Unit
from bec_mace.storage.files import put_in_place, replace_text, resolve_links
from bec_mace.storage.locks import alone_in

RECORD = np.dtype([(name, "<i8") for name in ("number", "first", "frames", "atoms", "place")] + [("digest", "<u8")])
_SECONDS = 1.0
"""Time between two commits; a kill loses no more than this and the batch in progress."""
_VERSION = 1

Form = type[ExtxyzPart] | type[Hdf5Part]


def form_of(output: Path) -> Form:
    """How a file of this name is written: HDF5 for .h5 and .hdf5, extended XYZ otherwise."""
    return Hdf5Part if output.suffix in (".h5", ".hdf5") else ExtxyzPart


class PartialRun:
    """The folder of an unfinished prediction.

    Args:
        output: The file that is made in the end.
        identity: What is computed, as plain values; a run goes on only where it is the same.
        description: Attributes of an HDF5 file.
        n_processes: Processes that share the work.
    """

    def __init__(self, output: Path, identity: Mapping[str, Any], description: Mapping[str, Any], n_processes: int = 1) -> None:
        self.output, self.form = output, form_of(output)
        self.folder = output.with_name(f"{output.name}.partial")
        self.description, self.n_processes = dict(description), n_processes
        self._identity = {"version": _VERSION, "format": self.form.suffix, "processes": n_processes, **identity}

    def check(self, resume: bool) -> None:
        """Refuse to overwrite an unfinished prediction, or to go on with another one.

        Raises:
            DataError: There is one and ``resume`` is false, or it had another model or other options.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise DataError(f"{self.folder}: a file is where the folder of unfinished work goes; choose another output")
        foreign = sorted(path.name for path in self.folder.iterdir() if not _is_ours(path)) if self.folder.exists() else []
        if foreign:
            raise DataError(
                f"{self.folder}: is where the folder of unfinished work goes, and holds what is not of a prediction "
                f"({foreign[0]}); choose another output"
            )
        if not self._holds_something():
            return
        if not resume:
            raise DataError(f"{self.folder}: holds an unfinished prediction; go on with it (--resume) or choose another output")
        try:
            before = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder}: cannot resume, run.json cannot be read ({error}); use another output") from error
        for name, value in self._identity.items():
            if before.get(name) != value:
                raise DataError(
                    f"{self.folder}: cannot resume, the prediction was started with {name} "
                    f"{_shown(before.get(name))}, now it is {_shown(value)}; restore it, or choose another output"
                )

    @contextmanager
    def held(self, resume: bool, first: bool) -> Iterator[None]:
        """Hold the folder for the time of a ``with`` block; the first of several processes holds it for all.

        Raises:
            DataError: As :meth:`check`, or another prediction is writing the same output.
        """
        self.check(resume)
        if not first:
            yield
            return
        self.folder.mkdir(exist_ok=True)
        try:
            with alone_in(self.folder, DataError):
                yield
        finally:
            with suppress(OSError):  # Something is left in it.
                self.folder.rmdir()

    def create(self) -> None:
        """Make the folder and note what is computed; what an earlier run left that holds nothing is removed."""
        self.folder.mkdir(exist_ok=True)
        if not self._holds_something():
            self._remove()
            self.folder.mkdir(exist_ok=True)
        text = json.dumps(self._identity, indent=2) + "\n"
        replace_text(self.folder / "run.json", text)

    def data(self, rank: int) -> Path:
        """The file that a process writes."""
        return self.folder / f"{rank}{self.form.suffix}"

    def journal(self, rank: int) -> Path:
        """The journal of a process."""
        return self.folder / f"{rank}.journal"

    def records(self, rank: int) -> np.ndarray:
        """Records of the units that are whole, of dtype ``RECORD``."""
        path = self.journal(rank)
        if not path.exists():
            return np.empty(0, RECORD)
        content = path.read_bytes()
        records = np.frombuffer(content[: len(content) // RECORD.itemsize * RECORD.itemsize], RECORD)
        return records[records["place"] <= self.form.length(self.data(rank))] if len(records) else records

    def finish(self) -> None:
        """Make the output of all parts, in order, and remove the folder.

        Raises:
            DataError: A part is missing.
        """
        journals = [self.records(rank) for rank in range(self.n_processes)]
        records = np.concatenate(journals)
        order = np.argsort(records["number"])
        if not np.array_equal(records["number"][order], np.arange(len(records))):
            raise DataError(f"{self.folder}: parts of the prediction are missing; go on with --resume")
        source = self.data(0)
        if self.n_processes > 1:
            source = self.folder / f"joined{self.form.suffix}"
            used = [rank for rank in range(self.n_processes) if len(journals[rank])]
            self.form.join(
                [self.data(rank) for rank in used], _pieces([journals[rank] for rank in used]), source, self.description
            )
        put_in_place(source, resolve_links(self.output))
        self._remove()

    def discard(self) -> None:
        """Remove the folder if nothing was written into it."""
        if self.n_processes == 1 and not len(self.records(0)):
            self._remove()

    def _remove(self) -> None:
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if _is_ours(path) and path.name != ".lock":
                path.unlink()
        with suppress(OSError):  # The lock is still in it.
            self.folder.rmdir()

    def _holds_something(self) -> bool:
        """Whether any process, of this number or another, has finished a unit."""
        return any(len(self.records(int(path.stem))) for path in self.folder.glob("*.journal") if path.stem.isdigit())


class Part:
    """What one process writes, unit by unit.

    Args:
        run: The folder.
        rank: Of the process.
        world: Number of processes.
    """

    def __init__(self, run: PartialRun, rank: int, world: int) -> None:
        self._run, self._rank, self._world = run, rank, world
        self.records = run.records(rank)
        place = int(self.records["place"][-1]) if len(self.records) else 0
        self._data = run.form(run.data(rank), place, run.description)
        self._journal = run.journal(rank)
        with self._journal.open("ab") as file:  # What is whole stays; only what follows it is cut off.
            file.truncate(self.records.nbytes)
        self._waiting: list[tuple[int, ...]] = []
        self._committed = time.monotonic()

    def remaining(self, units: Iterable[Unit]) -> Iterator[Unit]:
        """The units of this process that are still to be computed.

        Raises:
            DataError: The structures are not those that the run was started with.
        """
        done = iter(self.records)
        for unit in units:
            if unit.number % self._world != self._rank:
                continue
            record = next(done, None)
            if record is None:
                yield unit
            elif (int(record["number"]), int(record["digest"])) != (unit.number, _number(unit.digest)):
                raise DataError(
                    f"{self._run.folder}: cannot resume, the structures up to {unit.sources[-1].source} are not "
                    "those that the prediction was started with; restore the files, or choose another output"
                )
        if next(done, None) is not None:
            raise DataError(
                f"{self._run.folder}: cannot resume, there are fewer structures than are predicted already; "
                "restore the files, or choose another output"
            )

    def append(self, done: Done) -> None:
        """Add a unit; it is on the disk a second later, or after :meth:`commit`."""
        place = 0
        for frame, result in zip(done.frames, done.results, strict=True):
            place = self._data.append(frame, result)
        unit = done.unit
        self._waiting.append((unit.number, unit.first, len(unit.sources), unit.n_atoms, place, _number(unit.digest)))
        if time.monotonic() - self._committed > _SECONDS:
            self.commit()

    def commit(self) -> None:
        """Write all that was added, then say so in the journal."""
        if not self._waiting:
            return
        self._data.flush()
        with self._journal.open("ab") as file:
            file.write(np.array(self._waiting, RECORD).tobytes())
        self._waiting.clear()
        self._committed = time.monotonic()

    def close(self) -> None:
        """Commit and close."""
        try:
            self.commit()
        finally:
            self._data.close()


def _pieces(journals: list[np.ndarray]) -> Iterator[tuple[int, int, int]]:
    """Part, beginning and end of each unit, in the order of the stream."""
    places = [iter(zip(np.concatenate([[0], journal["place"][:-1]]), journal["place"], strict=True)) for journal in journals]
    owners = np.concatenate([np.full(len(journal), part) for part, journal in enumerate(journals)])
    for part in owners[np.argsort(np.concatenate([journal["number"] for journal in journals]))]:
        start, end = next(places[part])
        yield int(part), int(start), int(end)


def _is_ours(path: Path) -> bool:
    """Whether a file in the folder of unfinished work is one that a prediction leaves there."""
    parts = ("run.json", "joined.extxyz", "joined.h5", ".lock")
    temporary = path.name.startswith(".") and path.name.endswith(".partial")
    part = path.stem.isdigit() and path.suffix in (".journal", ".extxyz", ".h5", ".hdf5")
    return path.is_file() and (path.name in parts or temporary or part or path.name.startswith(".partial-"))


def _number(digest: bytes) -> int:
    return int.from_bytes(digest, "little")


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
