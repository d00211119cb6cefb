"""Training starts close to the energies also where charges act."""

from __future__ import annotations

import numpy as np
import pytest

from bec_mace.config.model import ModelConfig
from bec_mace.data import build_graph, compute_statistics, read_frames
from bec_mace.models import build_model
from bec_mace.train.first_energies import beside_coulomb


@pytest.mark.parametrize(("head", "screening"), [("charge_transfer", "local"), ("static_charges", "independent")])
def test_a_fresh_model_is_near_the_energies(head: str, screening: str) -> None:
    frames = read_frames("bec_mace:water_revpbe_d3.extxyz.gz", properties=("energy", "born_effective_charges"))[:3]
    small = {"r_max": 3.0, "channels": 2, "max_l": 1, "num_interactions": 1, "correlation": 1, "radial_mlp": [4]}
    section = {"sources": [head], "screening": screening}
    config = ModelConfig.model_validate({**small, "heads": ["energy", head], "electrostatics": section})
    plain = compute_statistics(frames, 3.0)
    errors = []
    for statistics in (beside_coulomb(plain, frames, config), plain):
        model = build_model(config, [1, 8], statistics)
        energies = [float(model(build_graph(frame, 3.0), ("energy",))["energy"]) for frame in frames]
        labels = [float(frame.labels["energy"]) for frame in frames]
        errors.append(np.abs(np.array(energies) - labels).max() / len(frames[0]))
    assert errors[0] < 0.1 < 0.4 < errors[1]
