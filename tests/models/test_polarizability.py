"""Polarizabilities and dielectric tensors: equations and limits that the symmetries of the kit do not know."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bec_mace.data import build_graph, collate
from bec_mace.errors import ModelError
from bec_mace.models.heads.polarizability import bounded_exponential
from bec_mace.models.heads.second_order import _SECOND_ORDER
from bec_mace.testing.physics import check_rotation, evaluate, repeat
from bec_mace.testing.small_models import copy_model, make_model
from bec_mace.testing.structures import molecule, slab, triclinic

HEADS = ("dipole", "polarizability")


def both(model, *frames):
    graph = collate([build_graph(frame, model.r_max) for frame in frames])
    out = model(graph, ("polarizability", "dielectric_tensor"))
    return out["polarizability"], out["dielectric_tensor"]


def test_the_dielectric_tensor_follows_from_the_polarizability():
    frame = triclinic()
    polarizability, dielectric = both(make_model(HEADS, hidden_max_l=2), frame)
    volume = abs(np.linalg.det(frame.cell))
    torch.testing.assert_close(dielectric, torch.eye(3).double() + 4 * math.pi / volume * polarizability)
    assert dielectric[0, 1, 2].abs() > 1e-2, "isotropic tensors hide mistakes"


def test_the_dielectric_tensor_does_not_depend_on_the_supercell():
    model = make_model(HEADS)
    one, many = both(model, triclinic())[1], both(model, repeat(triclinic(), (2, 1, 2)))[1]
    torch.testing.assert_close(many, one, atol=1e-11, rtol=0)


def test_the_volume_of_a_left_handed_cell_is_positive():
    frame = triclinic()
    swapped = replace(frame, cell=frame.cell[[1, 0, 2]])
    assert np.linalg.det(frame.cell) * np.linalg.det(swapped.cell) < 0
    model = make_model(HEADS)
    torch.testing.assert_close(both(model, swapped)[1], both(model, frame)[1], atol=1e-11, rtol=0)


def test_what_does_not_fill_space_has_a_polarizability_alone():
    polarizability, dielectric = both(make_model(HEADS), slab(), triclinic(), molecule())
    assert polarizability.isfinite().all()
    assert dielectric.isnan().all(dim=(1, 2)).tolist() == [True, False, True]


def test_tensors_are_symmetric_with_the_trace_of_the_scalars():
    model = copy_model(make_model(HEADS, hidden_max_l=2))
    polarizability = both(model, triclinic())[0][0]
    assert torch.equal(polarizability, polarizability.T)
    deviation = polarizability - polarizability.trace() / 3 * torch.eye(3).double()
    assert deviation.abs().max() > 5e-3 * polarizability.trace()
    head = model.heads["polarizability"]
    with torch.no_grad():
        for layer in (head.left, head.gates[-1], head.scalar[-1]):
            layer.weight.zero_()
            if layer.bias is not None:
                layer.bias.zero_()
        head.references.copy_(torch.tensor([1.0, 2.0, 4.0]).log())
    counts = np.array([(triclinic().atomic_numbers == z).sum() for z in (1, 6, 8)])
    torch.testing.assert_close(both(model, triclinic())[0][0], counts @ [1.0, 2.0, 4.0] * torch.eye(3).double())


def test_second_order_features_rotate_as_they_should():
    check_rotation(make_model(HEADS, hidden_max_l=2))


def test_the_second_order_basis_is_that_of_the_spherical_harmonics(rng):
    from e3nn import o3

    vectors = torch.tensor(rng.normal(size=(7, 3)))
    values = torch.einsum("mab,ia,ib->im", torch.tensor(_SECOND_ORDER, dtype=torch.float64), vectors, vectors)
    expected = o3.spherical_harmonics(2, vectors, normalize=False, normalization="norm")
    torch.testing.assert_close(values, expected.to(values.dtype), atol=1e-6, rtol=1e-6)


def test_it_has_no_share_in_the_charges():
    alone, with_it = make_model(("dipole",)), make_model(HEADS)
    z = "born_effective_charges"
    torch.testing.assert_close(evaluate(with_it, molecule())[z], evaluate(alone, molecule())[z], atol=1e-12, rtol=0)
    parts = with_it(build_graph(molecule(), with_it.r_max), ("head_contributions",))["head_contributions"]
    assert set(parts) == {"dipole", "reference"}


def test_alone_it_gives_nothing_else():
    model = make_model(("polarizability",))
    assert model.provides == {"polarizability", "dielectric_tensor", "raman_tensors"}
    assert not model.reference_charges.requires_grad


def test_blocks_give_the_same():
    model, graph = make_model(HEADS), build_graph(triclinic(), 2.6)
    whole, blocks = (model(graph, ("polarizability",), block_size=size)["polarizability"] for size in (None, 2))
    torch.testing.assert_close(blocks, whole, atol=1e-12, rtol=0)


def test_it_needs_vectors():
    with pytest.raises(ModelError, match="polarizability head needs 1o features"):
        make_model(HEADS[1:], hidden_irreps="3x0e")


def test_vectors_and_second_order_features_leave_the_trace_alone():
    head = make_model(HEADS, hidden_max_l=2).heads["polarizability"]
    generator = torch.Generator().manual_seed(3)
    feats = torch.randn(4, 9, 3, dtype=torch.float64, generator=generator)
    species = torch.tensor([0, 1, 2, 1])
    shares, others = head.polarizabilities(feats, species), feats.clone()
    others[:, 1:] *= -1.7
    trace = shares.diagonal(dim1=1, dim2=2).sum(dim=1)
    torch.testing.assert_close(head.polarizabilities(others, species).diagonal(dim1=1, dim2=2).sum(dim=1), trace)
    torch.testing.assert_close(trace, 3 * torch.exp(head.references[species] + head.scalar(feats[:, 0]).squeeze(1)))
    assert (shares - trace.view(-1, 1, 1) / 3 * torch.eye(3).double()).abs().max() > 0.1


def test_the_size_of_an_atom_is_bounded_and_smooth() -> None:
    """e^x as far as atoms go; beyond no kink in value, slope or curvature, and no infinity."""
    x = torch.tensor([-4.0, 0.0, 3.4, 5.999999, 6.000001, 200.0], dtype=torch.float64, requires_grad=True)
    value = bounded_exponential(x)
    assert torch.allclose(value[:4], torch.exp(x[:4]), rtol=1e-14) and 0 < value[5] < 1e8
    slope = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
    curvature = torch.autograd.grad(slope.sum(), x)[0]
    for one in (value, slope, curvature):
        assert abs(one[4] / one[3] - 1) < 1e-5
    assert torch.autograd.gradcheck(bounded_exponential, (x[[0, 2, 5]].detach().requires_grad_(),))
