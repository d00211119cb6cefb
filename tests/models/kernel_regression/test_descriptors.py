"""Radial functions, harmonics, densities and descriptors: exact gradients, right symmetry."""

from __future__ import annotations

import pytest
import torch

from bec_mace.data import build_graph
from bec_mace.models.kernel_regression.basis import RadialBasis, bessel_zeros
from bec_mace.models.kernel_regression.descriptors import coupling
from bec_mace.models.kernel_regression.harmonics import harmonic_values, spherical_harmonics
from bec_mace.testing.structures import triclinic

from .kernel_systems import make_kernel_model, radial_functions

torch.serialization.add_safe_globals([slice])


def vectors(n: int = 9) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def test_harmonics_are_those_of_e3nn() -> None:
    from e3nn import o3

    points = vectors().requires_grad_()
    expected = o3.spherical_harmonics(list(range(7)), points, True, normalization="integral")
    values, gradients = spherical_harmonics(points.detach(), 6)
    assert (values - expected).abs().max() < 1e-13
    assert torch.equal(harmonic_values(points.detach(), 6), values)
    for column in range(1, 49):
        (slope,) = torch.autograd.grad(expected[:, column].sum(), points, retain_graph=True)
        assert (gradients[:, :, column] - slope).abs().max() < 1e-12


@pytest.mark.parametrize("degree", range(5))
def test_coupling_is_that_of_e3nn(degree: int) -> None:
    from e3nn import o3

    expected, found = 3**0.5 * o3.wigner_3j(degree, degree + 1, 1, dtype=torch.float64), coupling(degree)
    assert min((found - expected).abs().max(), (found + expected).abs().max()) < 1e-13


def test_radial_functions() -> None:
    model = make_kernel_model(("monopole",))
    radial = model.descriptors.density.radial
    lengths = torch.linspace(0.6, 2.6, 40, dtype=torch.float64).requires_grad_()
    expected = torch.cat([radial_functions(model, lengths, degree) for degree in range(4)], dim=1)
    values, slopes = radial(lengths)
    assert values.shape[1] == sum(radial.counts)
    assert (values - expected).abs().max() < 1e-11
    for column in range(values.shape[1]):
        (slope,) = torch.autograd.grad(expected[:, column].sum(), lengths, retain_graph=True)
        assert (slopes[:, column] - slope).abs().max() < 1e-10
    assert values[-1].abs().max() < 1e-14
    assert slopes[-1].abs().max() < 1e-13


def test_higher_l_have_fewer_functions_but_at_least_one() -> None:
    assert RadialBasis(4.0, 6, 4, 0.4).counts == (6, 5, 5, 4, 4)
    assert RadialBasis(4.0, 1, 3, 0.4).counts == (1, 1, 1, 1)
    assert bessel_zeros(1, 5.0) == pytest.approx([4.493409457909064])


def test_a_wider_density_is_smoother() -> None:
    """Smearing takes the same share from functions of the same wave number."""
    length = torch.tensor([1.7], dtype=torch.float64)
    sharp, smooth = (RadialBasis(4.0, 3, 2, width)(length)[0] for width in (0.0, 0.5))
    share = (smooth / sharp)[0].abs()
    assert share[0] > share[1] > share[2]


def test_pulls_are_gradients_of_the_descriptors() -> None:
    model = make_kernel_model(("dipole",))
    descriptors = model.descriptors
    env = model.environments(build_graph(triclinic(), model.r_max))
    densities = descriptors.density(env, model.kernel().element_of(env)[env.sender]).requires_grad_()
    found = descriptors(densities)
    norms = found.norms
    invariants, directions = model.representatives[:3], model.directions[:2]
    overlaps = (found.invariants * norms.unsqueeze(1)) @ invariants.T
    pulled = descriptors.pull_invariants(invariants, densities.detach())
    for column in range(3):
        (expected,) = torch.autograd.grad(overlaps[:, column].sum(), densities, retain_graph=True)
        assert (pulled[..., column] - expected).abs().max() < 1e-13
    projected = (found.vectors * norms.view(-1, 1, 1)) @ directions.T
    pulled = descriptors.pull_vectors(directions, densities.detach())
    for axis in range(3):
        (expected,) = torch.autograd.grad(projected[:, axis, 1].sum(), densities, retain_graph=True)
        assert (pulled[..., axis, 1] - expected).abs().max() < 1e-13
    (expected,) = torch.autograd.grad(0.5 * norms.square().sum(), densities)
    assert (descriptors.pull_own_norm(densities.detach()) - expected).abs().max() < 1e-13


def test_blocks_of_edges_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_kernel_model(("monopole", "dipole"))
    graph = build_graph(triclinic(), model.r_max)
    expected = model(graph)["born_effective_charges"]
    monkeypatch.setattr("bec_mace.models.kernel_regression.density.MAX_EDGES", 1)
    assert (model(graph)["born_effective_charges"] - expected).abs().max() < 1e-13
