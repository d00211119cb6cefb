import numpy as np
import pytest
import torch

from bec_mace.data import Frame, build_graph
from bec_mace.errors import ModelError
from bec_mace.predict import predict

Z = "born_effective_charges"


@pytest.mark.parametrize("options", [{}, {"batch_size": 2}, {"max_atoms": 10}, {"max_atoms": 1}])
def test_batches_keep_order_and_values(model, frames, options):
    results = list(predict(model, frames, (Z, "energy", "head_contributions"), **options))
    assert len(results) == len(frames)
    for frame, result in zip(frames, results, strict=True):
        single = model(build_graph(frame, model.r_max), (Z, "energy"))
        np.testing.assert_allclose(result[Z], single[Z].numpy(), atol=1e-12)
        np.testing.assert_allclose(result["energy"], single["energy"][0].numpy(), rtol=1e-14)
        np.testing.assert_allclose(sum(result["head_contributions"].values()), result[Z], atol=1e-12)


def test_frames_are_read_as_they_are_needed(model, frames):
    seen = []

    def reading():
        for number, frame in enumerate(frames):
            seen.append(number)
            yield frame

    results = predict(model, reading(), batch_size=2)
    assert seen == []
    next(results)
    assert seen == [0, 1, 2]


def test_limits_hold(model, frames, monkeypatch):
    sizes = []
    forward = type(model).forward
    monkeypatch.setattr(
        type(model),
        "forward",
        lambda self, graph, **options: (sizes.append((graph.n_frames, graph.n_atoms)), forward(self, graph, **options))[1],
    )
    list(predict(model, frames, batch_size=3, max_atoms=12))
    assert all(n_frames <= 3 and (n_atoms <= 12 or n_frames == 1) for n_frames, n_atoms in sizes)
    assert sum(n_frames for n_frames, _ in sizes) == len(frames) > len(sizes)


def test_results_share_nothing(model, frames):
    first, second = list(predict(model, [frames[0], frames[0]]))
    first[Z][:] = 0.0
    assert np.abs(second[Z]).max() > 0.01


def test_dtype_is_that_asked_for(model, frames):
    try:
        assert next(predict(model, frames[:1], dtype=torch.float32))[Z].dtype == np.float32
    finally:
        model.to(torch.float64)


def test_labels_are_not_used(model, frames):
    bare = Frame(frames[0].atomic_numbers, frames[0].positions, frames[0].cell, frames[0].pbc)
    found = [next(predict(model, [frame]))[Z] for frame in (frames[0], bare)]
    np.testing.assert_array_equal(*found)


def test_nothing_gives_nothing(model):
    assert list(predict(model, [])) == []


@pytest.mark.parametrize("name", ["batch_size", "max_atoms"])
def test_impossible_limits_are_refused(model, frames, name):
    with pytest.raises(ModelError, match=f"{name} must be at least 1, got 0"):
        next(predict(model, frames, **{name: 0}))


def test_a_property_the_model_does_not_give_is_refused(model, frames):
    with pytest.raises(ModelError, match="does not give polarizability"):
        next(predict(model, frames, ("polarizability",)))
