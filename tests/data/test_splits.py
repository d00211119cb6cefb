from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from bec_mace.config.schema import DataConfig
from bec_mace.data import Frame, data_fingerprint, divide_frames, split_frames
from bec_mace.data.fingerprint import structure_fingerprint
from bec_mace.data.splits import read_index_file
from bec_mace.errors import DataError


def dimer(length: float, source: str = "", energy: float | None = None) -> Frame:
    labels = {} if energy is None else {"energy": np.array(energy)}
    return Frame(
        np.array([1, 9]),
        np.array([[0, 0, 0], [length, 0, 0]]),
        np.zeros((3, 3)),
        np.zeros(3, dtype=bool),
        source=source or f"d{length}",
        labels=labels,
    )


@pytest.fixture
def frames() -> list[Frame]:
    return [dimer(1 + 0.01 * index, f"f{index}", energy=-float(index)) for index in range(20)]


def names(sets: dict[str, list[Frame]]) -> dict[str, list[str]]:
    return {name: [frame.source for frame in frames] for name, frames in sets.items()}


def test_fractions(frames: list[Frame]) -> None:
    sets = names(divide_frames(frames, 0.2, 0.1, seed=3))
    assert {name: len(found) for name, found in sets.items()} == {"train": 14, "validation": 4, "test": 2}
    assert sorted(sum(sets.values(), [])) == sorted(frame.source for frame in frames)
    assert sets == names(divide_frames(frames, 0.2, 0.1, seed=3))
    assert sets != names(divide_frames(frames, 0.2, 0.1, seed=4))
    assert sets["train"] == sorted(sets["train"], key=lambda name: int(name[1:]))


def test_a_small_fraction_still_takes_one(frames: list[Frame]) -> None:
    assert len(divide_frames(frames[:3], 0.01)["validation"]) == 1


def test_no_held_out_sets(frames: list[Frame]) -> None:
    assert names(divide_frames(frames, None, 0.0))["train"] == [frame.source for frame in frames]


def test_numbers_and_fraction(frames: list[Frame]) -> None:
    sets = names(divide_frames(frames, [4, 2], 0.5))
    assert sets["validation"] == ["f2", "f4"]
    assert len(sets["test"]) == 10
    assert not {"f2", "f4"} & set(sets["test"] + sets["train"])


def test_other_frames(frames: list[Frame]) -> None:
    sets = names(divide_frames(frames[:5], frames[5:7], frames[7:]))
    assert sets["train"] == ["f0", "f1", "f2", "f3", "f4"]
    assert sets["validation"] == ["f5", "f6"]
    assert len(sets["test"]) == 13


def test_identical_frames_are_drawn_together(frames: list[Frame], caplog: pytest.LogCaptureFixture) -> None:
    doubled = frames + [dimer(1 + 0.01 * index, f"copy{index}") for index in range(20)]
    for seed in range(10):
        sets = names(divide_frames(doubled, 0.2, 0.2, seed=seed))
        for found in sets.values():
            originals = {name for name in found if name[0] == "f"}
            assert {name.replace("copy", "f") for name in found if name[0] == "c"} == originals
        assert len(sets["validation"]) == len(sets["test"]) == 8
    assert "structures occur more than once" in caplog.text


def test_identical_frames_in_one_set_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        divide_frames([dimer(1, "a"), dimer(2, "b"), dimer(1, "c")], None)
    assert "train set: 1 structures occur more than once (first: a and c)" in caplog.text


def test_identical_frames_in_two_sets() -> None:
    with pytest.raises(DataError, match=r"a \(train\) and z \(test\) are identical"):
        divide_frames([dimer(1, "a"), dimer(2, "b")], None, [dimer(1.000001, "z")])
    with pytest.raises(DataError, match=r"y \(validation\) and z \(test\) are identical"):
        divide_frames([dimer(3, "a")], [dimer(1, "y")], [dimer(1, "z")])
    with pytest.raises(DataError, match=r"a \(train\) and b \(validation\) are identical"):
        divide_frames([dimer(1, "a"), dimer(1, "b")], [1])


