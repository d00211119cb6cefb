"""Radial weights with their derivative beside them."""

from __future__ import annotations

import pytest
import torch

from bec_mace.models.radial import RadialFeatures, density_with_derivative, silu_with_derivative, with_derivative
from bec_mace.testing.small_models import make_model


@pytest.mark.parametrize("power", [2, 5])
@pytest.mark.parametrize("transform", ["none", "agnesi"])
@pytest.mark.parametrize("basis", ["bessel", "gaussian"])
def test_slopes_of_the_basis(basis: str, transform: str, power: int) -> None:
    """Values are those of mace's own modules, slopes their derivatives by finite differences."""
    model = make_model(("monopole",), 1, radial_basis=basis, distance_transform=transform, cutoff_power=power)
    backbone = model.backbone
    lengths = torch.linspace(0.4, 2.5, 20, dtype=torch.float64).unsqueeze(1)
    radii = None if transform == "none" else 0.9 + 0.1 * torch.rand(20, 1, dtype=torch.float64)
    values, slopes = backbone.radial_functions(lengths, radii)
    step = 1e-5
    above, below = (backbone.radial_functions(lengths + sign * step, radii)[0] for sign in (1, -1))
    assert (slopes - (above - below) / (2 * step)).abs().max() < 1e-7 * max(1.0, slopes.abs().max().item())
    if radii is None:
        theirs = backbone.radial_embedding
        torch.testing.assert_close(values, theirs.bessel_fn(lengths) * theirs.cutoff_fn(lengths), rtol=1e-14, atol=0)


@pytest.mark.parametrize("basis", ["bessel", "gaussian"])
def test_basis_and_slopes_vanish_at_the_cutoff(basis: str) -> None:
    """Empty neighbour slots hold this length, in both precisions."""
    for dtype in (torch.float64, torch.float32):
        model = make_model(("monopole",), 1, None, dtype, radial_basis=basis)
        lengths = torch.full((1, 1), model.r_max, dtype=dtype)
        values, slopes = model.backbone.radial_functions(lengths)
        assert values.abs().max() == 0
        assert slopes.abs().max() == 0


def test_declared_derivative_is_used() -> None:
    lengths = torch.rand(5, 1, dtype=torch.float64, requires_grad=True)
    values = torch.rand(3, 5, 2, dtype=torch.float64, requires_grad=True)
    slopes = torch.rand(3, 5, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(3, 5, 2, dtype=torch.float64)
    out = with_derivative(lengths, values, slopes)
    assert torch.equal(out, values)
    by_length, by_value = torch.autograd.grad((weights * out).sum(), [lengths, values], create_graph=True)
    assert torch.allclose(by_length.squeeze(1), (weights * slopes).sum(dim=(0, 2)))
    assert torch.equal(by_value, weights)
    # The derivative can be differentiated by what its slopes are made of.
    assert torch.allclose(torch.autograd.grad(by_length.sum(), slopes)[0], weights)


def test_silu_carries_the_slope() -> None:
    x = torch.linspace(-3, 3, 9, dtype=torch.float64, requires_grad=True)
    values, slopes = silu_with_derivative(x * x, 2 * x, 1.7)
    expected = 1.7 * torch.nn.functional.silu(x * x)
    assert torch.allclose(values, expected)
    assert torch.allclose(slopes, torch.autograd.grad(expected.sum(), x)[0])


def test_density_carries_the_slope() -> None:
    lengths = torch.linspace(0.5, 2.0, 6, dtype=torch.float64).unsqueeze(1).requires_grad_()
    radial = torch.cat([torch.sin(lengths), lengths**2 / 3], dim=1)
    slopes = torch.cat([torch.cos(lengths), 2 * lengths / 3], dim=1)
    weight = torch.tensor([[0.7], [-0.4]], dtype=torch.float64)
    edges = RadialFeatures(lengths.expand(-1, 3), lengths, lengths, radial, slopes)
    values, found = density_with_derivative(edges, weight)
    expected = torch.tanh((radial @ weight).squeeze(1) ** 2)
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(found, torch.autograd.grad(expected.sum(), lengths)[0].squeeze(1))
