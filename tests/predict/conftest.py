import pytest
import torch

from bec_mace.config.model import ModelConfig
from bec_mace.data import compute_statistics, read_frames
from bec_mace.models import build_model


@pytest.fixture(scope="session")
def path(files):
    """Ten clusters of water of different sizes."""
    return files / "water_clusters_rpbe_d3.extxyz"


@pytest.fixture(scope="session")
def frames(path):
    return read_frames(path)


@pytest.fixture(scope="session")
def model(frames):
    torch.manual_seed(0)
    config = ModelConfig(
        r_max=3.0,
        channels=4,
        max_l=1,
        num_interactions=1,
        num_radial=4,
        radial_mlp=[8],
        readout_mlp=[4],
        heads=["monopole", "energy"],
    )
    return build_model(config, [1, 8], compute_statistics(frames, 3.0), torch.float64)
