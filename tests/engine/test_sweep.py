"""What the engine makes of any list of stages."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bec_mace.data import build_graph
from bec_mace.engine.contract import EdgeFeatures, Hops, Sources, StageOutput
from bec_mace.engine.environments import Environments
from bec_mace.testing.small_models import copy_model, make_model
from bec_mace.testing.structures import triclinic

Z = "born_effective_charges"


class Idle:
    """A stage that neither changes the features nor adds to the sources."""

    def prepare(self, node_feats: Tensor) -> Tensor:
        return node_feats.transpose(0, 1).contiguous()

    def propagate(self, node_feats: Tensor, sender_feats: Tensor, edge_feats: EdgeFeatures, env: Environments) -> StageOutput:
        return StageOutput(None, Sources())


@pytest.mark.parametrize("block_size", [None, 2])
@pytest.mark.parametrize("place", [1, 2])
def test_a_stage_without_features_hands_the_cotangents_on(
    place: int, block_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy_model(make_model(("monopole", "charge_transfer", "dipole", "energy"), 2))
    graph = build_graph(triclinic(), model.r_max)
    expected = model(graph, (Z, "forces"))
    hops_of = model._hops

    def with_idle(*arguments: object) -> Hops[EdgeFeatures]:
        hops = hops_of(*arguments)
        return replace(hops, stages=[*hops.stages[:place], Idle(), *hops.stages[place:]])

    monkeypatch.setattr(model, "_hops", with_idle)
    found = model(graph, (Z, "forces"), block_size=block_size)
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=0, atol=1e-12)
