import numpy as np
import pytest
import torch

from bec_mace.config.schema import DataConfig
from bec_mace.data import Frame
from bec_mace.errors import DataError
from bec_mace.train.prepare import (
    build_graphs,
    check_elements,
    element_weights,
    elements_of,
    read_frame_sets,
)


def frame(numbers, labels=None, periodic=False):
    n = len(numbers)
    return Frame(
        np.array(numbers),
        np.arange(3.0 * n).reshape(n, 3),
        9 * np.eye(3) * periodic,
        np.full(3, periodic),
        labels or {},
        source="a.xyz, frame 7",
    )


def test_elements_are_those_of_all_frames():
    assert elements_of([frame([8, 1]), frame([1, 6])]) == [1, 6, 8]


def test_an_element_that_was_not_trained_is_refused():
    with pytest.raises(DataError, match=r"a.xyz, frame 7: this test frame holds elements C, Na, .*\(H, O\)"):
        check_elements([frame([8, 6, 11])], [1, 8], "test")


def test_dipoles_of_periodic_cells_are_refused(write_extxyz):
    frames = [frame([1] * n, {"dipole": np.ones(3)}, periodic=True).to_atoms() for n in (2, 3)]
    path = write_extxyz(frames)
    with pytest.raises(DataError, match="depends on the choice of the cell; train `polarization`"):
        read_frame_sets(DataConfig(train=str(path), validation=0.5), ["dipole"])


def test_graphs_hold_the_trained_labels_and_energies_in_float64():
    labels = {"energy": np.array(-1e5 - 1e-4), "forces": np.ones((2, 3)), "dipole": np.ones(3)}
    (graph,) = build_graphs([frame([1, 1], labels)], 6.0, torch.float32, ["energy", "forces"])
    assert set(graph.labels) == set(graph.masks) == {"energy", "forces"}
    assert graph.labels["energy"].dtype == torch.float64
    assert graph.labels["energy"].tolist() == [-1e5 - 1e-4]
    assert graph.positions.dtype == torch.float64
    assert graph.labels["forces"].dtype == torch.float32


def test_element_weights_go_by_atomic_number():
    assert element_weights({"O": 2.0, "H": 0.5}) == {8: 2.0, 1: 0.5}
