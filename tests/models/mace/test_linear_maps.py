"""The dense kernels against mace's own blocks."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest
import torch

from bec_mace.data import Frame, build_graph, collate
from bec_mace.engine.environments import build_environments
from bec_mace.models import PolarizationModel
from bec_mace.models.mace.linear_maps import mix_channels_by_element
from bec_mace.models.mace.product import contract_monomials, monomial_indices, monomials, symmetrize_couplings
from bec_mace.models.network import LayerStage
from bec_mace.testing.oracle import mace_features
from bec_mace.testing.small_models import copy_model, make_model
from bec_mace.testing.structures import molecule, slab, triclinic, triclinic_pair
from tests.graphs import edge_vectors


def kernel_error(model: PolarizationModel, *frames: Frame) -> float:
    """Largest difference of the features of any layer, in training and in inference."""
    graph = collate([build_graph(frame, model.r_max) for frame in frames]).to(model.reference_charges.device)
    env = build_environments(graph, model._species(graph), len(model.elements), model.r_max)
    expected, _ = mace_features(model, graph.atomic_numbers, edge_vectors(graph), *graph.edge_index)
    assert len(expected) == model.config.num_interactions
    errors = []
    for frozen in (False, True):
        node_feats = model.backbone.embed_nodes(env)
        edge_feats = model.backbone.embed_edges(env.vectors, env)
        for number, theirs in enumerate(expected):
            stage = LayerStage(model, number, list(model.heads), frozen)
            node_feats = stage.propagate(node_feats, env.gather(stage.prepare(node_feats)), edge_feats, env).node_feats
            ours = env.unsort(node_feats)
            assert ours.shape == theirs.shape
            assert theirs.abs().max() > 1e-2
            errors.append((ours - theirs).abs().max().item())
    return max(errors)


@pytest.mark.parametrize(
    ("correlation", "max_l"),
    [(1, 1), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), pytest.param(3, 3, marks=pytest.mark.slow)],
)
def test_features_equal_those_of_mace(correlation: int, max_l: int, device: torch.device) -> None:
    model = copy_model(make_model(("monopole",), 2, correlation=correlation, max_l=max_l), device=device)
    assert kernel_error(model, triclinic(), molecule()) < 1e-12


@pytest.mark.parametrize(
    "irreps", ["3x0e", "2x0e + 2x1o + 2x2e", "3x1o + 3x0e", "2x0e + 2x1o + 2x1e", "2x0e + 2x1e", "2x0e + 2x1o + 2x2e + 2x3o"]
)
def test_hidden_irreps(irreps: str) -> None:
    assert kernel_error(make_model(("monopole",), 3, hidden_irreps=irreps), triclinic_pair(), molecule()) < 1e-12


def test_pseudovectors_live() -> None:
    """With correlation 3 the 1e features are not zero, so their kernels are tested too."""
    model = make_model(("monopole",), 2, hidden_irreps="2x0e + 2x1o + 2x1e", correlation=3)
    graph = build_graph(molecule(), model.r_max)
    features, _ = mace_features(model, graph.atomic_numbers, edge_vectors(graph), *graph.edge_index)
    assert features[-1][:, 4:].abs().max() > 1e-4
    assert kernel_error(model, molecule()) < 1e-12


@pytest.mark.parametrize("basis", ["bessel", "gaussian"])
def test_radial_functions(basis: str) -> None:
    sizes = {"radial_basis": basis, "num_radial": 6, "radial_mlp": (5, 7), "cutoff_power": 6}
    assert kernel_error(make_model(("monopole",), 1, **sizes), slab(), molecule()) < 1e-12


def test_radial_network_without_hidden_layers() -> None:
    assert kernel_error(make_model(("monopole",), 2, radial_mlp=()), molecule()) < 1e-12


@pytest.mark.parametrize("numbers", [[1, 1], [8, 8], [6, 1]])
def test_absent_elements(numbers: list[int]) -> None:
    """The model knows three elements; the frame holds one or two of them."""
    pair = triclinic_pair()
    frame = Frame(atomic_numbers=np.array(numbers), positions=pair.positions, cell=pair.cell, pbc=pair.pbc)
    assert kernel_error(make_model(("monopole",), 2), frame) < 1e-12


def test_monomials_are_all_products() -> None:
    values = torch.rand(2, 4, 3, dtype=torch.float64)
    out = torch.cat(monomials(values, 3), dim=1)
    indices = [index for degree in (1, 2, 3) for index in combinations_with_replacement(range(4), degree)]
    assert [index for degree in (1, 2, 3) for index in monomial_indices(4, degree)] == indices
    assert out.shape == (2, len(indices), 3)
    for place, index in enumerate(indices):
        assert torch.allclose(out[:, place], torch.stack([values[:, m] for m in index]).prod(dim=0), atol=1e-15)


def test_symmetrized_couplings_give_the_same_polynomial() -> None:
    generator = torch.Generator().manual_seed(0)
    couplings = torch.rand(2, 4, 4, 4, 5, generator=generator, dtype=torch.float64)
    x = torch.rand(4, generator=generator, dtype=torch.float64)
    expected = torch.einsum("oabck,a,b,c->ok", couplings, x, x, x)
    products = torch.stack([torch.stack([x[m] for m in index]).prod() for index in monomial_indices(4, 3)])
    assert torch.allclose(torch.einsum("omk,m->ok", symmetrize_couplings(couplings, 3), products), expected, atol=1e-13)


@pytest.mark.parametrize("few", [1, 32])
@pytest.mark.parametrize("group", [3, 128])
def test_each_element_has_its_own_coefficients(few: int, group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In both layouts, with one group of elements or several; a loop over atoms gives the same."""
    monkeypatch.setattr("bec_mace.models.mace.product._FEW_ATOMS", few)
    monkeypatch.setattr("bec_mace.models.mace.product._GROUP_ATOMS", group)
    values, coefficients, elements = polynomial_inputs()
    out = contract_monomials(values, coefficients, [2, 4, 1])
    for atom, element in enumerate(elements):
        products = torch.cat(monomials(values[atom].T.unsqueeze(2), 2), dim=1).squeeze(2)
        expected = torch.einsum("com,cm->oc", torch.cat(coefficients, dim=3)[element], products)
        assert torch.allclose(out[atom], expected, atol=1e-14)


