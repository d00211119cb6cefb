"""Labels of any kind, in any frame, come back as they were written, or are refused by name."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given
from hypothesis import strategies as st

from bec_mace.data import Frame, read_frames
from bec_mace.data.labels import INDEX_ORDERS, extract_labels
from bec_mace.errors import DataError
from bec_mace.properties import PROPERTIES
from tests.any_structures import LABELS, labels, structures

Z = "born_effective_charges"


@st.composite
def labelled(draw: st.DrawFn) -> Frame:
    frame = draw(structures())
    return replace(frame, labels=draw(labels(len(frame))))


def assert_same_labels(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], atol: float = 0.0) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape and found[name].dtype == np.float64
        np.testing.assert_allclose(found[name], value, rtol=1e-15, atol=atol, err_msg=name)


def as_results(frame: Frame) -> Atoms:
    """Labels as the results of a calculator, the only place that ASE's own files have for them."""
    atoms = replace(frame, labels={}).to_atoms()
    atoms.calc = SinglePointCalculator(atoms, **{name: value for name, value in frame.labels.items() if name in all_properties})
    return atoms


@given(st.lists(labelled(), min_size=1, max_size=3), st.booleans())
def test_labels_come_back_from_a_file(frames: list[Frame], extended: bool) -> None:
    if not extended:
        frames = [replace(frame, labels={k: v for k, v in frame.labels.items() if k in all_properties}) for frame in frames]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("frames.extxyz" if extended else "frames.traj")
        ase.io.write(path, [frame.to_atoms() if extended else as_results(frame) for frame in frames])
        found = read_frames(path)
    assert len(found) == len(frames)
    for one, other in zip(found, frames, strict=True):
        assert_same_labels(one.labels, other.labels, atol=1e-8)
        np.testing.assert_array_equal(one.atomic_numbers, other.atomic_numbers)
        np.testing.assert_array_equal(one.pbc, other.pbc)
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-8)
        np.testing.assert_allclose(one.cell, other.cell, atol=1e-8)


@given(st.data(), labelled(), st.sampled_from(INDEX_ORDERS))
def test_any_key_and_either_order(data: st.DataObject, frame: Frame, order: str) -> None:
    """Each property under one of its keys or one of the user's own, flat or not."""
    atoms, keys = replace(frame, labels={}).to_atoms(), {}
    for name, value in frame.labels.items():
        row = PROPERTIES[name]
        own = data.draw(st.booleans(), label=f"own key of {name}")
        key = f"my_{name}" if own else data.draw(st.sampled_from(row.keys), label=f"key of {name}")
        if own:
            keys[name] = key
        stored = value.swapaxes(-1, -2) if name == Z and order == "displacement_first" else value
        if row.shape and data.draw(st.booleans(), label="flat"):
            stored = stored.reshape(*stored.shape[: stored.ndim - len(row.shape)], -1)
        if row.per == "atom":
            atoms.set_array(key, stored)
        else:
            atoms.info[key] = stored
    assert_same_labels(extract_labels(atoms, "x", keys=keys, index_order=order), frame.labels)


@given(st.sampled_from(LABELS), st.integers(1, 4), st.lists(st.integers(1, 7), max_size=3).map(tuple))
def test_a_wrong_shape_is_refused_by_name(name: str, n: int, shape: tuple[int, ...]) -> None:
    row = PROPERTIES[name]
    lead, size = (n,) if row.per == "atom" else (), int(np.prod(row.shape))
    expected = (*lead, *row.shape)
    right = {expected, (*lead, size)}
    if n == 1:
        right |= {(size,)} | ({()} if expected == (1,) else set())
    if name == "stress":
        right |= {(6,)}
    atoms = Frame(np.ones(n, int), np.arange(3.0 * n).reshape(n, 3), np.zeros((3, 3)), np.zeros(3, bool)).to_atoms()
    atoms.info[row.keys[0]] = np.ones(shape)
    if shape in right:
        assert extract_labels(atoms, "here")[name].shape == expected
    else:
        message = re.escape(f"here: {row.keys[0]!r} ({name}) must have shape {expected}")
        with pytest.raises(DataError, match=f"{message}.*got {re.escape(str(shape))}"):
            extract_labels(atoms, "here")


@given(st.data(), st.sampled_from(LABELS), st.integers(1, 4), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_what_is_no_number_is_refused_by_name_and_atom(data: st.DataObject, name: str, n: int, value: float) -> None:
    row = PROPERTIES[name]
    tensor = np.ones((n, *row.shape) if row.per == "atom" else row.shape)
    place = data.draw(st.integers(0, tensor.size - 1), label="place")
    tensor.flat[place] = value
    atoms = Frame(np.ones(n, int), np.arange(3.0 * n).reshape(n, 3), np.zeros((3, 3)), np.zeros(3, bool)).to_atoms()
    atoms.info[row.keys[-1]] = tensor
    if np.isnan(tensor).all():  # which says that there is none
        assert extract_labels(atoms, "here") == {}
        return
    where = f" at atom {place // int(np.prod(row.shape))}" if row.per == "atom" else ""
    with pytest.raises(DataError, match=re.escape(f"here: {row.keys[-1]!r} ({name}) is not finite{where}.")):
        extract_labels(atoms, "here")
