"""Parsing and neighbour lists, done ahead by other processes or a thread, in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import torch

from bec_mace.data import Frame
from bec_mace.data.neighbours import Neighbours
from bec_mace.data.sources import prepare
from bec_mace.errors import DataError, ModelError
from bec_mace.predict.work_units import Unit

_MOST_WORKERS = 8


@dataclass(frozen=True)
class Prepared:
    """A unit of work with frames and neighbour lists."""

    unit: Unit
    content: list[tuple[Frame, Neighbours]]

    @property
    def n_edges(self) -> int:
        """Number of edges of all frames."""
        return sum(len(neighbours.sender) for _, neighbours in self.content)


def default_workers(device: torch.device, n_processes: int = 1) -> int:
    """Processes that keep a GPU busy; none for a CPU, where the model takes nearly all of the time anyway.

    Args:
        device: Where the model is.
        n_processes: Processes that share the work; those of one node share its cores, where torchrun says how many they are.
    """
    if device.type == "cpu":
        return 0
    n_processes = int(os.environ.get("LOCAL_WORLD_SIZE", n_processes))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(_MOST_WORKERS, cores // n_processes - 1))


def prepared(
    units: Iterable[Unit], r_max: float, workers: int | None = 0, ahead: Callable[[], int] = lambda: 0
) -> Generator[Prepared, None, None]:
    """Units with neighbour lists, in order.

    What comes before a unit that cannot be read or used is given before its error is raised.

    Args:
        units: Units of work; read as far ahead as the workers need.
        r_max: Cutoff in Å.
        workers: Processes. 0 does everything in line; None takes a thread, which works while the device computes.
        ahead: Units to hold ready beyond those that the workers are busy with.

    Raises:
        DataError: A structure that cannot be read or used, or a process that died.
        ModelError: The number of workers is negative.
    """
    if workers is not None and not (isinstance(workers, int) and workers >= 0):
        raise ModelError(f"workers must be a whole number, 0 or more, got {workers!r}")
    if workers == 0:
        for unit in units:
            yield Prepared(unit, prepare(unit.sources, r_max))
        return
    executor = _executor(workers)
    try:
        yield from _in_order(executor, iter(units), r_max, lambda: 2 * (workers or 1) + ahead())
    except BrokenProcessPool as error:
        raise DataError(
            "a process that finds neighbours died, for lack of memory or because a script calls predict without "
            "`if __name__ == '__main__':`; set workers to 0 to work without such processes"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _in_order(executor: Executor, units: Iterator[Unit], r_max: float, length: Callable[[], int]) -> Iterator[Prepared]:
    waiting: deque[tuple[Unit, Future[list[tuple[Frame, Neighbours]]]]] = deque()
    failure: Exception | None = None
    while True:
        while failure is None and len(waiting) < length():
            try:
                unit = next(units, None)
            except Exception as error:  # told when its turn comes
                failure = error
                break
            if unit is None:
                break
            waiting.append((unit, executor.submit(prepare, unit.sources, r_max)))
        if not waiting:
            break
        unit, future = waiting.popleft()
        yield Prepared(unit, future.result())
    if failure is not None:
        raise failure


def _executor(workers: int | None) -> Executor:
    if workers is None:
        return ThreadPoolExecutor(1, thread_name_prefix="neighbours")
    # A forked process would hold the parent's threads and device; a new one has nothing but this package.
    # Ctrl-C is for this one, which then ends the others.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
