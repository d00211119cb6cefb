"""Small frames and configurations that train in a second."""

import ase.io
import pytest
import torch

from bec_mace.config.schema import RunConfig
from bec_mace.data import Frame, build_graph, collate


@pytest.fixture(scope="session")
def water_file(files, tmp_path_factory):
    """Six water clusters with Z*, energy, forces and dipole."""
    frames = ase.io.read(files / "water_clusters_rpbe_d3.extxyz", index=":6")
    path = tmp_path_factory.mktemp("data") / "water.extxyz"
    ase.io.write(path, frames, format="extxyz")
    return path


@pytest.fixture
def make_config(water_file, tmp_path):
    """A run of two epochs on four training and two validation frames; keywords change sections."""

    def make(output="run", data=None, model=None, **training):
        return RunConfig.model_validate(
            {
                "output": str(tmp_path / output),
                "device": "cpu",
                "precision": "float64",
                "seed": 3,
                "data": {"train": str(water_file), "validation": 0.34, **(data or {})},
                "model": {
                    "r_max": 3.0,
                    "channels": 4,
                    "max_l": 1,
                    "num_interactions": 1,
                    "num_radial": 4,
                    "radial_mlp": [8],
                    "readout_mlp": [4],
                    "heads": ["monopole"],
                    **(model or {}),
                },
                "training": {"epochs": 2, "batch_size": 2, **training},
            }
        )

    return make


@pytest.fixture
def make_graph():
    """A graph of atoms with labels, in float64."""

    def make(atomic_numbers, labels, cell=None, pbc=(False, False, False)):
        n = len(atomic_numbers)
        frame = Frame(
            atomic_numbers=torch.tensor(atomic_numbers).numpy(),
            positions=torch.arange(3 * n, dtype=torch.float64).reshape(n, 3).numpy(),
            cell=torch.zeros(3, 3, dtype=torch.float64).numpy() if cell is None else cell,
            pbc=torch.tensor(pbc).numpy(),
            labels=labels,
        )
        return build_graph(frame, 2.0)

    return make


@pytest.fixture
def make_batch(make_graph):
    """Several graphs as a batch."""

    def make(*frames):
        return collate([make_graph(**frame) for frame in frames])

    return make
