"""Derivatives of Z* and forces with respect to the weights: what training uses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from bec_mace.data import Graph, build_graph, collate
from bec_mace.models import PolarizationModel
from bec_mace.testing.small_models import HEAD_SETS, make_model
from bec_mace.testing.structures import molecule, slab, triclinic_pair

SMALL = {"channels": 2, "max_l": 1, "num_radial": 3, "radial_mlp": (4,), "readout_mlp": (3,)}


def small_batch(model: PolarizationModel) -> Graph:
    return collate([build_graph(frame, model.r_max) for frame in (triclinic_pair(), molecule(), slab())])


def weighted_sum(out: dict[str, Tensor]) -> Tensor:
    """A scalar that every component of every property enters with its own weight."""
    generator = torch.Generator().manual_seed(11)
    weights = {name: torch.rand(value.shape, generator=generator, dtype=torch.float64) for name, value in out.items()}
    return sum((weights[name] * value).sum() for name, value in out.items())


@pytest.mark.parametrize("rule", ["none", "project"])
@pytest.mark.parametrize("heads", [*HEAD_SETS, ("monopole", "dipole", "energy"), ("energy",)], ids="+".join)
def test_parameter_gradient_against_finite_differences(heads: tuple[str, ...], rule: str) -> None:
    """Along a random direction in the space of all weights, so every weight counts."""
    model = make_model(heads, 2, rule)
    graph = small_batch(model)
    wanted = ("born_effective_charges", "charges", "dipole", "energy", "forces")
    names = [name for name in wanted if name in model.provides]
    parameters = {name: p.detach().clone().requires_grad_(True) for name, p in model.named_parameters()}
    generator = torch.Generator().manual_seed(5)
    direction = {name: torch.randn(p.shape, generator=generator, dtype=torch.float64) for name, p in parameters.items()}

    def loss(shift: float, create_graph: bool) -> Tensor:
        moved = {name: p + shift * direction[name] for name, p in parameters.items()}
        return weighted_sum(functional_call(model, moved, (graph, names), {"create_graph": create_graph}))

    gradients = torch.autograd.grad(loss(0.0, True), list(parameters.values()), allow_unused=True)
    slope = sum((g * d).sum() for g, d in zip(gradients, direction.values(), strict=True) if g is not None)
    step = 1e-4
    values = {k: loss(k * step, False) for k in (-2, -1, 1, 2)}
    expected = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step)
    assert abs(slope) > 1e-2
    assert abs(slope - expected) < 1e-6 * max(1.0, abs(expected))


@pytest.mark.parametrize("heads", [("monopole",), ("charge_transfer", "dipole"), ("energy",)], ids="+".join)
def test_gradcheck(heads: tuple[str, ...]) -> None:
    """torch's own check, weight by weight, for a few weights of the first layer, the last layer and the head."""
    model = make_model(heads, 2, **SMALL)
    graph = build_graph(triclinic_pair(), model.r_max)
    wanted = "forces" if heads == ("energy",) else "born_effective_charges"
    weights = dict(model.named_parameters())
    chosen = [
        next(name for name in weights if name.startswith(prefix))
        for prefix in ("backbone.layers.0.interaction.conv_tp_weights", "backbone.layers.1.product", f"heads.{heads[0]}")
    ]

    def scalar(*values: Tensor) -> Tensor:
        parameters = dict(zip(chosen, values, strict=True))
        return weighted_sum(functional_call(model, parameters, (graph, (wanted,)), {"create_graph": True}))

    inputs = [weights[name].detach().clone().requires_grad_(True) for name in chosen]
    assert torch.autograd.gradcheck(scalar, inputs, eps=1e-6, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("heads", HEAD_SETS, ids="+".join)
def test_every_weight_of_the_heads_is_trained(heads: tuple[str, ...]) -> None:
    """No weight of a head is left without a gradient from Z*."""
    model = make_model(heads, 2)
    out = model(small_batch(model), ("born_effective_charges",), create_graph=True)
    mine = {name: p for name, p in model.named_parameters() if name.startswith("heads.") or name == "reference_charges"}
    gradients = torch.autograd.grad(weighted_sum(out), list(mine.values()), allow_unused=True)
    missing = [name for name, g in zip(mine, gradients, strict=True) if g is None or g.abs().max() == 0]
    assert missing == []


def test_nothing_to_differentiate_without_create_graph() -> None:
    model = make_model(("monopole", "dipole", "energy"))
    out = model(small_batch(model), ("born_effective_charges", "charges", "dipole", "energy", "forces"))
    assert not any(value.requires_grad for value in out.values())


def test_frozen_weights_still_give_derivatives() -> None:
    """A loaded model has no weights that require a gradient; its Z* and forces are the same."""
    model = make_model(("monopole", "charge_transfer", "dipole", "energy"))
    graph, names = small_batch(model), ("born_effective_charges", "forces")
    expected = model(graph, names)
    try:
        model.requires_grad_(False)
        frozen = model(graph, names)
        with torch.no_grad():
            without_grad = model(graph, names)
    finally:
        model.requires_grad_(True)
    for name in names:
        # Not to the last bit: torch orders a matrix product by whether the weights require a gradient.
        assert (frozen[name] - expected[name]).abs().max() < 1e-12
        assert torch.equal(without_grad[name], frozen[name])
