import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write

from bec_mace.config.dynamics import MDConfig
from bec_mace.config.model import ModelConfig
from bec_mace.data import Statistics
from bec_mace.models import build_model, save_model


@pytest.fixture(scope="session")
def molecule(tmp_path_factory):
    """A file with a bent molecule of five atoms, without velocities."""
    positions = [[0.0, 0.0, 0.0], [1.0, 0.2, 0.1], [-0.4, 1.0, 0.3], [0.3, -0.3, 1.1], [-0.8, -0.5, -0.6]]
    path = tmp_path_factory.mktemp("structure") / "molecule.extxyz"
    write(path, Atoms("OH2CO", positions=positions))
    return path


def random_model(folder, heads, seed=5):
    torch.manual_seed(seed)
    config = ModelConfig(
        r_max=3.0, channels=4, max_l=1, num_radial=4, radial_mlp=[8], readout_mlp=[4], num_interactions=1, heads=heads
    )
    statistics = Statistics(
        avg_num_neighbors=3.0,
        reference_charges={1: 0.4, 6: 0.2, 8: -0.8},
        reference_energies={1: -1.0, 6: -3.0, 8: -2.0},
        rms_forces=1.0,
    )
    save_model(build_model(config, [1, 6, 8], statistics, torch.float32), folder / "model")
    return str(folder / "model")


@pytest.fixture(scope="session")
def charges_model(tmp_path_factory):
    """A small untrained model whose Z* is the derivative of a polarization."""
    return random_model(tmp_path_factory.mktemp("charges"), ["charge_transfer", "dipole"])


@pytest.fixture(scope="session")
def energy_model(tmp_path_factory):
    """A small untrained model with an energy."""
    return random_model(tmp_path_factory.mktemp("energy"), ["charge_transfer", "dipole", "energy"])


@pytest.fixture
def md_config(tmp_path, molecule):
    """Make a configuration: springs, velocity Verlet, 300 K, unless said otherwise."""

    def make(**values):
        given = {
            "output": tmp_path / "run",
            "structure": str(molecule),
            "ensemble": "nve",
            "time_step": 0.5,
            "steps": 12,
            "potential": {"calculator": "tests.dynamics.springs:Springs"},
            "initial_temperature": 300.0,
            "device": "cpu",
            "precision": "float64",
            "sampling": {"currents": 2, "trajectory": 1, "log": 5, "checkpoint": 4},
        }
        given.update({name: value for name, value in values.items() if value is not ...})
        for name in [name for name, value in values.items() if value is ...]:
            del given[name]
        return MDConfig(**given)

    return make


@pytest.fixture
def state_of():
    """Positions and momenta of the state in a run folder."""

    def read(folder):
        with np.load(folder / "state.npz") as file:
            return {name: file[name] for name in ("positions", "momenta")}

    return read
