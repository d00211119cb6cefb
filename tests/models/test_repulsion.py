"""The wall below the shortest distances of the training data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from bec_mace.config.model import ModelConfig
from bec_mace.data import Frame, build_graph
from bec_mace.data.statistics import Statistics, compute_statistics, shortest_distances
from bec_mace.models import PolarizationModel, load_model
from bec_mace.models.checkpoint import save_model
from bec_mace.models.network import build_model

SHORTEST = ((1, 1, 1.0), (1, 8, 0.8))  # Two oxygens never met.


def make(distances: tuple[tuple[int, int, float], ...], wall: bool = True) -> PolarizationModel:
    config = ModelConfig(r_max=3.0, channels=2, radial_mlp=[4], readout_mlp=[4], heads=["dipole", {"energy": {"wall": wall}}])
    statistics = Statistics(3.0, {1: 0.4, 8: -0.8}, {1: -1.0, 8: -2.0}, 0.5, distances)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build_model(config, [1, 8], statistics, torch.float64)


def dimer(numbers: list[int], distance: float) -> Frame:
    direction = np.array([1.0, 2.0, 2.0]) / 3
    return Frame(np.array(numbers), np.stack([np.zeros(3), distance * direction]), np.zeros((3, 3)), np.zeros(3, bool))


def energy_and_forces(model: PolarizationModel, frame: Frame) -> tuple[float, np.ndarray]:
    out = model(build_graph(frame, model.r_max), ("energy", "forces"))
    return out["energy"].item(), out["forces"].numpy()


@pytest.mark.parametrize(
    ("numbers", "distance", "expected"),
    [
        ([8, 1], 0.684, 5000 * 0.1**3),  # 0.95 * 0.8 = 0.76
        ([1, 1], 0.76, 5000 * 0.2**3),
        ([1, 1], 0.96, 0.0),
        ([8, 8], 0.3, 0.0),
    ],
)
def test_energy_of_a_pair(numbers: list[int], distance: float, expected: float) -> None:
    frame = dimer(numbers, distance)
    with_wall, without = (energy_and_forces(make(distances), frame) for distances in (SHORTEST, ()))
    assert with_wall[0] - without[0] == pytest.approx(expected, abs=1e-9)


def test_forces_are_the_derivative_of_the_energy() -> None:
    model, step = make(SHORTEST), 1e-5
    _, forces = energy_and_forces(model, dimer([8, 1], 0.7))
    for axis in range(3):
        ends = []
        for sign in (1, -1):
            frame = dimer([8, 1], 0.7)
            frame.positions[1, axis] += sign * step
            ends.append(energy_and_forces(model, frame)[0])
        assert forces[1, axis] == pytest.approx(-(ends[0] - ends[1]) / (2 * step), abs=1e-6)
    assert np.linalg.norm(forces[1]) > 10


def test_nothing_changes_where_the_data_reach() -> None:
    frame = dimer([8, 1], 0.81)
    with_wall, without = (
        make(distances)(build_graph(frame, 3.0), ("energy", "forces", "born_effective_charges")) for distances in (SHORTEST, ())
    )
    for name, value in with_wall.items():
        assert torch.equal(value, without[name]), name


def test_it_can_be_left_out() -> None:
    frame = dimer([8, 1], 0.5)
    assert energy_and_forces(make(SHORTEST, wall=False), frame)[0] == energy_and_forces(make(()), frame)[0]


def test_a_checkpoint_keeps_it(tmp_path: Path) -> None:
    model = make(SHORTEST)
    loaded = load_model(save_model(model, tmp_path / "model"), dtype=torch.float64)
    frame = dimer([1, 1], 0.7)
    assert energy_and_forces(loaded, frame)[0] == pytest.approx(energy_and_forces(model, frame)[0], abs=1e-9)
    assert loaded.statistics == dataclasses.replace(model.statistics)


def test_shortest_distances_over_images() -> None:
    cell = np.array([[3.0, 0, 0], [0.5, 2.5, 0], [0.2, -0.3, 4.0]])
    frame = Frame(
        np.array([1, 8]), np.array([[0.0, 0, 0], [1.4, 0, 0]]), cell, np.ones(3, bool), labels={"energy": np.array(-1.0)}
    )
    found = {(a, b): d for a, b, d in shortest_distances([frame], 2.6)}
    assert found == {
        (1, 1): pytest.approx(np.hypot(0.5, 2.5)),
        (8, 8): pytest.approx(np.hypot(0.5, 2.5)),
        (1, 8): pytest.approx(1.4),
    }
    assert compute_statistics([frame], 2.6).shortest_distances == shortest_distances([frame], 2.6)


def test_no_wall_without_energies() -> None:
    frame = Frame(
        np.array([1, 8]),
        np.array([[0.0, 0, 0], [1.4, 0, 0]]),
        np.zeros((3, 3)),
        np.zeros(3, bool),
        labels={"born_effective_charges": np.zeros((2, 3, 3))},
    )
    assert compute_statistics([frame], 2.6).shortest_distances == ()
