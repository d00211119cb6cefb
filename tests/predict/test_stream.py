import ase.io
import numpy as np
import pytest
import torch
from ase.io import write

import bec_mace
from bec_mace.data import Frame
from bec_mace.data.sources import FrameText, iter_sources, to_frame
from bec_mace.errors import DataError, ModelError
from bec_mace.predict import batches, predict
from bec_mace.predict.batch_memory import BatchMemory
from bec_mace.predict.stream import Pipeline
from bec_mace.predict.work_units import divide
from bec_mace.testing.small_models import copy_model

Z = "born_effective_charges"


def values(results):
    return [result[Z] for result in results]


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_frames_atoms_and_files_are_one_to_it(model, path, frames):
    assert [set(result) for result in bec_mace.predict(model, frames[:1], (Z,))] == [{Z}]
    expected = values(predict(model, frames))
    assert_same(values(predict(model, [frame.to_atoms() for frame in frames])), expected)
    assert_same(values(predict(model, path)), expected)
    assert_same(values(predict(model, iter([str(path)]))), expected)
    for one in (frames[3], frames[3].to_atoms()):
        np.testing.assert_allclose(values(predict(model, one)), expected[3:4], atol=1e-13)
    with pytest.raises(DataError, match="structure 1: must be a Frame, ASE atoms or a file, got int"):
        list(predict(model, [frames[0], 3]))


def test_the_device_is_where_it_computes(model, frames, device):
    expected = values(predict(model, frames))
    on_device = copy_model(model)
    found = values(predict(on_device, frames, device=device))
    assert on_device.reference_charges.device.type == device.type
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("workers", [None, 1])
def test_workers_keep_order_and_values(model, path, workers):
    """A thread, and a process that knows nothing but the package."""
    expected = values(predict(model, path, max_atoms=20, workers=0))
    pipeline = Pipeline(model, (Z,), joins=False, workers=workers)
    done = list(pipeline.run(divide(iter_sources(path), None, 20)))
    assert len(done) > 2
    assert [unit.unit.number for unit in done] == list(range(len(done)))
    assert_same([result[Z] for unit in done for result in unit.results], expected)
    assert pipeline.evaluate.seconds > 0


@pytest.mark.parametrize("workers", [0, None])
def test_what_comes_before_a_bad_frame_is_given_first(model, frames, tmp_path, workers):
    atoms = [frame.to_atoms() for frame in frames[:4]]
    atoms[2].positions[1] = atoms[2].positions[0]
    write(tmp_path / "bad.extxyz", atoms)
    pipeline = Pipeline(model, (Z,), joins=False, workers=workers)
    done = []
    with pytest.raises(DataError, match=r"bad.extxyz, frame 2: atoms 0 and 1 are at the same place"):
        done.extend(pipeline.run(divide(iter_sources(tmp_path / "bad.extxyz"), 1)))
    # `extend` keeps what came before the error.
    assert [unit.unit.first for unit in done] == [0, 1]


def test_a_file_that_breaks_off_is_told_where(model, path, tmp_path):
    text = path.read_text()
    (tmp_path / "cut.extxyz").write_text(text[: int(0.6 * len(text))])
    count = 0
    with pytest.raises(DataError, match=r"cut.extxyz, frame \d+: ASE cannot read it") as caught:
        for _ in predict(model, tmp_path / "cut.extxyz", batch_size=1):
            count += 1
    assert 0 < count == int(str(caught.value).split("frame ")[1].split(":")[0])


def test_a_dead_worker_is_explained(model, path, monkeypatch):
    from concurrent.futures import Future
    from concurrent.futures.process import BrokenProcessPool

    class Dead:
        def submit(self, *arguments):
            future = Future()
            future.set_exception(BrokenProcessPool("gone"))
            return future

        def shutdown(self, **options):
            pass

    monkeypatch.setattr("bec_mace.predict.workers._executor", lambda workers: Dead())
    with pytest.raises(DataError, match="a process that finds neighbours died.*set workers to 0"):
        list(predict(model, path, workers=2))
    with pytest.raises(ModelError, match="workers must be a whole number, 0 or more, got -1"):
        list(predict(model, path, workers=-1))


