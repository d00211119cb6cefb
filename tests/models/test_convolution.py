"""The edge convolution and its written-out derivatives, in one block of atoms and in several."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bec_mace.models import convolution
from bec_mace.models.convolution import Convolution, FrozenConvolution, Path

N_ATOMS, N_SLOTS, N_CHANNELS, N_HARMONICS = 3, 2, 2, 4


@pytest.fixture(params=[1, 1 << 18], ids=["atom by atom", "one block"])
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(convolution, "_BLOCK_BYTES", request.param)
    return request.param


def make_plan() -> Convolution:
    generator = torch.Generator().manual_seed(0)

    def coupling(d1: int, d3: int) -> Tensor:
        return torch.rand(d1, d3, N_HARMONICS, generator=generator, dtype=torch.float64) - 0.5

    paths = [Path(slice(0, 1), slice(0, 1), coupling(1, 1)), Path(slice(0, 1), slice(1, 4), coupling(1, 3)),
             Path(slice(1, 4), slice(4, 5), coupling(3, 1)), Path(slice(1, 4), slice(5, 8), coupling(3, 3))]
    return Convolution(paths, N_SLOTS)


def make_inputs(requires_grad: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    n_edges = N_ATOMS * N_SLOTS
    shapes = [(4, n_edges, N_CHANNELS), (n_edges, N_HARMONICS), (4, n_edges, N_CHANNELS)]
    x, y, w = (torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(requires_grad)
               for shape in shapes)
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


def test_first_and_second_derivatives(block_bytes: int) -> None:
    plan, inputs = make_plan(), make_inputs()
    assert torch.autograd.gradcheck(plan, inputs)
    assert torch.autograd.gradgradcheck(plan, inputs)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2)])
def test_second_derivatives_of_some_inputs(wanted: tuple[int, ...], block_bytes: int) -> None:
    """What is not asked for is not computed, and the rest stays right."""
    plan, generator = make_plan(), torch.Generator().manual_seed(2)

    def second(function: object) -> list[Tensor | None]:
        inputs = make_inputs()
        cotangent = torch.randn(N_ATOMS, 8, N_CHANNELS, generator=generator.manual_seed(3), dtype=torch.float64)
        cotangent.requires_grad_(True)
        out = function(*inputs)
        first = torch.autograd.grad(out, [inputs[i] for i in wanted], cotangent, create_graph=True)
        total = sum((g * torch.linspace(-1, 2, g.numel(), dtype=g.dtype).view_as(g)).sum() for g in first)
        return list(torch.autograd.grad(total, [*inputs, cotangent], allow_unused=True))

    for ours, theirs in zip(second(plan), second(lambda *inputs: explicit(plan, *inputs)), strict=True):
        if ours is None or theirs is None:
            assert (ours if theirs is None else theirs) is None or (ours if theirs is None else theirs).abs().max() == 0
        else:
            assert torch.allclose(ours, theirs, atol=1e-12)


def test_constant_inputs_get_no_gradient() -> None:
    plan, (x, y, w) = make_plan(), make_inputs(False)
    y.requires_grad_(True)
    out = plan(x, y, w)
    out.sum().backward()
    assert x.grad is None and w.grad is None
    other = y.detach().clone().requires_grad_(True)
    explicit(plan, x, other, w).sum().backward()
    assert torch.allclose(y.grad, other.grad, atol=1e-13)


@pytest.mark.parametrize("needed", [True, False])
def test_frozen_convolution_pulls_back_all_channels(needed: bool, block_bytes: int) -> None:
    """The weights are a function of the length, given by their slopes."""
    plan, (x, y, w) = make_plan(), make_inputs(False)
    generator = torch.Generator().manual_seed(4)
    slopes = torch.randn(w.shape, generator=generator, dtype=torch.float64)
    cotangents = torch.randn(3, N_ATOMS, 8, N_CHANNELS, generator=generator, dtype=torch.float64)
    frozen = FrozenConvolution(plan, x, y, w, slopes)
    by_features, by_harmonics, by_lengths = frozen.pull(cotangents, needed)

    leaves = [x.clone().requires_grad_(True), y.clone().requires_grad_(True),
              torch.zeros(len(y), 1, dtype=torch.float64, requires_grad=True)]
    out = explicit(plan, leaves[0], leaves[1], w + slopes * leaves[2])
    assert torch.allclose(frozen.messages(), out, atol=1e-13)
    for channel, cotangent in enumerate(cotangents):
        expected = torch.autograd.grad(out, leaves, cotangent, retain_graph=True)
        if needed:
            assert torch.allclose(by_features[channel], expected[0], atol=1e-13)
        assert torch.allclose(by_harmonics[channel], expected[1], atol=1e-13)
        assert torch.allclose(by_lengths[channel], expected[2], atol=1e-13)
    assert (by_features is None) is not needed
