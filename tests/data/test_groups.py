"""No formula, chemical system or trajectory is in two sets."""

from __future__ import annotations

import itertools
import logging
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bec_mace.cli.main import main
from bec_mace.config.schema import DataConfig
from bec_mace.data import Frame, divide_frames, split_frames
from bec_mace.data.groups import chemical_system, group_frames, group_names, reduced_formula
from bec_mace.errors import DataError, SettingError


def molecule(numbers: list[int], shift: float, **info: object) -> Frame:
    positions = np.array([[1.5 * i + shift * (i == 1), 0.1 * i, 0.0] for i in range(len(numbers))])
    return Frame(
        np.array(numbers), positions, np.zeros((3, 3)), np.zeros(3, dtype=bool), source=f"{numbers} {shift}", info=dict(info)
    )


def grouped(sizes: list[int]) -> list[Frame]:
    """Frames of trajectories with so many frames each, those of one not side by side."""
    frames = [molecule([1, 9], 0.001 * (100 * run + step), run=run) for run, size in enumerate(sizes) for step in range(size)]
    return [frames[i] for i in np.random.default_rng(1).permutation(len(frames))]


def test_names_of_groups() -> None:
    assert reduced_formula(np.array([8, 14, 8, 8, 14, 8])) == reduced_formula(np.array([14, 8, 8])) == "O2Si"
    assert reduced_formula(np.array([8, 8])) == "O"
    assert reduced_formula(np.array([8, 14])) == "OSi"
    assert chemical_system(np.array([14, 8, 8])) == chemical_system(np.array([14, 8])) == "O-Si"
    assert reduced_formula(np.array([1, 6, 1, 1, 1, 6])) == "CH2"


@given(st.lists(st.integers(1, 30), min_size=3, max_size=8), st.floats(0.01, 0.5), st.floats(0.01, 0.4), st.integers(0, 9))
def test_groups_stay_whole_and_no_single_group_brings_a_set_nearer(sizes, validation: float, test: float, seed: int) -> None:
    frames = grouped(sizes)
    sets = divide_frames(frames, validation, test, seed=seed, group="run")
    runs = {name: Counter(frame.info["run"] for frame in part) for name, part in sets.items()}
    assert all(runs.values())
    assert sum(map(len, runs.values())) == len(sizes)
    assert all(found[run] == sizes[run] for found in runs.values() for run in found)
    gap = max(1, round(test * len(frames))) - len(sets["test"])
    if len(runs["train"]) > 1:
        assert all(abs(gap - sizes[run]) >= abs(gap) for run in runs["train"])
    again = divide_frames(frames, validation, test, seed=seed, group="run")
    assert {name: [frame.source for frame in part] for name, part in again.items()} == {
        name: [frame.source for frame in part] for name, part in sets.items()
    }


@pytest.mark.parametrize("sizes", [[50, 17, 9, 33], [7, 7, 7, 1], [90, 4, 3, 3], [25, 25, 25, 25, 1]])
def test_the_fraction_is_met_as_nearly_as_groups_allow(sizes: list[int]) -> None:
    frames = grouped(sizes)
    for fraction in (0.1, 0.25, 0.4):
        quota = round(fraction * len(frames))
        sums = [sum(part) for n in range(1, len(sizes)) for part in itertools.combinations(sizes, n)]
        found = len(divide_frames(frames, fraction, group="run")["validation"])
        assert abs(found - quota) == min(abs(total - quota) for total in sums)


def test_seeds_give_other_groups() -> None:
    frames = grouped([4] * 20)
    drawn = {
        tuple(sorted({f.info["run"] for f in divide_frames(frames, 0.2, seed=s, group="run")["validation"]})) for s in range(5)
    }
    assert len(drawn) == 5
    assert all(len(runs) == 4 for runs in drawn)


def test_identical_structures_of_two_trajectories_join_them() -> None:
    frames = [molecule([1, 9], 0.1, run=1), molecule([1, 9], 0.2, run=1), molecule([1, 9], 0.2, run=2)]
    assert group_frames([*frames, molecule([1, 9], 0.3, run=3)], "run") == [[0, 1, 2], [3]]
    assert group_frames(frames, None) == [[0], [1, 2]]


def test_sets_from_elsewhere_that_share_a_group_are_refused() -> None:
    frames = [molecule([14, 8], 0.01 * i) for i in range(3)]
    with pytest.raises(DataError, match=r"\[14, 8\] 0.0 \(train\) and .* \(test\) are both of the group OSi"):
        divide_frames(frames, None, [molecule([8, 14, 8, 14], 0.5)], group="formula")
    other = divide_frames(frames, None, [molecule([8, 14, 8], 0.5)], group="formula")
    assert len(other["test"]) == 1
    with pytest.raises(DataError, match="group O-Si"):
        divide_frames(frames, None, [molecule([8, 14, 8], 0.5)], group="chemical_system")


def test_a_frame_without_the_key() -> None:
    frames = [molecule([1, 9], 0.1, trajectory=3), molecule([1, 9], 0.2)]
    with pytest.raises(DataError, match=r"0.1: data.group: the frame has no key 'trajectorys'.*did you mean 'trajectory'"):
        group_names(frames, "trajectorys")
    with pytest.raises(DataError, match=r"0.2: data.group: .* \(it has no such words\)\. Give every frame"):
        group_names(frames, "trajectory")


def test_fewer_groups_than_sets() -> None:
    frames = grouped([5, 6])
    divide_frames(frames, 0.5, group="run")
    with pytest.raises(SettingError, match=r"data.group: 11 frames are of 2 free groups by run, too few for 3 sets"):
        divide_frames(frames, 0.2, 0.2, group="run")


def test_a_configuration_says_what_came_of_it(write_extxyz, caplog: pytest.LogCaptureFixture) -> None:
    frames = [molecule(numbers, 0.01 * i) for i in range(3) for numbers in ([1, 9], [8, 1, 1], [17, 1], [7, 1, 1, 1])]
    path = str(write_extxyz([frame.to_atoms() for frame in frames], "train.extxyz"))
    with caplog.at_level(logging.INFO):
        sets = split_frames(DataConfig(train=path, validation=0.2, test=0.25, group="formula"))
    assert "validation: 3 of 12 frames (25.0 %; 20.0 % were asked for), 1 of 4 groups by formula" in caplog.text
    formulas = [{reduced_formula(frame.atomic_numbers) for frame in part} for part in sets.values()]
    assert [len(found) for found in formulas] == [2, 1, 1]


def test_the_command_line_names_the_line(write_extxyz, tmp_path) -> None:
    path = write_extxyz([molecule([1, 9], 0.01 * i).to_atoms() for i in range(6)], "train.extxyz")
    config = tmp_path / "run.yaml"
    config.write_text(
        f"output: {tmp_path / 'run'}\ndata:\n  train: {path}\n  group: formula\n  allow_missing: [born_effective_charges]\n"
        "model:\n  r_max: 3\n  heads: [monopole]\ntraining:\n  epochs: 1\n"
    )
    result = CliRunner().invoke(main, ["train", str(config), "--set", "device=cpu"])
    assert result.exit_code == 2
    assert "run.yaml:4: data.group: 6 frames are of 1 free group by formula" in result.output