def test_same_number_in_two_sets(frames: list[Frame]) -> None:
    with pytest.raises(DataError, match=r"Frame number 3 \(f3\) is in validation and in test"):
        divide_frames(frames, [3, 4], [5, 3])


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ([20], "frame number 20 is out of range; there are 20 frames"),
        ([-1], "frame number -1 is out of range"),
        ([2, 2], "frame number 2 is named twice"),
        (1.0, "a fraction must be at least 0 and below 1, got 1.0"),
        (-0.1, "a fraction must be at least 0"),
        (float("nan"), "a fraction must be at least 0"),
        ([], "needs frames or frame numbers, got neither"),
        ([1, dimer(9)], "needs frames or frame numbers, got both"),
    ],
)
def test_bad_choices(frames: list[Frame], choice, message: str) -> None:
    with pytest.raises(DataError, match=f"validation: {message}"):
        divide_frames(frames, choice)


def test_nothing_left(frames: list[Frame]) -> None:
    with pytest.raises(DataError, match="No frames are left for training: 2 were read"):
        divide_frames(frames[:2], 0.5, 0.5)
    with pytest.raises(DataError, match="test: a fraction of 0.5 of 1 frames leaves no frame for it"):
        divide_frames(frames[:1], 0.5, 0.5)


def config(**options) -> DataConfig:
    return DataConfig(**options)


def test_split_of_a_configuration(frames: list[Frame], write_extxyz, tmp_path) -> None:
    train = str(write_extxyz([frame.to_atoms() for frame in frames[:10]], "train.extxyz"))
    test = str(write_extxyz([frame.to_atoms() for frame in frames[10:]], "test.extxyz"))
    (tmp_path / "numbers.txt").write_text("7\n")
    options = config(train=train, validation={"indices": str(tmp_path / "numbers.txt")}, test=test)
    sets = split_frames(options, properties=["energy"])
    assert [float(frame.labels["energy"]) for frame in sets["validation"]] == [-7]
    assert len(sets["train"]) == 9
    assert len(sets["test"]) == 10
    with pytest.raises(DataError, match=r"identical"):
        split_frames(config(train=train, test=str(write_extxyz(frames[3].to_atoms(), "leak.extxyz"))))


def test_missing_labels_of_a_configuration(frames: list[Frame], write_extxyz) -> None:
    atoms = [frame.to_atoms() for frame in frames]
    for held in atoms[5:]:
        del held.info["REF_energy"]
    train, test = str(write_extxyz(atoms[:10], "train.extxyz")), str(write_extxyz(atoms[10:], "test.extxyz"))
    with pytest.raises(DataError, match="energy: found in 5 of 10 frames"):
        split_frames(config(train=train), properties=["energy"])
    sets = split_frames(config(train=train, test=test, allow_missing=["energy"]), properties=["energy"])
    assert sum("energy" in frame.labels for frame in sets["test"]) == 0
    with pytest.raises(DataError, match="energy: found in 0 of 9 frames"):
        split_frames(config(train=test, allow_missing=["energy"]), properties=["energy"])


def test_index_files(tmp_path) -> None:
    path = tmp_path / "numbers"
    path.write_text("# held out\n3 5\n\n8  # last\n")
    assert read_index_file(path) == [3, 5, 8]
    path.write_text(json.dumps([1, 2]))
    assert read_index_file(path) == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3.5\n", "not a list of frame numbers"),
        ("[1, true]", "must be whole numbers"),
        ("[1,", "not a list"),
        ("# none\n", "no frame numbers in this file"),
    ],
)
def test_bad_index_files(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "numbers"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_index_file(path)


def test_missing_index_file(tmp_path) -> None:
    with pytest.raises(DataError, match="numbers: cannot read the frame numbers"):
        read_index_file(tmp_path / "numbers")


def test_structure_fingerprint_ignores_noise_labels_and_signed_zero() -> None:
    reference = structure_fingerprint(dimer(1.0))
    assert structure_fingerprint(dimer(1.000001, energy=3.0)) == reference
    negative = dimer(1.0)
    negative.positions[0, 1] = -0.0
    assert structure_fingerprint(negative) == reference
    assert structure_fingerprint(dimer(1.001)) != reference


def test_data_fingerprint_sees_every_change(frames: list[Frame]) -> None:
    reference = data_fingerprint(frames)
    assert len(reference) == 64
    assert data_fingerprint(list(frames)) == reference
    assert data_fingerprint(frames[::-1]) != reference
    assert data_fingerprint([*frames[:-1], dimer(1.19, energy=-19.0000001)]) != reference
    assert data_fingerprint([*frames[:-1], dimer(1.19)]) != reference
