import numpy as np
import pytest
import torch

from bec_mace.data import build_graph
from bec_mace.errors import ModelError
from bec_mace.predict import predict
from bec_mace.predict.batch_memory import BatchMemory, is_out_of_memory

Z = "born_effective_charges"
ERRORS = [
    MemoryError("no"),
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
]


def limit(monkeypatch, model, error, most_frames=10**9, most_block=10**9):
    """Let the model fail where a batch or a block is larger; returns what it was called with."""
    calls = []
    forward = type(model).forward

    def careful(self, graph, properties, block_size=None):
        calls.append((graph.n_frames, block_size))
        if graph.n_frames > most_frames or (block_size or graph.n_atoms) > most_block:
            raise error
        return forward(self, graph, properties=properties, block_size=block_size)

    monkeypatch.setattr(type(model), "forward", careful)
    return calls


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__ + str(error)[:12])
def test_a_batch_that_does_not_fit_is_halved(model, frames, monkeypatch, error):
    expected = [result[Z] for result in predict(model, frames)]
    calls = limit(monkeypatch, model, error, most_frames=2)
    found = [result[Z] for result in predict(model, frames, batch_size=5)]
    # The second batch of five is known not to fit before it is tried.
    assert calls[:4] == [(5, None), (2, None), (3, None), (1, None)]
    assert sum(n_frames for n_frames, _ in calls if n_frames <= 2) == len(frames)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-13)


def test_a_frame_that_does_not_fit_goes_in_blocks(model, frames, monkeypatch):
    expected = next(predict(model, frames[-1:]))[Z]
    calls = limit(monkeypatch, model, MemoryError(), most_block=2)
    found = next(predict(model, frames[-1:]))[Z]
    sizes = [block for _, block in calls]
    assert sizes[0] is None and sizes[-1] <= 2 < sizes[-2]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_frame_for_which_there_is_no_memory_is_named(model, frames, monkeypatch):
    limit(monkeypatch, model, MemoryError(), most_block=0)
    with pytest.raises(ModelError, match=r"frame 1: \d+ atoms with \d+ edges do not fit .* not even in blocks of one atom"):
        list(predict(model, frames[1:2]))


def test_other_errors_are_not_caught(model, frames, monkeypatch):
    limit(monkeypatch, model, RuntimeError("mat1 and mat2 must have the same dtype"), most_frames=0)
    with pytest.raises(RuntimeError, match="same dtype"):
        list(predict(model, frames))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_free_memory_decides_before_anything_is_tried(model, frames, monkeypatch):
    """On a CPU the system ends a process that takes too much, and there is no error to catch."""
    graphs = [build_graph(frame, model.r_max) for frame in frames]
    needed = BatchMemory(model, (Z,)).of(sum(graph.n_atoms for graph in graphs), sum(graph.n_edges for graph in graphs))
    monkeypatch.setattr("bec_mace.predict.batch_memory.free_memory", lambda device: needed)
    calls = limit(monkeypatch, model, MemoryError())
    list(predict(model, frames, batch_size=len(frames)))
    assert len(calls) == 2 and all(block is None for _, block in calls)
    monkeypatch.setattr("bec_mace.predict.batch_memory.free_memory", lambda device: needed // len(frames) // 10)
    list(predict(model, frames[-1:]))
    assert calls[-1][1] is not None


def test_estimates_follow_what_was_measured(model, monkeypatch):
    memory = BatchMemory(model, (Z,))
    estimate = memory.of(100, 2000)
    memory.learn(100, 2000, round(3 * estimate))
    assert memory.of(200, 4000) == pytest.approx(6 * estimate, rel=1e-6)
    memory.learn(100, 2000, round(estimate))
    assert memory.of(100, 2000) == pytest.approx(2 * estimate, rel=1e-6)


def test_a_batch_grows_in_steps_and_stays_below_what_failed(model, frames, monkeypatch):
    memory = BatchMemory(model, (Z,))
    monkeypatch.setattr("bec_mace.predict.batch_memory.free_memory", lambda device: 1 << 40)
    graph = build_graph(frames[0], model.r_max)
    n_atoms, n_edges = graph.n_atoms, graph.n_edges
    assert not memory.admits(2 * n_atoms, 2 * n_edges)
    memory.finish([graph], memory.start())
    assert memory.admits(4 * n_atoms, 4 * n_edges) and not memory.admits(5 * n_atoms, 5 * n_edges)
    memory.overflow([graph] * 3)
    assert memory.admits(2 * n_atoms, 2 * n_edges) and not memory.admits(3 * n_atoms, 3 * n_edges)
    assert not memory.fits([graph] * 3)
    monkeypatch.setattr("bec_mace.predict.batch_memory.free_memory", lambda device: 1)
    assert not memory.admits(2 * n_atoms, 2 * n_edges)
