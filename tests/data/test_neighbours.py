from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from bec_mace.data import Frame
from bec_mace.data.neighbours import find_neighbours
from bec_mace.errors import DataError

TRICLINIC = [[3.0, 0.4, 0.0], [1.2, 2.9, 0.3], [0.5, -1.1, 3.3]]
LEFT_HANDED = [[3.0, 0.4, 0.0], [1.2, 2.9, 0.3], [-0.5, 1.1, -3.3]]
ZERO = [[0, 0, 0]] * 3


def make_frame(positions: np.ndarray, cell, pbc) -> Frame:
    return Frame(
        np.ones(len(positions), dtype=np.int64),
        np.asarray(positions, float),
        np.array(cell, float),
        np.array(pbc, dtype=bool),
        source="here",
    )


def brute_force(frame: Frame, r_max: float, reach: int) -> set[tuple[int, ...]]:
    """(sender, receiver, shift) of every pair, from all images within ``reach`` cells."""
    found = set()
    for shift in product(*(range(-reach, reach + 1) if periodic else [0] for periodic in frame.pbc)):
        images = frame.positions + np.array(shift) @ frame.cell
        distances = np.linalg.norm(frame.positions[:, None] - images[None], axis=-1)
        for receiver, sender in np.argwhere(distances < r_max):
            if sender != receiver or any(shift):
                found.add((int(sender), int(receiver), *shift))
    return found


@pytest.mark.parametrize("cell", [TRICLINIC, LEFT_HANDED])
@pytest.mark.parametrize("pbc", list(product([True, False], repeat=3)))
def test_against_brute_force(rng: np.random.Generator, cell, pbc) -> None:
    # Atoms far outside the cell, and a cutoff larger than the cell.
    frame = make_frame(rng.uniform(-6, 6, (7, 3)), cell, pbc)
    edges = find_neighbours(frame, 5.0)
    got = list(zip(edges.sender, edges.receiver, *edges.shifts.T, strict=True))
    assert len(set(got)) == len(got)
    assert set(got) == brute_force(frame, 5.0, reach=9)
    assert (np.diff(edges.receiver) >= 0).all()
    assert edges.sender.dtype == edges.receiver.dtype == edges.shifts.dtype == np.int64
    assert not edges.shifts[:, ~np.array(pbc)].any()


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        ([[3.0, 0.4, 0], [1.2, 2.9, 0], [0, 0, 0]], [True, True, False]),
        ([[0, 0, 0], [0.5, -1.1, 3.3], [0, 0, 0]], [False, True, False]),
        # A vector without periodicity may lie along a periodic one.
        ([[3.0, 0.4, 0], [1.2, 2.9, 0], [3.0, 0.4, 0]], [True, True, False]),
        (ZERO, [False, False, False]),
    ],
)
def test_slab_wire_and_molecule_without_vectors(rng: np.random.Generator, cell, pbc) -> None:
    frame = make_frame(rng.uniform(-4, 4, (6, 3)) + [100, -50, 7], cell, pbc)
    edges = find_neighbours(frame, 4.5)
    got = set(zip(edges.sender, edges.receiver, *edges.shifts.T, strict=True))
    assert got == brute_force(frame, 4.5, reach=9)
    assert got


def test_primitive_cell_smaller_than_the_cutoff() -> None:
    cell = [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]]
    frame = make_frame(np.array([[0, 0, 0], [2.8, 2.8, 2.8]]), cell, [True] * 3)
    edges = find_neighbours(frame, 6.5)
    assert set(zip(edges.sender, edges.receiver, *edges.shifts.T, strict=True)) == brute_force(frame, 6.5, reach=6)
    # Rock salt: 6 + 12 + 8 + 6 + 24 neighbours up to sqrt(5) times 2.8 Å.
    assert np.bincount(edges.receiver).tolist() == [56, 56]


def test_a_thin_and_wide_cell(rng: np.random.Generator) -> None:
    cell = np.array([[4.0, 0, 0], [0, 6000, 0], [0, 100, 6000]])
    frame = make_frame(np.array([[0.0, 0, 0], [1, 5999, 1], [2, 3000, 3000]]), cell, [True] * 3)
    edges = find_neighbours(frame, 5.0)
    assert set(zip(edges.sender, edges.receiver, *edges.shifts.T, strict=True)) == brute_force(frame, 5.0, reach=2)


def test_isolated_atoms_have_no_edges() -> None:
    frame = make_frame(np.array([[0, 0, 0], [50.0, 0, 0]]), ZERO, [False] * 3)
    assert find_neighbours(frame, 5.0).shifts.shape == (0, 3)
    assert len(find_neighbours(make_frame(np.zeros((1, 3)), ZERO, [False] * 3), 5.0).sender) == 0


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        ([[4, 0, 0], [0, 0, 0], [0, 0, 0]], [True, False, False]),
        ([[4, 0, 0], [0.5, 4, 0], [0, 0, 0]], [True, True, False]),
        (ZERO, [False] * 3),
    ],
)
@pytest.mark.parametrize("distance", [1e3, 1e5])
def test_atoms_that_have_flown_apart(cell, pbc, distance: float) -> None:
    """A cell that is thin and very wide, which the search alone does not survive."""
    near, far = np.array([[0, 0, 0], [0.3, 1, 0.2]]), distance * np.array([[0.0, 1.0, 1.0]])
    frame = make_frame(np.concatenate([near, far + near]), cell, pbc)
    edges = find_neighbours(frame, 5.0)
    alone = find_neighbours(make_frame(near, cell, pbc), 5.0)
    assert len(edges.sender) == 2 * len(alone.sender) > 0 and not edges.shifts[:, ~np.array(pbc)].any()


@pytest.mark.parametrize("second", [[0.0, 0, 0.001], [9.0, 0, 0]])
def test_two_atoms_at_one_place(second: list[float]) -> None:
    frame = make_frame(np.array([[0.0, 0, 0], second]), np.eye(3) * 9, [True] * 3)
    with pytest.raises(DataError, match="here: atoms 0 and 1 are at the same place"):
        find_neighbours(frame, 4.0)


@pytest.mark.parametrize("r_max", [0.0, -1.0, float("nan")])
def test_cutoff_must_be_positive(r_max: float) -> None:
    with pytest.raises(DataError, match="r_max must be positive"):
        find_neighbours(make_frame(np.zeros((1, 3)), ZERO, [False] * 3), r_max)