@pytest.mark.parametrize("few", [1, 32])
def test_second_derivatives_of_the_polynomials(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bec_mace.models.mace.product._FEW_ATOMS", few)
    values, coefficients, _ = polynomial_inputs()
    inputs = [tensor.requires_grad_(True) for tensor in (values, *coefficients)]
    assert torch.autograd.gradcheck(lambda x, *w: contract_monomials(x, w, [2, 4, 1]), inputs)
    assert torch.autograd.gradgradcheck(lambda x, *w: contract_monomials(x, w, [2, 4, 1]), inputs)


def polynomial_inputs() -> tuple[torch.Tensor, list[torch.Tensor], list[int]]:
    """Values of 7 atoms, coefficients up to degree 2 of three elements, and the element of each atom."""
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(7, 3, 2, generator=generator, dtype=torch.float64)
    coefficients = [torch.rand(3, 2, 4, n, generator=generator, dtype=torch.float64) for n in (3, 6)]
    return values, coefficients, [0, 0, 1, 1, 1, 1, 2]


def test_element_without_atoms_is_skipped_by_the_linear_map() -> None:
    generator = torch.Generator().manual_seed(2)
    values = torch.rand(3, 2, 4, generator=generator, dtype=torch.float64)
    weights = [torch.rand(4, 4, generator=generator, dtype=torch.float64) for _ in range(3)]
    out = mix_channels_by_element(values, weights, [1, 0, 2])
    assert torch.allclose(out, torch.cat([values[:1] @ weights[0], values[1:] @ weights[2]]), atol=1e-15)
