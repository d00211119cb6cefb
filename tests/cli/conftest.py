import logging

import pytest
import torch
from click.testing import CliRunner

from bec_mace.cli.main import main

WATER = "bec_mace:water_revpbe_d3.extxyz.gz"


@pytest.fixture(autouse=True)
def restore_logging():
    """Commands attach a handler to the package's log; other tests must not see it."""
    package = logging.getLogger("bec_mace")
    kept = package.handlers[:], package.level, package.propagate
    yield
    package.handlers[:], package.level, package.propagate = kept[0], kept[1], kept[2]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a command in an empty folder and return its result; exceptions that escape it fail the test."""
    monkeypatch.chdir(tmp_path)

    def _run(*arguments):
        return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="bec-mace", catch_exceptions=False)

    return _run


@pytest.fixture(scope="session")
def small_frames(tmp_path_factory):
    """A file of three molecules of different size, with labels, in an order that sorting would change."""
    from ase.build import molecule
    from ase.io import write

    generator = torch.Generator().manual_seed(3)
    frames = []
    for name in ("H2O2", "H2O", "H2O"):
        atoms = molecule(name)
        atoms.positions += 0.05 * torch.randn(len(atoms), 3, generator=generator, dtype=torch.float64).numpy()
        labels = torch.randn(len(atoms), 9, generator=generator, dtype=torch.float64)
        atoms.set_array("REF_becs", (labels - labels.mean(0)).numpy())
        atoms.info["REF_energy"] = -float(len(atoms))
        atoms.set_array("REF_forces", 0.1 * labels[:, :3].numpy())
        frames.append(atoms)
    path = tmp_path_factory.mktemp("data") / "molecules.extxyz"
    write(path, frames)
    return path


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    """A small untrained model with charges and an energy."""
    from bec_mace.config.model import ModelConfig
    from bec_mace.data import Statistics
    from bec_mace.models import build_model, save_model

    torch.manual_seed(5)
    config = ModelConfig(
        r_max=3.0, channels=4, max_l=1, num_radial=4, radial_mlp=[8], readout_mlp=[4], heads=["monopole", "dipole", "energy"]
    )
    statistics = Statistics(
        avg_num_neighbors=3.0, reference_charges={1: 0.4, 8: -0.8}, reference_energies={1: -1.0, 8: -2.0}, rms_forces=1.0
    )
    model = build_model(config, [1, 8], statistics, torch.float32)
    path = tmp_path_factory.mktemp("model") / "small"
    save_model(
        model,
        path,
        {
            "metrics": {"validation_rmse": 0.125},
            "data_fingerprint": "0123456789abcdef0123",
            "training_config": {"data": {"train": ["a.xyz", "b.xyz"]}},
        },
    )
    return path
