"""From a stream of structures to a stream of results."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bec_mace.data import Frame, build_graph
from bec_mace.data.quality.periodicity import CellWatch
from bec_mace.data.reading import Paths
from bec_mace.data.sources import Source, iter_sources, structure
from bec_mace.devices import find_device, find_dtype
from bec_mace.errors import DataError, ModelError
from bec_mace.models import PolarizationModel
from bec_mace.predict.batch_memory import BatchMemory
from bec_mace.predict.evaluator import Evaluator
from bec_mace.predict.work_units import Unit, check_limits, divide, unlabelled
from bec_mace.predict.workers import Prepared, prepared

if TYPE_CHECKING:
    from ase import Atoms

Z = "born_effective_charges"


@dataclass(frozen=True)
class Done:
    """A unit of work that is computed.

    Attributes:
        unit: The unit.
        frames: Its structures.
        results: For each, arrays by property name.
    """

    unit: Unit
    frames: list[Frame]
    results: list[dict[str, Any]]


def predict(
    model: PolarizationModel,
    frames: Iterable[Frame | Atoms | str | Path] | Frame | Atoms | str | Path,
    properties: Collection[str] = (Z,),
    batch_size: int | str | None = "auto",
    device: torch.device | str | None = None,
    dtype: str | torch.dtype | None = None,
    max_atoms: int | None = None,
    workers: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Predict properties frame by frame, in order, for any number of frames of any size.

    Frames are read only as they are needed, so a trajectory need not fit in memory. They are packed into batches that fit
    into the memory of the device; one that does not fit after all is halved, and a frame that does not fit alone is
    evaluated in blocks of its edges. Results do not depend on any of this, but for rounding.

    Args:
        model: The model. It is moved to ``device`` and ``dtype`` if they are given.
        frames: Structures: frames, ASE atoms, files or globs, or any iterable of them. Labels are not used.
        properties: Names from ``model.provides``; ``"head_contributions"`` gives Z* by head.
        batch_size: Number of frames in a batch; ``"auto"`` or None fills batches up to about 1000 atoms on a CPU, and on a
            GPU to a share of its free memory, which is measured as the batches go.
        device: Where to compute; where the model is by default.
        dtype: Precision; that of the model by default.
        max_atoms: Largest number of atoms in a batch; a larger frame makes a batch of its own.
        workers: Processes that read text and find neighbours while the device computes; a script that asks for some needs
            ``if __name__ == "__main__":``. 0 does it in line. By default a thread for a GPU and nothing for a CPU.

    Yields:
        For each frame, in order, arrays by property name, of the shapes in the table of properties: Born effective
        charges (n_atoms, 3, 3), energy ().

    Raises:
        ModelError: If the model does not give a property or does not know an element, a limit is not positive, or a frame
            does not fit into the memory even in blocks.
        DataError: If a frame cannot be read or used.
    """
    check_limits(batch_size, max_atoms)
    if not isinstance(model, PolarizationModel):
        raise ModelError(f"predict needs a model, got {type(model).__name__}; get one from load_model")
    if isinstance(properties, str) or not isinstance(properties, Collection):
        raise ModelError(f"properties must be a collection of names, such as ('{Z}',), got {properties!r}")
    model.to(
        device=None if device is None else find_device(device, ModelError),
        dtype=None if dtype is None else find_dtype(dtype, ModelError),
    )
    units = divide(sources_of(frames), batch_size, max_atoms)
    if workers is None and model.reference_charges.device.type == "cpu":
        workers = 0
    pipeline = Pipeline(model, properties, joins=batch_size in ("auto", None) and max_atoms is None, workers=workers)
    for done in pipeline.run(units):
        yield from done.results


def sources_of(frames: Iterable[Frame | Atoms | str | Path] | Frame | Atoms | str | Path) -> Iterator[Source]:
    """Structures of whatever was given, without labels.

    Raises:
        DataError: Something that is no structure and no file.
    """
    from ase import Atoms

    entries = [frames] if isinstance(frames, Frame | Atoms | str | os.PathLike) else frames
    if not isinstance(entries, Iterable):
        raise DataError(f"structures must be frames, ASE atoms, files or an iterable of them, got {type(frames).__name__}")
    for number, entry in enumerate(entries):
        if isinstance(entry, Frame):
            yield unlabelled(entry)
        elif isinstance(entry, Atoms):
            yield structure(entry, f"structure {number}")
        elif isinstance(entry, str | os.PathLike):
            path: Paths = os.fspath(entry)
            yield from iter_sources(path)
        else:
            raise DataError(f"structure {number}: must be a Frame, ASE atoms or a file, got {type(entry).__name__}")


class Pipeline:
    """Units of work in, results out: neighbour lists by workers, batches by memory, evaluation.

    Args:
        model: On its device, in its precision.
        properties: What is asked for.
        joins: Whether units may share a batch on a device that is the faster for it.
        workers: As for :func:`~bec_mace.predict.workers.prepared`.

    Attributes:
        evaluate: The evaluator; it knows the time spent in the model.
    """

    def __init__(self, model: PolarizationModel, properties: Collection[str], joins: bool, workers: int | None) -> None:
        self._model, self._cells = model, CellWatch()
        self._memory = BatchMemory(model, properties)
        self.evaluate = Evaluator(model, properties, self._memory)
        self._joins = joins and self._memory.grows
        self._workers = workers
        self._units_in_batch = 1

    def run(self, units: Iterable[Unit]) -> Iterator[Done]:
        """Compute units in order; what comes before one that cannot be used is given before its error is raised."""
        ready = prepared(units, self._model.r_max, self._workers, ahead=lambda: self._units_in_batch)
        try:
            for batch in self._join(ready) if self._joins else ([one] for one in ready):
                yield from self._compute(batch)
        finally:
            ready.close()

    def warm_up(self) -> None:
        """Evaluate a pair of atoms twice.

        The first evaluations of a process compile kernels and round in their own way, which would show where a run was
        resumed.
        """
        positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        pair = Frame(np.full(2, self._model.elements[0]), positions, np.zeros((3, 3)), np.zeros(3, dtype=bool))
        for _ in range(2):
            self.evaluate([build_graph(pair, self._model.r_max, self._model.reference_charges.dtype)], ["a pair of atoms"])

    def _join(self, ready: Iterator[Prepared]) -> Iterator[list[Prepared]]:
        batch: list[Prepared] = []
        n_atoms = n_edges = 0
        try:
            for one in ready:
                if batch and not self._memory.admits(n_atoms + one.unit.n_atoms, n_edges + one.n_edges):
                    self._units_in_batch = len(batch)
                    yield batch
                    batch, n_atoms, n_edges = [], 0, 0
                batch.append(one)
                n_atoms, n_edges = n_atoms + one.unit.n_atoms, n_edges + one.n_edges
        except Exception:
            # A later structure cannot be used; what is here can.
            if batch:
                yield batch
            raise
        if batch:
            yield batch

    def _compute(self, batch: list[Prepared]) -> Iterator[Done]:
        dtype = self._model.reference_charges.dtype
        graphs, sources = [], []
        for one in batch:
            for frame, neighbours in one.content:
                self._model.check_elements(frame.atomic_numbers, frame.source)
                self._cells.note(frame)
                graphs.append(build_graph(unlabelled(frame), self._model.r_max, dtype, neighbours))
                sources.append(frame.source)
        results = iter(self.evaluate(graphs, sources))
        for one in batch:
            yield Done(one.unit, [frame for frame, _ in one.content], [next(results) for _ in one.content])
