from __future__ import annotations

import numpy as np
import pytest

from bec_mace.data import Frame
from bec_mace.data.neighbours import find_neighbours
from bec_mace.data.skin import SkinNeighbours
from bec_mace.errors import DataError

R_MAX = 3.1
TRICLINIC = np.array([[3.6, 0.3, -0.2], [0.7, 3.2, 0.4], [-0.5, 0.6, 4.1]])
PBC = {"crystal": (True, True, True), "slab": (True, True, False), "wire": (False, True, False), "molecule": (False,) * 3}


def make_frame(positions, cell=TRICLINIC, pbc=(True, True, True), numbers=(8, 1, 1, 6)) -> Frame:
    return Frame(np.array(numbers), np.array(positions, dtype=float), np.array(cell), np.array(pbc))


@pytest.fixture
def positions():
    return np.array([[0.02, 0.05, 0.04], [0.41, 0.37, 0.12], [0.11, 0.62, 0.48], [0.69, 0.13, 0.55]]) @ TRICLINIC


def edges(found):
    return set(zip(found.sender.tolist(), found.receiver.tolist(), map(tuple, found.shifts.tolist()), strict=True))


@pytest.mark.parametrize("kind", PBC)
@pytest.mark.parametrize("skin", [0.0, 0.4, 2.0])
def test_the_same_neighbours_along_a_random_walk(positions, rng, kind, skin):
    kept, fresh = SkinNeighbours(R_MAX, skin), SkinNeighbours(R_MAX, 0.0)
    for step in range(40):
        positions = positions + rng.normal(scale=0.03, size=positions.shape)
        if step % 11 == 10:  # Someone wraps the atoms.
            positions = positions + np.rint(rng.normal(size=positions.shape)) * np.array(PBC[kind]) @ TRICLINIC
        frame = make_frame(positions, pbc=PBC[kind])
        found, other, expected = kept.find(frame), fresh.find(frame), find_neighbours(frame, R_MAX)
        assert edges(found) == edges(expected) and len(found.sender) == len(expected.sender)
        # The order is the same too, so that sums are, to the last bit.
        for name in ("sender", "receiver", "shifts"):
            np.testing.assert_array_equal(getattr(found, name), getattr(other, name))
    assert kept.searches == 40 if skin == 0 else 1 <= kept.searches < 30


def test_the_list_is_searched_only_when_it_must_be(positions):
    kept = SkinNeighbours(R_MAX, 0.5)
    kept.find(make_frame(positions))
    positions[2, 1] += 0.249
    kept.find(make_frame(positions))
    assert kept.searches == 1
    positions[2, 1] += 0.002
    kept.find(make_frame(positions))
    assert kept.searches == 2
    for change in ({"cell": TRICLINIC * 1.001}, {"pbc": (True, True, False)}, {"numbers": (8, 1, 1, 8)}):
        before = kept.searches
        kept.find(make_frame(positions, **change))
        assert kept.searches == before + 1
    kept.find(make_frame(positions[:3], numbers=(8, 1, 1)))
    assert kept.searches == 6


def test_changing_the_frame_afterwards_does_no_harm(positions):
    kept = SkinNeighbours(R_MAX, 0.5)
    frame = make_frame(positions)
    kept.find(frame)
    frame.positions[:] += 0.3 * np.arange(12).reshape(4, 3)
    assert edges(kept.find(frame)) == edges(find_neighbours(frame, R_MAX))
    assert kept.searches == 2


def test_answers_belong_to_the_caller(positions):
    kept = SkinNeighbours(R_MAX, 0.5)
    first = kept.find(make_frame(positions))
    expected = edges(first)
    first.sender[:], first.shifts[:] = 0, 9
    assert edges(kept.find(make_frame(positions))) == expected


def test_one_atom_has_no_neighbours():
    found = SkinNeighbours(R_MAX, 0.5).find(make_frame([[0.0, 0.0, 0.0]], numbers=(8,), pbc=(False, False, False)))
    assert found.sender.shape == (0,) and found.shifts.shape == (0, 3)


def test_atoms_that_meet_are_refused_without_a_search(positions):
    kept = SkinNeighbours(R_MAX, 1.0)
    positions[1] = positions[0] + [0.3, 0.0, 0.0]
    kept.find(make_frame(positions))
    positions[1] = positions[0] + [0.005, 0.0, 0.0]
    with pytest.raises(DataError, match="at the same place"):
        kept.find(make_frame(positions))
    assert kept.searches == 1


@pytest.mark.parametrize("skin", [-0.1, np.nan, np.inf])
def test_impossible_skins_are_refused(skin):
    with pytest.raises(DataError, match="skin must be a number of Å, 0 or more"):
        SkinNeighbours(R_MAX, skin)