def test_units_follow_from_the_numbers_of_atoms(path, frames):
    sizes = [len(frame) for frame in frames]
    units = list(divide(iter_sources(path), None, 20, digests=True))
    assert [[len(source) for source in unit.sources] for unit in units] == list(batches_of_sizes(sizes, 20))
    assert [unit.first for unit in units] == list(np.cumsum([0] + [len(unit.sources) for unit in units[:-1]]))
    assert [[len(item) for item in batch] for batch in batches(frames, None, 20)] == list(batches_of_sizes(sizes, 20))
    again = list(divide(iter_sources(path), None, 20, digests=True))
    assert [unit.digest for unit in units] == [unit.digest for unit in again]
    assert len({unit.digest for unit in units}) == len(units)
    moved = [
        Frame(frame.atomic_numbers, frame.positions + (number == 3), frame.cell, frame.pbc)
        for number, frame in enumerate(frames)
    ]
    digests = [[unit.digest for unit in divide(stream, 1, digests=True)] for stream in (frames, moved)]
    assert [one == other for one, other in zip(*digests, strict=True)] == [True] * 3 + [False] * (len(frames) - 3)


def batches_of_sizes(sizes, most):
    batch = []
    for size in sizes:
        if batch and sum(batch) + size > most:
            yield batch
            batch = []
        batch.append(size)
    yield batch


def test_a_growing_batch_joins_units(model, path, monkeypatch):
    """As on a GPU: the first batch is one unit, later ones are at most four times the largest before."""
    sizes = []
    monkeypatch.setattr(BatchMemory, "__init__", growing(BatchMemory.__init__))
    forward = type(model).forward
    monkeypatch.setattr(
        type(model),
        "forward",
        lambda self, graph, **options: (sizes.append(graph.n_frames), forward(self, graph, **options))[1],
    )
    pipeline = Pipeline(model, (Z,), joins=True, workers=None)
    done = list(pipeline.run(divide(list(iter_sources(path)) * 3, 1)))
    assert [unit.unit.number for unit in done] == list(range(sum(sizes)))
    assert sizes[0] == 1 and 1 < sizes[1] <= 10 and sizes[2] > sizes[1]
    expected = values(predict(model, path))
    for number, unit in enumerate(done):
        np.testing.assert_allclose(unit.results[0][Z], expected[number % len(expected)], atol=1e-13)
    # A bad structure at the end of a batch does not take the others with it.
    broken = [*iter_sources(path), FrameText("1\nbroken\n", 1, "broken, frame 0")]
    done = []
    with pytest.raises(DataError, match="broken, frame 0"):
        done.extend(Pipeline(model, (Z,), joins=True, workers=0).run(divide(broken, 1)))
    assert len(done) == len(broken) - 1


def growing(original):
    def init(self, *arguments):
        original(self, *arguments)
        self.grows = True

    return init


def test_frames_are_read_without_labels(path, frames):
    for frame, expected in zip(map(to_frame, iter_sources(path)), frames, strict=True):
        assert frame.labels == {} and frame.source == expected.source
        np.testing.assert_array_equal(frame.positions, expected.positions)


def test_other_formats_stream_too(model, frames, tmp_path):
    write(tmp_path / "all.traj", [frame.to_atoms() for frame in frames])
    (tmp_path / "empty.extxyz").write_text("\n")
    assert_same(values(predict(model, tmp_path / "all.traj")), values(predict(model, frames)))
    with pytest.raises(DataError, match="empty.extxyz: no structures in this file"):
        list(predict(model, tmp_path / "empty.extxyz"))


def test_a_word_that_is_no_batch_size(model, frames):
    with pytest.raises(ModelError, match="batch_size must be a whole number or 'auto', got 'many'"):
        next(predict(model, frames, batch_size="many"))


def test_the_dtype_does_not_stick_to_the_worker(model, path):
    try:
        assert next(predict(model, path, dtype=torch.float32, workers=None))[Z].dtype == np.float32
    finally:
        model.to(torch.float64)


def test_the_format_of_a_file_is_found_once(model, path, monkeypatch, tmp_path):
    """For extended XYZ, and for a file that only ASE knows."""
    from bec_mace.data import formats

    looked = []
    for name in ("read_head", "is_extxyz"):
        original = getattr(formats, name)
        monkeypatch.setattr(formats, name, lambda *given, n=name, original=original: (looked.append(n), original(*given))[1])
    other = tmp_path / "frames.xyz.traj"
    ase.io.write(other, ase.io.read(path, index=":2"))
    for file in (path, other):
        assert len(list(predict(model, file))) > 1
        assert looked == ["read_head", "is_extxyz"]
        looked.clear()


@pytest.mark.parametrize("batch_size", [1, 10])
def test_results_that_are_not_finite_name_the_frame(model, frames, batch_size):
    """A weight that is not a number, which only one of the elements has."""
    broken = copy_model(model)
    with torch.no_grad():
        broken.reference_charges[broken.elements.index(8)] = float("nan")
    with pytest.raises(ModelError, match=r"frame 0: born_effective_charges that the model gives is not finite"):
        list(predict(broken, frames, batch_size=batch_size))
