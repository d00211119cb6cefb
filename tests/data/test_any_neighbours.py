"""Neighbours in any cell against a list of all images, with a skin and without."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bec_mace.data import Frame
from bec_mace.data.neighbours import Neighbours, find_neighbours
from bec_mace.data.skin import SkinNeighbours
from bec_mace.errors import DataError
from tests.any_structures import heights, structures

CUTOFFS = st.floats(0.5, 3.5)


def all_pairs(frame: Frame, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """(sender, receiver, shift) of shape (n, 5) of all pairs with images that may be within reach, and their distances."""
    inverse = np.linalg.inv(frame.cell)
    apart = (frame.positions[:, None] - frame.positions) @ inverse
    far = np.ceil(np.abs(apart).max(axis=(0, 1)) + reach / heights(frame.cell)).astype(int) * frame.pbc
    shifts = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in far), indexing="ij"), axis=-1).reshape(-1, 3)
    images = frame.positions + (shifts @ frame.cell)[:, None]
    distances = np.linalg.norm(frame.positions[:, None, None] - images, axis=-1)  # receiver, shift, sender
    receiver, shift, sender = (index.ravel() for index in np.indices(distances.shape))
    other = (receiver != sender) | shifts[shift].any(axis=1)
    return np.column_stack([sender, receiver, shifts[shift]])[other], distances.ravel()[other]


def edges(found: Neighbours) -> list[tuple[int, ...]]:
    return sorted(map(tuple, np.column_stack([found.sender, found.receiver, found.shifts]).tolist()))


def expected(frame: Frame, r_max: float) -> list[tuple[int, ...]]:
    """What must be found; structures that rounding may decide on are left out."""
    pairs, distances = all_pairs(frame, r_max)
    assume(not (np.abs(distances - r_max) < 1e-9).any() and not (np.abs(distances - 0.01) < 1e-3).any())
    return sorted(map(tuple, pairs[distances < r_max].tolist()))


def meet(frame: Frame) -> bool:
    return bool((all_pairs(frame, 0.1)[1] < 0.01).any())


@settings(max_examples=200)
@given(structures(max_atoms=5), CUTOFFS)
def test_the_neighbours_are_those_of_all_images(frame: Frame, r_max: float) -> None:
    wanted = expected(frame, r_max)
    if meet(frame):
        with pytest.raises(DataError, match="at the same place"):
            find_neighbours(frame, r_max)
        return
    found = find_neighbours(frame, r_max)
    assert edges(found) == wanted
    assert (np.diff(found.receiver) >= 0).all()


@given(structures(max_atoms=5), CUTOFFS)
def test_every_edge_has_its_reverse(frame: Frame, r_max: float) -> None:
    wanted = expected(frame, r_max)
    assume(not meet(frame))
    found = find_neighbours(frame, r_max)
    back = Neighbours(found.receiver, found.sender, -found.shifts)
    assert edges(found) == edges(back) == wanted


@settings(max_examples=150)
@given(st.data(), structures(max_atoms=5), CUTOFFS, st.floats(0.05, 1.5))
def test_within_half_the_skin_nothing_is_searched_and_nothing_missed(
    data: st.DataObject, frame: Frame, r_max: float, skin: float
) -> None:
    assume(not meet(frame))
    kept, n = SkinNeighbours(r_max, skin), len(frame)
    kept.find(frame)
    for _ in range(2):
        angles = st.tuples(st.floats(0, np.pi), st.floats(0, 2 * np.pi), st.floats(0, 0.4999))
        theta, phi, share = np.array(data.draw(st.lists(angles, min_size=n, max_size=n))).T
        unit = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=1)
        moved = Frame(frame.atomic_numbers, frame.positions + unit * (skin * share)[:, None], frame.cell, frame.pbc)
        assume(not meet(moved))
        wanted = expected(moved, r_max)
        found, fresh = kept.find(moved), SkinNeighbours(r_max, 0.0).find(moved)
        assert edges(found) == wanted
        assert kept.searches == 1
        for name in ("sender", "receiver", "shifts"):
            np.testing.assert_array_equal(getattr(found, name), getattr(fresh, name))
