"""Structures one by one, in pieces and in any packing: the same structures and the same predictions."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path

import ase.io
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bec_mace.data import Frame, build_graph, read_frames
from bec_mace.data.sources import iter_sources, to_frame
from bec_mace.errors import DataError
from bec_mace.models import PolarizationModel
from bec_mace.predict import predict
from bec_mace.predict.work_units import divide
from tests.any_structures import structures

Z = "born_effective_charges"
LIMITS = st.integers(1, 12) | st.none()


def assert_same(found: list[Frame], expected: list[Frame], atol: float = 0.0) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in ("atomic_numbers", "pbc"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        for name in ("positions", "cell"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=0, atol=atol)


@given(st.data(), st.lists(structures(), min_size=1, max_size=6), st.sampled_from(["extxyz", "extxyz.gz", "traj"]))
@settings(max_examples=20)
def test_files_in_any_pieces_are_the_whole(data: st.DataObject, frames: list[Frame], kind: str) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(frames) - 1)), label="cuts") if len(frames) > 1 else [])
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(frames))] * 2), label="part"))
    with tempfile.TemporaryDirectory() as folder:
        whole, pieces = Path(folder) / f"whole.{kind}", []
        atoms = [frame.to_atoms() for frame in frames]
        ase.io.write(whole, atoms)
        for number, (first, last) in enumerate(zip([0, *cuts], [*cuts, len(frames)], strict=True)):
            pieces.append(Path(folder) / f"piece_{number}.{kind}")
            ase.io.write(pieces[-1], atoms[first:last])
        expected = read_frames(whole)
        assert_same(expected, frames, atol=1e-8)
        assert_same(read_frames(pieces), expected)
        assert_same([to_frame(source) for source in iter_sources(pieces)], expected)
        part = [to_frame(source) for source in islice(iter_sources(whole), start, stop)]
    assert_same(part, expected[start:stop])


@given(st.lists(structures(), max_size=12), LIMITS, LIMITS)
def test_units_are_the_stream_within_the_limits(frames: list[Frame], batch_size: int | None, max_atoms: int | None) -> None:
    units = list(divide(frames, batch_size, max_atoms))
    assert [source for unit in units for source in unit.sources] == frames
    assert [unit.first for unit in units] == np.cumsum([0] + [len(unit.sources) for unit in units])[: len(units)].tolist()
    for unit in units:
        assert batch_size is None or len(unit.sources) <= batch_size
        assert max_atoms is None or unit.n_atoms <= max_atoms or len(unit.sources) == 1


@given(frames=st.lists(structures(max_atoms=3), min_size=1, max_size=5), batch_size=LIMITS, max_atoms=LIMITS)
@settings(max_examples=20)
def test_predictions_do_not_depend_on_the_packing(
    model: PolarizationModel, frames: list[Frame], batch_size: int | None, max_atoms: int | None
) -> None:
    try:
        graphs = [build_graph(frame, model.r_max) for frame in frames]
    except DataError:
        assume(False)  # Atoms at the same place.
    found = list(predict(model, frames, (Z, "energy", "forces"), batch_size, max_atoms=max_atoms))
    for graph, result in zip(graphs, found, strict=True):
        alone = {name: value.detach().numpy() for name, value in model(graph, (Z, "energy", "forces")).items()}
        for name, value in alone.items():
            value = value[0] if name == "energy" else value
            scale = max(1.0, np.abs(value).max())
            np.testing.assert_allclose(result[name], value, rtol=0, atol=1e-11 * scale, err_msg=name)
