"""Evaluation of graphs that fits into the memory, whatever it takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from typing import Any

from bec_mace.data import collate
from bec_mace.data.graph import Graph
from bec_mace.errors import ModelError
from bec_mace.models import PolarizationModel
from bec_mace.models.familiarity import Familiarity
from bec_mace.predict.batch_memory import BatchMemory, is_out_of_memory
from bec_mace.predict.work_units import check_finite, split_outputs

logger = logging.getLogger(__name__)

Results = list[dict[str, Any]]
_LARGEST_BLOCK = 256


class Evaluator:
    """Evaluates batches. One that does not fit is halved; a frame that does not fit alone goes in blocks of edges.

    Args:
        model: On its device, in its precision.
        properties: What is asked for.
        memory: Decides what fits.

    Attributes:
        seconds: Time spent so far in the model, results on the CPU included.
    """

    def __init__(self, model: PolarizationModel, properties: Collection[str], memory: BatchMemory) -> None:
        self._model, self._properties, self._memory = model, tuple(properties), memory
        self._familiarity = Familiarity(model)
        self._asked = self._familiarity.asked(properties)
        self.seconds = 0.0

    def __call__(self, graphs: Sequence[Graph], sources: Sequence[str]) -> Results:
        """Results of graphs of one frame each, by frame and in order.

        Args:
            graphs: On the CPU.
            sources: Where they come from, for messages.

        Raises:
            ModelError: A frame does not fit even in blocks of one atom, or what the model gives for it is not finite.
        """
        if len(graphs) == 1:
            return self._alone(graphs[0], sources[0])
        results = self._attempt(graphs, sources, None) if self._memory.fits(graphs) else None
        if results is not None:
            return results
        half = len(graphs) // 2
        return self(graphs[:half], sources[:half]) + self(graphs[half:], sources[half:])

    def _alone(self, graph: Graph, source: str) -> Results:
        size = self._memory.block_size(graph)
        while True:
            results = self._attempt([graph], [source], size)
            if results is not None:
                return results
            if size == 1:
                raise ModelError(
                    f"{source}: {graph.n_atoms} atoms with {graph.n_edges} edges do not fit into the memory of "
                    f"{self._memory.device}, not even in blocks of one atom; use a machine with more memory"
                )
            size = max(1, min(_LARGEST_BLOCK, graph.n_atoms) // 2) if size is None else size // 2
            logger.info("%s: does not fit into memory at once, goes on in blocks of %d atoms", source, size)

    def _attempt(self, graphs: Sequence[Graph], sources: Sequence[str], block_size: int | None) -> Results | None:
        """Results, or None where the memory is not enough."""
        before = self._memory.start()
        start = time.perf_counter()
        try:
            batch = collate(graphs).to(device=self._memory.device)
            outputs = self._model(batch, properties=self._asked, block_size=block_size)
            if block_size is None:
                self._memory.finish(graphs, before)
            # The model gives its outputs in no particular order; files need one.
            ordered = {name: outputs[name] for name in (*self._properties, *sorted(self._asked - set(self._properties)))}
            results = list(split_outputs(ordered, [graph.n_atoms for graph in graphs]))
            for result, graph, source in zip(results, graphs, sources, strict=True):
                check_finite(result, source, graph.pbc[0].tolist())
                self._familiarity.note(graph.atomic_numbers.numpy(), result, source)
            return [{name: result[name] for name in self._properties} for result in results]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        finally:
            self.seconds += time.perf_counter() - start
        # Only here is nothing left of what the evaluation had made.
        if block_size is None:
            self._memory.overflow(graphs)
        return None
