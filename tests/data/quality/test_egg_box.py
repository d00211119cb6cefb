"""The error of a real-space grid in labels: found, measured and removed, and never seen where it is not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bec_mace.config.schema import DataConfig
from bec_mace.data import Frame, read_frames, summarize
from bec_mace.data.quality.egg_box import find_egg_box
from bec_mace.train.prepare import read_frame_sets

CELL = np.array([[9.1, 0.0, 0.0], [2.3, 8.7, 0.0], [-1.1, 1.9, 12.4]])
NUMBERS = np.array([8] * 20 + [1] * 40)


def frames(rng: np.random.Generator, count: int, cell: np.ndarray = CELL, noise: float = 0.002) -> list[Frame]:
    """Frames whose Z* obeys the sum rule up to some noise on each component."""
    found = []
    for number in range(count):
        tensors = rng.normal(size=(len(NUMBERS), 3, 3))
        tensors += noise * rng.normal(size=tensors.shape) - tensors.mean(axis=0)
        found.append(
            Frame(
                NUMBERS,
                rng.uniform(-1, 2, (len(NUMBERS), 3)) @ cell,
                cell,
                np.ones(3, bool),
                {"born_effective_charges": tensors},
                f"frame {number}",
            )
        )
    return found


def with_error(clean: list[Frame], grid: tuple[int, int, int], sizes: dict[int, float]) -> list[Frame]:
    """Add an error written out atom by atom."""
    found = []
    for frame in clean:
        reciprocal = np.linalg.inv(frame.cell).T
        tensors = frame.labels["born_effective_charges"].copy()
        for atom, z in enumerate(frame.atomic_numbers):
            for k in range(3):
                normal = reciprocal[k] / np.linalg.norm(reciprocal[k])
                phase = 2 * np.pi * grid[k] * (reciprocal[k] @ frame.positions[atom])
                tensors[atom] += sizes.get(int(z), 0.0) * np.cos(phase) * np.outer(normal, normal)
        found.append(
            Frame(
                frame.atomic_numbers, frame.positions, frame.cell, frame.pbc, {"born_effective_charges": tensors}, frame.source
            )
        )
    return found


def test_found_and_removed_in_a_triclinic_cell():
    clean = frames(np.random.default_rng(0), 40)
    found = find_egg_box(with_error(clean, (30, 27, 40), {8: 0.03, 1: -0.008}))
    assert found is not None
    assert found.grid == (30, 27, 40)
    heights = 1 / np.linalg.norm(np.linalg.inv(CELL), axis=0)
    np.testing.assert_allclose(found.period, heights / found.grid, rtol=1e-12)
    np.testing.assert_allclose(found.amplitudes[8], 0.03, atol=0.003)
    np.testing.assert_allclose(found.amplitudes[1], -0.008, atol=0.003)
    assert found.share > 0.9
    before = with_error(clean, (30, 27, 40), {8: 0.03, 1: -0.008})
    errors = [
        np.sqrt(
            np.mean(
                [
                    (a.labels["born_effective_charges"] - b.labels["born_effective_charges"]) ** 2
                    for a, b in zip(some, clean, strict=True)
                ]
            )
        )
        for some in (before, found.remove(before))
    ]
    assert errors[0] > 0.006 and errors[1] < 0.0008
    assert find_egg_box(found.remove(before)) is None


def test_lattice_vectors_of_one_length_share_a_grid():
    cubic = frames(np.random.default_rng(1), 4, 10.0 * np.eye(3))
    found = find_egg_box(with_error(cubic, (45, 45, 45), {8: -0.02}))
    assert found is not None and found.grid == (45, 45, 45)
    assert list(found.amplitudes) == [8]
    assert "O 0.0" in found.text() and "45x45x45" in found.text() and "period 0.222 Å" in found.text()


def test_frames_of_another_kind_are_left_alone():
    rng = np.random.default_rng(6)
    usual = with_error(frames(rng, 8, 10.0 * np.eye(3)), (45, 45, 45), {8: -0.02})
    larger = frames(rng, 2, 12.0 * np.eye(3))
    molecule = Frame(
        np.array([8]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, bool), {"born_effective_charges": np.eye(3)[None]}
    )
    found = find_egg_box([*usual, *larger, molecule])
    assert found is not None and found.grid == (45, 45, 45) and abs(found.amplitudes[8][0] + 0.02) < 0.003
    for before, after in zip([*larger, molecule], found.remove([*larger, molecule]), strict=True):
        np.testing.assert_array_equal(before.labels["born_effective_charges"], after.labels["born_effective_charges"])


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_grid(seed):
    rng = np.random.default_rng(seed)
    assert find_egg_box(frames(rng, 10, noise=0.02)) is None


def test_nothing_is_said_without_labels_cells_or_a_failing_sum_rule():
    clean = frames(np.random.default_rng(2), 6, noise=0.0)
    assert find_egg_box(clean) is None
    assert find_egg_box([]) is None
    no_labels = [Frame(f.atomic_numbers, f.positions, f.cell, f.pbc) for f in clean]
    assert find_egg_box(no_labels) is None
    slabs = [
        Frame(f.atomic_numbers, f.positions, f.cell, np.array([True, True, False]), f.labels)
        for f in with_error(clean, (30, 27, 40), {8: 0.03})
    ]
    assert find_egg_box(slabs) is None


def test_the_included_water_has_none():
    assert find_egg_box(read_frames("bec_mace:water_revpbe_d3.extxyz.gz")) is None


def test_report_warns():
    summary = summarize(with_error(frames(np.random.default_rng(3), 30), (30, 27, 40), {8: 0.03}))
    assert "set data.egg_box: remove" in summary.text()
    assert json.loads(json.dumps(summary.to_dict()))["egg_box"]["grid"] == [30, 27, 40]


def test_training_labels_are_freed_and_test_labels_kept(tmp_path, caplog):
    from ase.io import write

    some = with_error(frames(np.random.default_rng(4), 40), (30, 27, 40), {8: 0.03})
    path = tmp_path / "some.extxyz"
    write(path, [frame.to_atoms() for frame in some], format="extxyz")
    kept = read_frame_sets(DataConfig(train=str(path), validation=0.2, test=0.2), ("born_effective_charges",))
    freed = read_frame_sets(
        DataConfig(train=str(path), validation=0.2, test=0.2, egg_box="remove"), ("born_effective_charges",)
    )
    assert caplog.text.count("training frames: The Born effective charges follow the real-space grid") == 1
    assert kept.egg_box is None and freed.egg_box is not None and freed.egg_box.grid == (30, 27, 40)
    change = {
        name: np.abs(
            getattr(freed, name)[0].labels["born_effective_charges"] - getattr(kept, name)[0].labels["born_effective_charges"]
        ).max()
        for name in ("train", "validation", "test")
    }
    assert change["test"] == 0 and 0.02 < change["train"] < 0.05 and 0.02 < change["validation"] < 0.05


def test_labels_are_kept_where_nothing_is_sure(tmp_path, caplog):
    from ase.io import write

    path = tmp_path / "some.extxyz"
    write(path, [frame.to_atoms() for frame in frames(np.random.default_rng(5), 4)], format="extxyz")
    sets = read_frame_sets(DataConfig(train=str(path), validation=0, egg_box="remove"), ("born_effective_charges",))
    assert sets.egg_box is None
    assert "no egg-box error is sure in the 4 training frames" in caplog.text
