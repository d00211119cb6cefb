from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from bec_mace.data import Frame, read_frames
from bec_mace.errors import DataError


@pytest.fixture
def frame() -> Frame:
    return Frame.from_atoms(Atoms("NaCl", positions=[[0, 0, 0], [2.8, 0, 0]], cell=[5.6] * 3, pbc=True), source="a.xyz")


def test_from_atoms_copies_the_structure(frame: Frame) -> None:
    assert frame.atomic_numbers.tolist() == [11, 17]
    assert frame.atomic_numbers.dtype == np.int64
    assert frame.positions[1].tolist() == [2.8, 0, 0]
    assert frame.cell.tolist() == [[5.6, 0, 0], [0, 5.6, 0], [0, 0, 5.6]]
    assert frame.pbc.tolist() == [True] * 3
    assert len(frame) == 2


def test_labels_survive_a_file(files, write_extxyz) -> None:
    before = read_frames(files / "water_clusters_rpbe_d3.extxyz")
    after = read_frames(write_extxyz([frame.to_atoms() for frame in before]))
    assert len(after) == 10
    for old, new in zip(before, after, strict=True):
        assert set(new.labels) == {"born_effective_charges", "energy", "forces", "dipole", "polarizability"}
        for name, value in old.labels.items():
            np.testing.assert_allclose(new.labels[name], value, atol=1e-8)
        assert new.info == old.info
        assert not new.pbc.any()


def test_no_atoms() -> None:
    with pytest.raises(DataError, match="empty.xyz: no atoms"):
        Frame.from_atoms(Atoms(), source="empty.xyz")


def test_positions_that_are_not_finite(frame: Frame) -> None:
    positions = frame.positions.copy()
    positions[1, 2] = np.nan
    with pytest.raises(DataError, match=r"a\.xyz: the position of atom 1 is not finite"):
        replace(frame, positions=positions)


def test_positions_of_the_wrong_shape(frame: Frame) -> None:
    with pytest.raises(DataError, match=r"positions must have shape \(2, 3\), got \(1, 3\)"):
        replace(frame, positions=frame.positions[:1])


def test_dummy_atom() -> None:
    with pytest.raises(DataError, match="atom 1 has atomic number 0"):
        Frame.from_atoms(Atoms("HX", positions=[[0, 0, 0], [1, 0, 0]]))


def test_cell_that_is_not_finite(frame: Frame) -> None:
    with pytest.raises(DataError, match="the cell is not finite"):
        replace(frame, cell=np.full((3, 3), np.inf))


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], [True, True, True]),
        ([[5, 0, 0], [0, 5, 0], [5, 5, 0]], [True, True, True]),
        ([[5, 0, 0], [10, 0, 0], [0, 0, 9]], [True, True, False]),
        ([[5, 0, 0], [0, 0, 0], [0, 0, 9]], [False, True, False]),
    ],
)
def test_periodic_cell_without_volume(frame: Frame, cell: list[list[int]], pbc: list[bool]) -> None:
    with pytest.raises(DataError, match="enclose no volume"):
        replace(frame, cell=np.array(cell, float), pbc=np.array(pbc))


def test_vectors_too_short_to_divide_by_are_refused_without_a_warning(frame: Frame) -> None:
    cell = np.array([[2.5e-158, -1.0, 0.0], [2.5e-155, -1.0, 0.0], [1e-162, 0.0, -1e-200]])
    with pytest.raises(DataError, match="enclose no volume"):
        replace(frame, cell=cell, pbc=np.ones(3, dtype=bool))


def test_directions_without_periodicity_need_no_vector(frame: Frame) -> None:
    cell = np.array([[0, 0, 0], [0, 4.0, 0], [0, 0, 0]])
    assert replace(frame, cell=cell, pbc=np.array([False, True, False])).cell[1, 1] == 4.0


def test_label_of_the_wrong_shape(frame: Frame) -> None:
    with pytest.raises(DataError, match=r"forces must have shape \(2, 3\), got \(3, 3\)"):
        replace(frame, labels={"forces": np.zeros((3, 3))})


def test_label_that_is_not_finite(frame: Frame) -> None:
    with pytest.raises(DataError, match="energy holds a value that is not finite"):
        replace(frame, labels={"energy": np.array(np.nan)})
