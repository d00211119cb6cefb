"""How much goes into one evaluation, from the free memory of the device."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from bec_mace.data.graph import Graph
from bec_mace.models import PolarizationModel
from bec_mace.models.footprint import choose_block_size, estimate_memory, free_memory

_SHARE = 0.7
"""Of the free memory that a batch may take."""
_GROWTH = 4.0
"""How much larger a batch may be than the largest that was seen to fit."""
MOST_ATOMS = 100_000
"""Atoms in a batch on a GPU; it is busy with less, and what comes before and after the GPU should overlap."""

_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the device or of the machine is not enough."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


class BatchMemory:
    """What fits into one evaluation: estimated from sizes, corrected by what was measured.

    On a GPU the peak of every batch is measured, and batches grow step by step towards a share of the free memory. On a CPU
    nothing is measured, and a unit of work is a batch: it is as fast as any.

    Args:
        model: On its device, in its precision.
        properties: What is asked for.

    Attributes:
        grows: Whether units of work are joined.
    """

    def __init__(self, model: PolarizationModel, properties: Collection[str]) -> None:
        self._model, self._properties = model, tuple(properties)
        self.device = model.reference_charges.device
        self.grows = self.device.type == "cuda"
        self._correction = 1.0
        self._largest = 0.0
        self._ceiling = float("inf")

    def of(self, n_atoms: int, n_edges: int) -> float:
        """Bytes that an evaluation of so many atoms and edges takes, to the best of what is known."""
        return self._correction * estimate_memory(self._model, n_atoms, n_edges, self._properties)

    def fits(self, graphs: Sequence[Graph]) -> bool:
        """Whether graphs fit together."""
        needed = self.of(*_size(graphs))
        return needed < self._ceiling and needed <= _SHARE * free_memory(self.device)

    def admits(self, n_atoms: int, n_edges: int) -> bool:
        """Whether a batch may grow to this size; the first are small."""
        needed = self.of(n_atoms, n_edges)
        return (
            n_atoms <= MOST_ATOMS
            and needed < self._ceiling
            and needed <= _GROWTH * self._largest
            and needed <= _SHARE * free_memory(self.device)
        )

    def block_size(self, graph: Graph) -> int | None:
        """Atoms in a block for a graph that is alone; None if it fits at once."""
        free = round(free_memory(self.device) / self._correction)
        return choose_block_size(self._model, graph.n_atoms, graph.n_edges, self._properties, free)

    def start(self) -> int:
        """Begin to measure an evaluation; gives what is in use before it."""
        if self.device.type != "cuda":
            return 0
        torch.cuda.reset_peak_memory_stats(self.device)
        return torch.cuda.memory_allocated(self.device)

    def finish(self, graphs: Sequence[Graph], before: int) -> None:
        """Learn from an evaluation that succeeded; waits for the device."""
        n_atoms, n_edges = _size(graphs)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self.learn(n_atoms, n_edges, torch.cuda.max_memory_allocated(self.device) - before)
        self._largest = max(self._largest, self.of(n_atoms, n_edges))

    def learn(self, n_atoms: int, n_edges: int, peak: int) -> None:
        """Correct the estimate by a measured peak: at once where it was too low, slowly where it was too high."""
        estimate = estimate_memory(self._model, n_atoms, n_edges, self._properties)
        measured = peak / max(estimate, 1)
        self._correction = max(measured, 0.5 * (self._correction + measured))

    def overflow(self, graphs: Sequence[Graph]) -> None:
        """Learn from an evaluation that did not fit; gives cached memory back."""
        self._ceiling = min(self._ceiling, 0.7 * self.of(*_size(graphs)))
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _size(graphs: Sequence[Graph]) -> tuple[int, int]:
    return sum(graph.n_atoms for graph in graphs), sum(graph.n_edges for graph in graphs)
