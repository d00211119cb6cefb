from __future__ import annotations

import numpy as np
import pytest

from bec_mace.data import Frame, compute_statistics, read_frames
from bec_mace.data.statistics import fit_energies, mean_neighbours, shortest_distances
from bec_mace.errors import DataError


def molecule(numbers: list[int], labels: dict[str, np.ndarray]) -> Frame:
    positions = np.arange(len(numbers))[:, None] * np.array([1.0, 0, 0])
    return Frame(np.array(numbers), positions, np.zeros((3, 3)), np.zeros(3, dtype=bool), labels=labels)


def test_reference_charges_are_mean_traces() -> None:
    tensors = np.array([np.diag([1.0, 2, 3]), np.diag([0.0, 0, 3]), np.full((3, 3), -1.0)])
    frame = molecule([1, 1, 8], {"born_effective_charges": tensors})
    bare = molecule([6], {})
    assert compute_statistics([frame, bare], 1.5).reference_charges == pytest.approx({1: 1.5, 8: -1.0})


def test_reference_energies_solve_the_least_squares_problem() -> None:
    frames = [
        molecule([1, 1, 8], {"energy": np.array(2 * -0.5 - 3.0)}),
        molecule([1, 1], {"energy": np.array(-1.0)}),
        molecule([8, 8], {"energy": np.array(-6.0)}),
        molecule([1], {}),
    ]
    assert fit_energies(frames) == pytest.approx({1: -0.5, 8: -3.0})


def test_reference_energies_of_one_composition_add_up() -> None:
    energies = fit_energies([molecule([1, 1, 8], {"energy": np.array(-10.0)})] * 3)
    assert 2 * energies[1] + energies[8] == pytest.approx(-10.0)


def test_neighbours_and_forces() -> None:
    forces = np.array([[3.0, 0, 0], [0, 4.0, 0], [0, 0, 0]])
    statistics = compute_statistics([molecule([1, 1, 8], {"forces": forces})], 1.5)
    assert statistics.avg_num_neighbors == pytest.approx(4 / 3)
    assert statistics.rms_forces == pytest.approx(np.sqrt(25 / 9))


def test_without_labels() -> None:
    statistics = compute_statistics([molecule([1], {})], 1.5)
    assert statistics.reference_charges == {}
    assert statistics.reference_energies == {}
    assert statistics.rms_forces is None
    assert statistics.avg_num_neighbors == 0


def test_many_frames_are_sampled_evenly() -> None:
    frames = [molecule([1, 1] if index % 2 == 0 else [1], {}) for index in range(2002)]
    # Every third frame of an alternating series: half of each kind, 2 edges for 3 atoms.
    assert mean_neighbours(frames, 1.5) == pytest.approx(2 / 3, rel=1e-2)


def test_reference_charges_of_quartz(files) -> None:
    charges = compute_statistics(read_frames(files / "quartz_pbe.extxyz"), 4.0).reference_charges
    assert charges[14] == pytest.approx(3.39, abs=0.05)
    assert 2 * charges[8] + charges[14] == pytest.approx(0, abs=1e-6)


def test_no_frames() -> None:
    with pytest.raises(DataError, match="Statistics need at least one frame"):
        compute_statistics([], 5.0)


def test_shortest_distances_across_the_side_of_a_cell():
    positions, cell = np.array([[0.5, 1.0, 0.0], [9.3, 2.0, 0.0]]), np.array([[10.0, 0, 0], [1.0, 10.0, 0], [0, 0, 10.0]])
    frame = Frame(np.array([1, 8]), positions, cell, np.ones(3, dtype=bool), {"energy": np.array(-1.0)})
    ((first, second, distance),) = shortest_distances([frame], 3.0)
    assert (first, second) == (1, 8) and distance == pytest.approx((1.2**2 + 1.0) ** 0.5)
