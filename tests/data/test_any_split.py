"""However frames are divided, no structure is in two sets and none is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bec_mace.data import Frame
from bec_mace.data.fingerprint import group_identical
from bec_mace.data.splits import Choice, divide_frames
from bec_mace.errors import DataError

FRACTIONS = st.floats(0.0, 0.999)


def dimers(lengths: list[int]) -> list[Frame]:
    """Frames that are identical where their numbers are."""
    apart = [np.array([[0, 0, 0], [1 + 0.01 * length, 0, 0]]) for length in lengths]
    return [
        Frame(np.array([1, 9]), positions, np.zeros((3, 3)), np.zeros(3, bool), source=f"f{number}")
        for number, positions in enumerate(apart)
    ]


def numbers(frames: list[Frame]) -> list[int]:
    return [int(frame.source[1:]) for frame in frames]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=20), FRACTIONS, FRACTIONS | st.none(), st.integers(0, 2**32))
def test_fractions_of_frames_that_may_be_identical(lengths: list[int], validation: float, test: Choice, seed: int) -> None:
    frames = dimers(lengths)
    quota = {name: max(1, round(f * len(frames))) if f else 0 for name, f in (("validation", validation), ("test", test))}
    groups = group_identical(frames)
    largest = max(map(len, groups))
    enough = sum(quota.values()) + 2 * (largest - 1) < len(frames)
    try:
        sets = divide_frames(frames, validation, test, seed=seed)
    except DataError:
        assert not enough  # Refused only where a set, that of training too, may be left without a frame.
        return
    found = {name: numbers(part) for name, part in sets.items()}
    assert sorted(sum(found.values(), [])) == list(range(len(frames)))
    assert all(part == sorted(part) for part in found.values())
    owner = {number: name for name, part in found.items() for number in part}
    assert all(len({owner[number] for number in group}) == 1 for group in groups)
    for name, count in quota.items():
        assert len(found[name]) < count + largest and (not enough or len(found[name]) >= count)
    again = divide_frames(frames, validation, test, seed=seed)
    assert {name: numbers(part) for name, part in again.items()} == found


@given(st.data(), st.integers(3, 20), st.integers(0, 5))
def test_numbers_and_a_fraction(data: st.DataObject, n: int, seed: int) -> None:
    frames = dimers(list(range(n)))
    named = data.draw(st.lists(st.integers(0, n - 1), unique=True, min_size=1, max_size=n - 2), label="validation")
    free = n - len(named)
    fraction = data.draw(st.floats(0.01, (free - 1) / n), label="test")
    sets = {name: set(numbers(part)) for name, part in divide_frames(frames, named, fraction, seed=seed).items()}
    assert sets["validation"] == set(named)
    assert len(sets["test"]) == max(1, round(fraction * n))
    assert sets["train"] == set(range(n)) - sets["validation"] - sets["test"]


@given(st.data(), st.integers(2, 10))
def test_a_number_in_two_sets_is_refused(data: st.DataObject, n: int) -> None:
    parts = [data.draw(st.lists(st.integers(0, n - 1), unique=True, min_size=1)) for _ in range(2)]
    both = set(parts[0]) & set(parts[1])
    if both:
        with pytest.raises(DataError, match=rf"Frame number {min(both)} \(f{min(both)}\) is in validation and in test"):
            divide_frames(dimers(list(range(n))), *parts)
    elif len(parts[0]) + len(parts[1]) < n:
        sets = divide_frames(dimers(list(range(n))), *parts)
        assert [numbers(sets[name]) for name in ("validation", "test")] == [sorted(part) for part in parts]
