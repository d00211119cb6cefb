"""Symmetries and limits of every head. A new head is one line in MODELS."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bec_mace.testing.physics import CHECKS, check_rotation, evaluate, random_rotation
from bec_mace.testing.small_models import copy_model, make_model
from bec_mace.testing.structures import molecule

MODELS = {
    "monopole": (("monopole",), "none"),
    "monopole, projected": (("monopole",), "project"),
    "monopole, weighted": (("monopole",), "weighted"),
    "dipole": (("dipole",), "none"),
    "charge_transfer": (("charge_transfer",), "none"),
    "direct": (("direct",), "none"),
    "polarizability": (("dipole", "polarizability"), "none"),
    "all": (("monopole", "charge_transfer", "dipole", "energy"), "none"),
    "default rule": (("monopole", "direct", "energy"), None),
    "from outside": (("dipole", "tests.outside_head:MomentsHead"), "none"),
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", MODELS)
def test_every_head(name: str, check: str, device: torch.device) -> None:
    heads, rule = MODELS[name]
    model = make_model(heads, acoustic_sum_rule=rule)
    CHECKS[check](model if device.type == "cpu" else copy_model(model, device=device))


def test_random_rotation_is_proper() -> None:
    rotation = random_rotation()
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-14
    assert np.abs(rotation - rotation.T).max() > 0.1


def test_rotation_check_notices_a_fixed_direction() -> None:
    """The kit itself can fail: a model that prefers the x axis does not pass."""

    class Biased:
        r_max, provides = make_model(("monopole",)).r_max, make_model(("monopole",)).provides

        def __call__(self, *arguments: object) -> dict:
            out = make_model(("monopole",))(*arguments)
            out["born_effective_charges"][:, 0, 1] += 1e-6
            return out

    with pytest.raises(AssertionError, match="born_effective_charges: largest error"):
        check_rotation(Biased())  # type: ignore[arg-type]


def test_head_sets_that_make_no_polarization_keep_their_forces() -> None:
    out = evaluate(make_model(("energy",)), molecule())
    assert set(out) == {"energy", "forces"}
    assert out["forces"].abs().max() > 1e-2
    assert out["forces"].sum(dim=0).abs().max() < 1e-12
