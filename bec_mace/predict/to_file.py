"""From files of structures to a file of predictions."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bec_mace.data.reading import Paths, expand
from bec_mace.data.sources import iter_sources
from bec_mace.errors import DataError, ModelError
from bec_mace.models import PolarizationModel
from bec_mace.predict.partial import Part, PartialRun
from bec_mace.predict.stream import Done, Pipeline
from bec_mace.predict.work_units import check_limits, divide
from bec_mace.predict.workers import default_workers
from bec_mace.properties import PROPERTIES
from bec_mace.storage.files import check_output
from bec_mace.version import __version__

logger = logging.getLogger(__name__)


class Processes(Protocol):
    """The processes that share the work; Lightning's Fabric is one."""

    @property
    def global_rank(self) -> int:
        """Number of this process."""

    @property
    def world_size(self) -> int:
        """Number of processes."""

    def barrier(self) -> None:
        """Wait for the others."""


class _Alone:
    global_rank, world_size = 0, 1

    def barrier(self) -> None:
        pass


@dataclass(frozen=True)
class Summary:
    """What a prediction did.

    Attributes:
        n_frames: Structures in the output.
        n_atoms: Their atoms.
        resumed: Structures that were there already.
        seconds: Wall time.
        atoms_per_second: Of what was computed now, over the wall time.
        model_share: Part of the wall time that this process spent in the model.
    """

    n_frames: int
    n_atoms: int
    resumed: int
    seconds: float
    atoms_per_second: float
    model_share: float


def predict_files(
    model: PolarizationModel,
    structures: Paths,
    output: str | Path,
    properties: Collection[str],
    *,
    name: str = "",
    batch_size: int | str | None = "auto",
    workers: int | None = None,
    resume: bool = False,
    processes: Processes | None = None,
    progress: Callable[[int, int], object] = lambda n_frames, n_atoms: None,
) -> Summary:
    """Predict properties of all structures of some files and write them into one file, in order.

    Structures are read as they are needed and results written as they come, so memory does not grow with their number.
    The work is done in units of about 1000 atoms or ``batch_size`` structures. What is whole stands in the folder
    ``OUTPUT.partial``; a run that was stopped goes on from there and ends with the same file, to the last byte of an extended
    XYZ file on a CPU, where a unit is a batch. A GPU sums in another order each time, which changes rounding.

    Args:
        model: On its device, in its precision.
        structures: A file, a glob, or a list of them; any format that ASE reads.
        output: HDF5 if the name ends in .h5 or .hdf5, see :mod:`bec_mace.predict.hdf5`; extended XYZ otherwise.
        properties: Names from ``model.provides`` that can be written.
        name: Of the model, for the record.
        batch_size: As for :func:`~bec_mace.predict.predict`.
        workers: Processes that read text and find neighbours; by default some for a GPU and none for a CPU.
        resume: Go on with an unfinished prediction. Starts one where there is none.
        processes: The processes that share the work: process r takes every unit whose number is r modulo their count.
        progress: Called with the numbers of structures and atoms of each finished unit.

    Raises:
        DataError: Structures that cannot be read or used, an unfinished prediction without ``resume``, or one of other
            structures, another model or other options.
        ModelError: The model does not give a property or does not know an element.
    """
    start = time.perf_counter()
    processes = processes or _Alone()
    paths, output = expand(structures), Path(output)
    check_limits(batch_size, None)
    _check_output(output, paths, properties)
    run = PartialRun(output, _identity(model, properties, batch_size), _description(model, name, paths), processes.world_size)
    if workers is None:
        workers = default_workers(model.reference_charges.device, processes.world_size)
    pipeline = Pipeline(model, properties, batch_size in ("auto", None), workers)
    with run.held(resume, processes.global_rank == 0):
        before = after = _begin(run, resume, processes)
        part, undefined = Part(run, processes.global_rank, processes.world_size), Counter[str]()
        try:
            pipeline.warm_up()
            units = divide(iter_sources(list(paths)), batch_size, digests=True)
            for done in pipeline.run(part.remaining(units)):
                undefined.update(leave_out_undefined(done))
                part.append(done)
                progress(len(done.frames), done.unit.n_atoms)
        finally:
            part.close()
            run.discard()
        _wait(processes, run)
        if processes.global_rank == 0:
            for missing, number in undefined.items():
                logger.info("%s: no value for %d structures: %s", missing, number, PROPERTIES[missing].why)
            after = _count(run)
            run.finish()
    seconds = time.perf_counter() - start
    return Summary(*after, before[0], seconds, (after[1] - before[1]) / seconds, pipeline.evaluate.seconds / seconds)


def leave_out_undefined(done: Done) -> Iterator[str]:
    """Put no numbers where a property means nothing, and yield its name for each such structure."""
    for frame, result in zip(done.frames, done.results, strict=True):
        for name, value in result.items():
            if not PROPERTIES[name].is_defined(frame.pbc):
                result[name] = np.full_like(value, np.nan)
                yield name


def _begin(run: PartialRun, resume: bool, processes: Processes) -> tuple[int, int]:
    """Make or take up the folder, in step with the other processes; gives what is there already."""
    run.check(resume)
    _wait(processes, run)
    if processes.global_rank == 0:
        run.create()
    _wait(processes, run)
    before = _count(run)
    if before[0] and processes.global_rank == 0:
        logger.info("going on behind %d structures", before[0])
    _wait(processes, run)  # Every process has counted before one begins to write.
    return before


def _wait(processes: Processes, run: PartialRun) -> None:
    try:
        processes.barrier()
    except RuntimeError as error:
        raise DataError(
            f"{run.folder}: another process has ended before its work was done; what was written is kept, go on with --resume"
        ) from error


def _count(run: PartialRun) -> tuple[int, int]:
    """Structures and atoms that all processes have written."""
    records = np.concatenate([run.records(rank) for rank in range(run.n_processes)])
    return int(records["frames"].sum()), int(records["atoms"].sum())


def _check_output(output: Path, paths: Collection[Path], properties: Collection[str]) -> None:
    check_output(output, paths, (".extxyz", ".xyz", ".h5", ".hdf5"), "predictions")
    unwritten = sorted(set(properties) - set(PROPERTIES))
    if unwritten:
        raise ModelError(f"{', '.join(unwritten)}: cannot be written to a file; there are {', '.join(PROPERTIES)}")


def _identity(model: PolarizationModel, properties: Collection[str], batch_size: int | str | None) -> dict[str, Any]:
    """What must be the same for a prediction to go on."""
    digest = blake2b(digest_size=16)
    digest.update(model.config.model_dump_json().encode())
    for tensor_name, tensor in sorted(model.own_tensors().items()):
        digest.update(tensor_name.encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return {
        "model": digest.hexdigest(),
        "properties": list(properties),
        "precision": _precision(model),
        "batch_size": "auto" if batch_size is None else batch_size,
    }


def _description(model: PolarizationModel, name: str, paths: Collection[Path]) -> dict[str, Any]:
    return {
        "package_version": __version__,
        "model": name,
        "precision": _precision(model),
        "heads": list(model.heads),
        "structures": [str(path) for path in paths],
    }


def _precision(model: PolarizationModel) -> str:
    return str(model.reference_charges.dtype).removeprefix("torch.")
