from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bec_mace.data import Frame, read_frames, summarize
from bec_mace.data.quality.index_order import check_rotation, rotation_residual

CLUSTERS = "water_clusters_rpbe_d3.extxyz"


def charge_flow_molecule(rng: np.random.Generator) -> Frame:
    """mu = sum_i q_i r_i with q_i = h_i - mean(h), h_i = sum_j s_ij exp(-r_ij^2 / 8), and its exact tensors."""
    n_atoms = 4
    positions = 2 * rng.normal(size=(n_atoms, 3))
    strength = rng.normal(size=(n_atoms, n_atoms))
    arms = positions[:, None] - positions
    source = strength * np.exp(-(arms**2).sum(axis=-1) / 8)
    charges = source.sum(axis=1) - source.sum(axis=1).mean()
    # slope[i, j] = d q_i / d r_j
    slope = source[..., None] * arms / 4
    slope[range(n_atoms), range(n_atoms)] = -slope.sum(axis=1)
    slope -= slope.mean(axis=0)
    tensors = charges[:, None, None] * np.eye(3) + np.einsum("ia,ijb->jab", positions, slope)
    return Frame(
        np.ones(n_atoms, dtype=np.int64),
        positions,
        np.zeros((3, 3)),
        np.zeros(3, dtype=bool),
        labels={"dipole": charges @ positions, "born_effective_charges": tensors},
    )


def test_exact_tensors_leave_no_residual(rng: np.random.Generator) -> None:
    frame = charge_flow_molecule(rng)
    tensors = frame.labels["born_effective_charges"]
    assert np.abs(tensors.sum(axis=0)).max() < 1e-12
    assert np.abs(rotation_residual(frame, tensors)).max() < 1e-12
    assert np.abs(rotation_residual(frame, tensors.swapaxes(1, 2))).max() > 0.1


def test_labels_of_molecules_fit_as_they_are(files) -> None:
    check = check_rotation(read_frames(files / CLUSTERS))
    assert check is not None
    assert check.n_frames == 10
    assert check.residual < 1e-3
    assert check.transposed_residual > 10 * check.residual
    assert not check.looks_transposed


def test_exchanged_labels_are_noticed(files) -> None:
    summary = summarize(read_frames(files / CLUSTERS, index_order="displacement_first"))
    assert summary.rotation is not None
    assert summary.rotation.looks_transposed
    assert "look transposed: on 10 molecules" in summary.text()
    assert "Change index_order" in summary.text()


def test_symmetric_labels_say_nothing(files) -> None:
    frames = []
    for frame in read_frames(files / CLUSTERS):
        tensors = frame.labels["born_effective_charges"]
        symmetric = (tensors + tensors.swapaxes(1, 2)) / 2
        frames.append(replace(frame, labels={**frame.labels, "born_effective_charges": symmetric}))
    check = check_rotation(frames)
    assert check is not None
    assert not check.looks_transposed


def test_crystals_ions_and_bare_molecules_are_left_out(files) -> None:
    frames = read_frames(files / CLUSTERS)
    assert check_rotation(read_frames(files / "quartz_pbe.extxyz")) is None
    charged = [
        replace(
            frame,
            labels={**frame.labels, "born_effective_charges": frame.labels["born_effective_charges"] + np.eye(3) / len(frame)},
        )
        for frame in frames
    ]
    assert check_rotation(charged) is None
    assert check_rotation([replace(frame, labels={"dipole": frame.labels["dipole"]}) for frame in frames]) is None


def test_origin_of_a_neutral_molecule_does_not_matter(files) -> None:
    frames = read_frames(files / CLUSTERS)
    moved = [replace(frame, positions=frame.positions + [30.0, -20.0, 50.0]) for frame in frames]
    first, second = check_rotation(frames), check_rotation(moved)
    assert first is not None
    assert second is not None
    assert second.residual == pytest.approx(first.residual, rel=1e-9)
