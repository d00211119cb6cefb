"""Every head together at the rates that are advised: the first steps must not throw the network out of the data's range."""

import math

import pytest

import bec_mace.train.steps as steps
from bec_mace.config.heads import HEADS
from bec_mace.config.schema import RATE_OF_SOAP, RunConfig
from bec_mace.train.loop import train

LABELS = {
    "water_clusters_rpbe_d3": ("energy", "forces", "dipole", "polarizability"),
    "zirconia_pbe": ("energy", "forces", "dielectric_tensor"),
}
TOGETHER = {
    "usual": ["energy", "charge_transfer", "dipole", "polarizability"],
    "all": sorted(set(HEADS) - {"static_charges", "quadrupole"}),  # which need electrostatics
}
SOURCES = ["charge_transfer", "dipole", "quadrupole"]
ELECTROSTATICS = {"sources": SOURCES, "screening": "global", "epsilon_infinity": 1.8, "response": {"dipoles": "anisotropic"}}


@pytest.fixture
def losses(monkeypatch):
    """The loss of every step, each before the step changes anything."""
    seen, step = [], steps.training_step

    def watched(state, loss, *rest):
        result = step(state, loss, *rest)
        seen.append(loss.summary(result)["loss"])
        return result

    monkeypatch.setattr(steps, "training_step", watched)
    monkeypatch.setattr("bec_mace.train.loop.finish", lambda *rest: {})
    return seen


def configure(files, folder, data, heads, electrostatics=None):
    network = {"r_max": 4.0, "channels": 8, "max_l": 2, "hidden_max_l": 1, "radial_mlp": [16]}
    weights = dict.fromkeys(("born_effective_charges", *LABELS[data]), 1.0)
    return RunConfig.model_validate(
        {
            "output": str(folder / "run"),
            "device": "cpu",
            "data": {"train": str(files / f"{data}.extxyz"), "validation": 0.0},
            "model": {**network, "heads": heads, **({"electrostatics": electrostatics} if electrostatics else {})},
            "training": {"epochs": 4, "batch_size": 2, "optimizer": {"name": "soap"}, "loss": {"weights": weights}},
        }
    )


@pytest.mark.parametrize("data", LABELS)
@pytest.mark.parametrize("together", TOGETHER)
def test_every_head_at_the_advised_rate(files, tmp_path, losses, data, together):
    config = configure(files, tmp_path, data, TOGETHER[together])
    assert config.training.optimizer.learning_rate == RATE_OF_SOAP == 0.1
    train(config)
    assert len(losses) >= 16 and all(math.isfinite(loss) for loss in losses)
    assert max(losses) < 100 * max(losses[0], 1.0)
    assert min(losses[-4:]) < losses[0]


def test_sources_of_coulomb_at_the_advised_rate(files, tmp_path, losses):
    train(configure(files, tmp_path, "water_clusters_rpbe_d3", ["energy", *SOURCES], ELECTROSTATICS))
    assert all(math.isfinite(loss) for loss in losses) and max(losses) < 1e4 * losses[0] and losses[-1] < losses[0]
