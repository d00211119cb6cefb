from __future__ import annotations

import numpy as np
import pytest
import torch

from bec_mace.data import build_graph, collate, read_frames
from bec_mace.data.graph import Graph
from bec_mace.errors import DataError
from tests.graphs import edge_vectors


@pytest.fixture(scope="module")
def graphs(files) -> list[Graph]:
    """Three clusters with a dipole, one crystal without, two more clusters."""
    clusters = read_frames(files / "water_clusters_rpbe_d3.extxyz", properties=["dipole", "born_effective_charges"])
    crystal = read_frames(files / "zirconia_pbe.extxyz", properties=["forces", "born_effective_charges"])[1]
    return [build_graph(frame, 5.0) for frame in [*clusters[:3], crystal, *clusters[-2:]]]


def test_graph_of_one_frame(files) -> None:
    frame = read_frames(files / "zirconia_pbe.extxyz")[1]
    graph = build_graph(frame, 5.0, dtype=torch.float32)
    assert graph.positions.dtype == graph.cell.dtype == graph.edge_shifts.dtype == torch.float64
    assert graph.labels["born_effective_charges"].dtype == torch.float32
    assert graph.atomic_numbers.dtype == graph.edge_index.dtype == graph.frame_index.dtype == torch.int64
    assert graph.cell.shape == (1, 3, 3)
    assert graph.pbc.tolist() == [[True, True, True]]
    assert graph.labels["energy"].shape == (1,)
    assert graph.labels["born_effective_charges"].shape == (3, 3, 3)
    assert all(mask.tolist() == [True] for mask in graph.masks.values())
    assert set(graph.masks) == set(frame.labels)
    torch.testing.assert_close(graph.labels["forces"], torch.tensor(frame.labels["forces"], dtype=torch.float32))


def test_edge_vectors_are_receiver_minus_sender_image(files) -> None:
    frame = read_frames(files / "zirconia_pbe.extxyz")[1]
    graph = build_graph(frame, 5.0)
    vectors = edge_vectors(graph)
    lengths = vectors.norm(dim=1)
    assert lengths.max() < 5.0
    assert (graph.edge_index[1].diff() >= 0).all()
    edge = int(graph.edge_shifts.abs().sum(dim=1).argmax())
    sender, receiver = graph.edge_index[:, edge].tolist()
    image = frame.positions[sender] + graph.edge_shifts[edge].numpy() @ frame.cell
    np.testing.assert_allclose(vectors[edge].numpy(), frame.positions[receiver] - image, atol=1e-14)
    # Every edge has its reverse, so the vectors cancel.
    assert vectors.sum(dim=0).abs().max() < 1e-10


def test_graph_does_not_share_memory_with_the_frame(files) -> None:
    frame = read_frames(files / "zirconia_pbe.extxyz")[0]
    before = frame.positions.copy()
    graph = build_graph(frame, 3.0)
    graph.positions.add_(1.0)
    graph.labels["forces"].zero_()
    np.testing.assert_array_equal(frame.positions, before)
    assert np.abs(frame.labels["born_effective_charges"]).max() > 1


def test_batch_holds_each_frame(graphs: list[Graph]) -> None:
    batch = collate(graphs)
    assert batch.n_frames == 6
    assert batch.atoms_per_frame().tolist() == [graph.n_atoms for graph in graphs]
    assert batch.n_edges == sum(graph.n_edges for graph in graphs)
    separate = torch.cat([edge_vectors(graph) for graph in graphs])
    torch.testing.assert_close(edge_vectors(batch), separate, rtol=0, atol=0)
    assert (batch.frame_index[batch.edge_index[0]] == batch.frame_index[batch.edge_index[1]]).all()
    assert (batch.edge_index[1].diff() >= 0).all()
    assert batch.pbc.any(dim=1).tolist() == [False, False, False, True, False, False]


def test_missing_labels_are_zero_and_masked(graphs: list[Graph]) -> None:
    batch = collate(graphs)
    assert batch.masks["born_effective_charges"].tolist() == [True] * 6
    assert batch.masks["dipole"].tolist() == [True, True, True, False, True, True]
    assert batch.masks["forces"].tolist() == [False, False, False, True, False, False]
    assert batch.labels["dipole"][3].tolist() == [0, 0, 0]
    torch.testing.assert_close(batch.labels["dipole"][4:5], graphs[4].labels["dipole"])
    crystal = batch.frame_index == 3
    torch.testing.assert_close(batch.labels["forces"][crystal], graphs[3].labels["forces"])
    assert batch.labels["forces"][~crystal].abs().max() == 0


def test_batches_of_batches(graphs: list[Graph]) -> None:
    nested, flat = collate([collate(graphs[:2]), collate(graphs[2:])]), collate(graphs)
    for name in ("positions", "frame_index", "edge_index", "edge_shifts", "cell"):
        torch.testing.assert_close(getattr(nested, name), getattr(flat, name), rtol=0, atol=0)
    assert {name: mask.tolist() for name, mask in nested.masks.items()} == {
        name: mask.tolist() for name, mask in flat.masks.items()
    }


def test_empty_batch() -> None:
    with pytest.raises(DataError, match="A batch needs at least one frame"):
        collate([])
