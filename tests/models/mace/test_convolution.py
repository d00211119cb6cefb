"""The edge convolution and its written-out derivatives, in one block of atoms and in several."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bec_mace.models.mace import convolution
from bec_mace.models.mace.convolution import Convolution, CouplingPath

N_ATOMS, N_SLOTS, N_CHANNELS, N_HARMONICS = 3, 2, 2, 4


@pytest.fixture(params=[1, 1 << 18], ids=["atom by atom", "one block"])
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(convolution, "_BLOCK_BYTES", request.param)
    return request.param


def make_plan() -> Convolution:
    generator = torch.Generator().manual_seed(0)

    def coupling(d1: int, d3: int) -> Tensor:
        return torch.rand(d1, d3, N_HARMONICS, generator=generator, dtype=torch.float64) - 0.5

    paths = [
        CouplingPath(slice(0, 1), slice(0, 1), coupling(1, 1)),
        CouplingPath(slice(0, 1), slice(1, 4), coupling(1, 3)),
        CouplingPath(slice(1, 4), slice(4, 5), coupling(3, 1)),
        CouplingPath(slice(1, 4), slice(5, 8), coupling(3, 3)),
    ]
    return Convolution(paths, N_SLOTS)


def make_inputs(requires_grad: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    n_edges = N_ATOMS * N_SLOTS
    shapes = [(4, n_edges, N_CHANNELS), (n_edges, N_HARMONICS), (4, n_edges, N_CHANNELS)]
    x, y, w = (torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(requires_grad) for shape in shapes)
    return x, y, w


def explicit(plan: Convolution, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    parts = []
    for index, path in enumerate(plan.paths):
        messages = torch.einsum("aeu,abh,eh,eu->ebu", x[path.feature], path.coupling, y, w[index])
        parts.append(messages.view(N_ATOMS, N_SLOTS, path.d3, N_CHANNELS).sum(dim=1))
    return torch.cat(parts, dim=1)


def test_value(block_bytes: int) -> None:
    plan, inputs = make_plan(), make_inputs()
    assert len(list(plan.blocks(inputs[0]))) == (N_ATOMS if block_bytes == 1 else 1)
    assert torch.allclose(plan(*inputs), explicit(plan, *inputs), atol=1e-13)


def test_first_derivatives(block_bytes: int) -> None:
    plan, (x, y, w) = make_plan(), make_inputs()
    assert torch.autograd.gradcheck(lambda x, w: plan(x, y.detach(), w), (x, w))


@pytest.mark.parametrize("wanted", [0, 1])
def test_constant_inputs_get_no_gradient(wanted: int, block_bytes: int) -> None:
    """What is not asked for is not computed, and the rest stays right."""
    plan, (x, y, w) = make_plan(), make_inputs(False)
    inputs = [x, w]
    inputs[wanted].requires_grad_(True)
    plan(x, y, w).sum().backward()
    assert inputs[1 - wanted].grad is None
    found = inputs[wanted].grad
    inputs[wanted].grad = None
    explicit(plan, x, y, w).sum().backward()
    assert torch.allclose(found, inputs[wanted].grad, atol=1e-13)


def make_cotangents() -> tuple[Tensor, Tensor]:
    """Slopes of the weights, and cotangents of the messages in three channels."""
    generator = torch.Generator().manual_seed(4)
    slopes = torch.randn(make_inputs(False)[2].shape, generator=generator, dtype=torch.float64)
    return slopes, torch.randn(3, N_ATOMS, 8, N_CHANNELS, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("features", [True, False])
def test_all_channels_are_pulled_back(features: bool, block_bytes: int) -> None:
    """The weights are a function of the length, given by their slopes."""
    plan, (x, y, w) = make_plan(), make_inputs(False)
    slopes, cotangents = make_cotangents()
    by_features, by_harmonics, by_lengths = plan.pull(x, y, w, slopes, cotangents, features)

    leaves = [
        x.clone().requires_grad_(True),
        y.clone().requires_grad_(True),
        torch.zeros(len(y), 1, dtype=torch.float64, requires_grad=True),
    ]
    out = explicit(plan, leaves[0], leaves[1], w + slopes * leaves[2])
    for channel, cotangent in enumerate(cotangents):
        expected = torch.autograd.grad(out, leaves, cotangent, retain_graph=True)
        if features:
            assert torch.allclose(by_features[channel], expected[0], atol=1e-13)
        assert torch.allclose(by_harmonics[channel], expected[1], atol=1e-13)
        assert torch.allclose(by_lengths[channel], expected[2], atol=1e-13)
    assert (by_features is None) is not features


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_second_derivatives(wanted: tuple[int, ...], block_bytes: int) -> None:
    """The pull-back differentiated, whichever of its results are used."""
    plan, (x, y, w) = make_plan(), make_inputs(False)
    slopes, cotangents = make_cotangents()
    inputs = [value.clone().requires_grad_(True) for value in (x, w, slopes, cotangents)]

    def pull(x: Tensor, w: Tensor, slopes: Tensor, m: Tensor) -> tuple[Tensor, ...]:
        out = plan.pull(x, y, w, slopes, m, 0 in wanted)
        return tuple(out[index] for index in wanted)

    assert torch.autograd.gradcheck(pull, inputs)
