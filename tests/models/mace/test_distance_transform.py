"""Distances in units of the sizes of the atoms."""

from __future__ import annotations

import pytest
import torch

from bec_mace.data import build_graph, collate
from bec_mace.models.mace.distance_transform import radii_of, transform_agnesi
from bec_mace.testing.oracle import oracle
from bec_mace.testing.physics import CHECKS
from bec_mace.testing.small_models import copy_model, make_model
from bec_mace.testing.structures import molecule, triclinic, triclinic_pair

HEADS = ("monopole", "charge_transfer", "dipole", "energy")


def test_values_of_the_formula() -> None:
    """O-H at 0.97 Å with the radii 0.66 and 0.31 Å: x = 2, worked out by hand."""
    x = 0.97 / (0.5 * (0.66 + 0.31))
    assert x == pytest.approx(2.0)
    expected = 1 / (1 + 1.0805 * 2**0.9183 / (1 + 2 ** (0.9183 - 4.5791)))
    radii = radii_of([1, 8])
    assert radii.tolist() == [0.31, 0.66]
    found, _ = transform_agnesi(torch.tensor(0.97, dtype=torch.float64), radii.mean())
    assert found.item() == pytest.approx(expected, abs=1e-12) and expected == pytest.approx(0.3457, abs=1e-4)


def test_every_pair_of_elements_has_its_own_functions() -> None:
    model = make_model(HEADS, distance_transform="agnesi")
    plain = make_model(HEADS)
    graph = build_graph(molecule(), model.r_max)
    for name, value in model(graph, ("born_effective_charges", "energy")).items():
        assert (value - plain(graph, (name,))[name]).abs().max() > 1e-3


@pytest.mark.parametrize("check", CHECKS)
def test_physics(check: str) -> None:
    CHECKS[check](make_model(HEADS, distance_transform="agnesi"))


class MaceTransform(torch.nn.Module):
    """The transform as mace has it, stretched to the cutoff."""

    def __init__(self, r_max: float) -> None:
        super().__init__()
        from mace.modules.radial import AgnesiTransform

        self.transform, self.r_max = AgnesiTransform().double(), r_max

    def forward(self, *arguments: torch.Tensor) -> torch.Tensor:
        return self.r_max * self.transform(*arguments)


def test_against_the_cluster_with_the_transform_of_mace() -> None:
    model = copy_model(make_model(("monopole", "dipole"), distance_transform="agnesi"))
    frame = triclinic_pair()
    found = model(build_graph(frame, model.r_max))["born_effective_charges"]
    model.backbone.radial_embedding.distance_transform = MaceTransform(model.r_max)
    # mace rounds its constants to float32.
    assert (found - oracle(model, frame)["total"]).abs().max() < 1e-6


def test_blocks_give_the_same_numbers() -> None:
    model = make_model(HEADS, distance_transform="agnesi")
    graph = collate([build_graph(frame, model.r_max) for frame in (triclinic(), molecule())])
    wanted = ("born_effective_charges", "energy", "forces")
    whole, parts = model(graph, wanted), model(graph, wanted, block_size=3)
    for name in wanted:
        assert (whole[name] - parts[name]).abs().max() < 1e-12
