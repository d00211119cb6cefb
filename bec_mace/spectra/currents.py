"""The current J(t) of a run and the file that holds it.

The current is the time derivative of the polarization,

    J_a(t) = dP_a/dt = sum_j sum_b Z[j, a, b] v[j, b],                                                   e Å/fs

summed over the atoms j of one element at a time. ``currents.h5`` grows while a run goes on. It is written in the
single-writer multiple-reader mode of HDF5, so that it can be read at any moment, also after the writer was killed:
what was flushed is there, and nothing else. The times of the rows are written last; a row without a time is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase.data import atomic_numbers

from bec_mace.errors import SpectrumError
from bec_mace.storage.files import replace_file
from bec_mace.storage.growing_tables import GrowingTables, Table, complete_rows, open_tables, refusing_damage

FORMAT = "bec_mace currents"
FORMAT_VERSION = 1
FILE_NAME = "currents.h5"

VELOCITIES = "velocities"
DIFFERENCES = "central differences of positions"

# Times are sums of steps; this much of an interval is rounding, or the last digit of a text file.
_UNEVEN = 1e-3
_CHUNK = 512


@dataclass(frozen=True)
class Currents:
    """The current of one run by element, at equal intervals of time.

    Attributes:
        time: Of shape (n,), in fs.
        current: Of shape (n, n_elements, 3), in e Å/fs; the sum over the atoms of each element.
        temperature: Of shape (n,), in K; nan where it is not known.
        volume: Of shape (n,), in Å^3; nan where there is none.
        elements: Chemical symbols, in the order of ``current``.
        sampling_interval_fs: Time between two rows, in fs.
        source: Where it comes from, for messages.
        method: Where velocities come from, ``VELOCITIES`` or ``DIFFERENCES``.
        field: Largest electric field during the run, in V/Å.
        counts: Number of atoms of each element; empty where it is not known.

    Raises:
        SpectrumError: If shapes do not match, a value is not finite, or times are not evenly spaced.
    """

    time: np.ndarray
    current: np.ndarray
    temperature: np.ndarray
    volume: np.ndarray
    elements: tuple[str, ...]
    sampling_interval_fs: float
    source: str = "currents"
    method: str = VELOCITIES
    field: float = 0.0
    counts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        rows = len(self.time)
        for name, shape in (
            ("time", (rows,)),
            ("current", (rows, len(self.elements), 3)),
            ("temperature", (rows,)),
            ("volume", (rows,)),
        ):
            if getattr(self, name).shape != shape:
                raise SpectrumError(f"{self.source}: {name} must have shape {shape}, got {getattr(self, name).shape}")
        if not self.elements:
            raise SpectrumError(f"{self.source}: no elements; name the element of every column of the current")
        if not (np.isfinite(self.sampling_interval_fs) and self.sampling_interval_fs > 0):
            raise SpectrumError(
                f"{self.source}: the sampling interval must be a positive time in fs, got {self.sampling_interval_fs}"
            )
        bad = ~(np.isfinite(self.time) & np.isfinite(self.current).all(axis=(1, 2)))
        if bad.any():
            raise SpectrumError(
                f"{self.source}: row {int(np.argmax(bad))} holds a time or a current that is not finite; "
                "the run exploded or the file is damaged"
            )
        uneven = np.abs(np.diff(self.time) / self.sampling_interval_fs - 1.0) > _UNEVEN
        if uneven.any():
            row = int(np.argmax(uneven))
            raise SpectrumError(
                f"{self.source}: rows {row} and {row + 1} are {self.time[row + 1] - self.time[row]:g} fs "
                f"apart, others {self.sampling_interval_fs:g} fs; spectra need equal intervals"
            )

    def __len__(self) -> int:
        return len(self.time)

    def after(self, skip_fs: float) -> Currents:
        """The same without the first ``skip_fs`` femtoseconds.

        Raises:
            SpectrumError: If nothing is left.
        """
        first = int(np.ceil(skip_fs / self.sampling_interval_fs - 1e-6))
        if first >= len(self):
            raise SpectrumError(
                f"{self.source}: has {len(self)} rows, {len(self) * self.sampling_interval_fs:g} fs; "
                f"skipping {skip_fs:g} fs leaves none"
            )
        rows = slice(first, None)
        return replace(
            self, time=self.time[rows], current=self.current[rows], temperature=self.temperature[rows], volume=self.volume[rows]
        )

    @classmethod
    def read(cls, path: str | Path) -> Currents:
        """Read ``currents.h5``, also while it is being written.

        Args:
            path: The file, or the run folder that holds it.

        Raises:
            SpectrumError: If there is no such file, or it is not one of these.
        """
        file_path = find(path)
        with _open(file_path) as file, refusing_damage(file_path, SpectrumError):
            rows = complete_rows(file["time"], np.nan)
            field = file["field"][:rows]
            return cls(
                time=file["time"][:rows],
                current=file["current"][:rows],
                temperature=file["temperature"][:rows],
                volume=file["volume"][:rows],
                elements=tuple(_text(symbol) for symbol in file.attrs["elements"]),
                sampling_interval_fs=float(file.attrs["sampling_interval_fs"]),
                source=str(path),
                method=_text(file.attrs.get("method", VELOCITIES)),
                counts=tuple(int(count) for count in file.attrs["counts"]),
                field=float(np.linalg.norm(field, axis=1).max(initial=0.0)),
            )

    def write(self, path: str | Path, model: str = "", head_set: str = "") -> None:
        """Write a file that ``read`` reads, complete or not at all; a file of this name is replaced.

        Args:
            path: The file.
            model: The model that gave Z*, for the record.
            head_set: Its heads, for the record.
        """

        def write(temporary: Path) -> None:
            counts = self.counts or (0,) * len(self.elements)
            with CurrentsWriter(
                temporary,
                self.elements,
                counts,
                self.sampling_interval_fs,
                model,
                head_set,
                method=self.method,
                flush_every=_CHUNK,
            ) as writer:
                for row in zip(self.time, self.current, self.temperature, self.volume, strict=True):
                    writer.append(*row, potential_energy=np.nan, kinetic_energy=np.nan, field=(self.field, 0.0, 0.0))

        replace_file(Path(path), write)


class CurrentsWriter:
    """Appends rows to ``currents.h5`` while a run goes on.

    Rows are kept in memory until there are ``flush_every`` of them or ``flush`` is called; a kill loses those only.
    Use it as a context manager, or call ``close``.

    Args:
        path: The file.
        elements: Chemical symbols in ascending order of atomic number.
        counts: Number of atoms of each element.
        sampling_interval_fs: Time between two rows, in fs.
        model: The model that gives Z*, as a name or path; for the record.
        head_set: Its heads, for the record.
        temperature_K: Target of the thermostat, in K; nan without one.
        resume: Go on with an existing file instead of making a new one.
        flush_every: Rows that are written at once.
        method: Where velocities come from, ``VELOCITIES`` or ``DIFFERENCES``.

    Raises:
        SpectrumError: If the file is there already and ``resume`` is false, or it is there and belongs to another
            system or another sampling interval.
    """

    def __init__(
        self,
        path: str | Path,
        elements: Sequence[str],
        counts: Sequence[int],
        sampling_interval_fs: float,
        model: str = "",
        head_set: str = "",
        temperature_K: float = float("nan"),
        resume: bool = False,
        flush_every: int = 100,
        method: str = VELOCITIES,
    ) -> None:
        self.path = Path(path)
        self._attrs = {
            **_attributes(elements, counts, sampling_interval_fs),
            "model": model,
            "head_set": head_set,
            "temperature_K": float(temperature_K),
            "method": method,
        }
        self._shapes = {
            "current": (len(elements), 3),
            "temperature": (),
            "volume": (),
            "potential_energy": (),
            "kinetic_energy": (),
            "field": (3,),
            "time": (),
        }
        self._flush_every = flush_every
        self._buffer: list[dict[str, np.ndarray]] = []
        if self.path.exists() and not resume:
            raise SpectrumError(f"{self.path}: is there already; resume the run or remove the file")
        # A file whose writer was killed cannot be opened for writing again, so what it holds goes into a new one.
        self._tables = self._create(self._kept() if self.path.exists() else {})

    def __enter__(self) -> CurrentsWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of rows, those in memory included."""
        return self._tables.length("time") + len(self._buffer)

    def append(
        self,
        time: float,
        current: np.ndarray,
        temperature: float,
        volume: float,
        potential_energy: float,
        kinetic_energy: float,
        field: np.ndarray | Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        """Add one row.

        Args:
            time: In fs.
            current: By element, of shape (n_elements, 3), in e Å/fs.
            temperature: In K.
            volume: In Å^3; nan without a cell.
            potential_energy: In eV.
            kinetic_energy: In eV.
            field: Electric field at this time, of shape (3,), in V/Å.

        Raises:
            SpectrumError: If a value has the wrong shape.
        """
        values = {
            "time": time,
            "current": current,
            "temperature": temperature,
            "volume": volume,
            "potential_energy": potential_energy,
            "kinetic_energy": kinetic_energy,
            "field": field,
        }
        row = {name: np.array(value, dtype=np.float64) for name, value in values.items()}
        for name, shape in self._shapes.items():
            if row[name].shape != shape:
                raise SpectrumError(f"{self.path}: {name} must have shape {shape}, got {row[name].shape}")
        self._buffer.append(row)
        if len(self._buffer) >= self._flush_every:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are still in memory."""
        if not self._buffer:
            return
        self._tables.append({name: np.stack([row[name] for row in self._buffer]) for name in self._shapes})
        self._buffer.clear()

    def truncate(self, n_rows: int) -> None:
        """Keep the first rows only, those in memory included; the file is replaced as a whole.

        Raises:
            SpectrumError: If there are fewer rows.
        """
        self.flush()
        if not 0 <= n_rows <= len(self):
            raise SpectrumError(f"{self.path}: has {len(self)} rows, cannot keep {n_rows}; it does not belong to this run")
        if n_rows == len(self):
            return
        kept = {name: self._tables[name][:n_rows] for name in self._shapes}
        self._tables.close()
        self._tables = self._create(kept)

    def close(self) -> None:
        """Write what is in memory and close the file; a second call does nothing."""
        if self._tables.is_open:
            self.flush()
            self._tables.close()

    def _kept(self) -> dict[str, np.ndarray]:
        with _open(self.path) as file:
            for name in ("elements", "counts", "sampling_interval_fs"):
                in_file, of_run = _plain(file.attrs[name]), _plain(self._attrs[name])
                if in_file != of_run:
                    raise SpectrumError(
                        f"{self.path}: {name} of the file is {in_file}, of this run {of_run}; "
                        "resume with the structure and the stride that the run began with"
                    )
            rows = complete_rows(file["time"], np.nan)
            return {name: file[name][:rows] for name in self._shapes}

    def _create(self, rows: dict[str, np.ndarray]) -> GrowingTables:
        """A new file with these rows, put in place when it is complete, open for appending."""
        tables = {name: Table(shape, np.dtype("f8"), _CHUNK, np.nan) for name, shape in self._shapes.items()}
        made = GrowingTables(self.path, tables, "time", self._attrs, rows)
        made.place()
        return made


def find(path: str | Path) -> Path:
    """The file of currents that a path stands for: itself, or ``currents.h5`` in a folder.

    Raises:
        SpectrumError: There is none.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / FILE_NAME).is_file():
            raise SpectrumError(
                f"{path}: the folder has no {FILE_NAME}; name a folder that `bec-mace md` made, or a trajectory with --model"
            )
        return path / FILE_NAME
    if not path.is_file():
        raise SpectrumError(f"{path}: no such file or folder")
    return path


def _attributes(elements: Sequence[str], counts: Sequence[int], sampling_interval_fs: float) -> dict[str, Any]:
    numbers = [atomic_numbers.get(symbol, 0) for symbol in elements]
    if not elements or 0 in numbers or numbers != sorted(set(numbers)) or len(counts) != len(numbers):
        raise SpectrumError(
            f"currents: elements must be chemical symbols in ascending order of atomic number, with one "
            f"count each; got {list(elements)} and counts {list(counts)}"
        )
    if not (np.isfinite(sampling_interval_fs) and sampling_interval_fs > 0):
        raise SpectrumError(f"currents: the sampling interval must be a positive time in fs, got {sampling_interval_fs}")
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "units": "e Å/fs",
        "elements": list(elements),
        "n_atoms": int(sum(counts)),
        "counts": np.array(counts, dtype=np.int64),
        "sampling_interval_fs": float(sampling_interval_fs),
    }


def _open(path: Path) -> h5py.File:
    return open_tables(path, FORMAT, FORMAT_VERSION, "currents", SpectrumError)


def _plain(value: Any) -> Any:
    return [_text(item) for item in value] if np.ndim(value) else value


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.item() if isinstance(value, np.generic) else value
