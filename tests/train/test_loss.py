from dataclasses import replace

import numpy as np
import pytest
import torch

from bec_mace.data import build_graph, collate
from bec_mace.errors import TrainingError
from bec_mace.evaluate.residuals import reduce_to_quantum, residual_unit
from bec_mace.testing.small_models import copy_model, make_model
from bec_mace.testing.structures import molecule, slab, triclinic, triclinic_pair
from bec_mace.train.loss import Loss, penalty

Z = "born_effective_charges"


def summed(loss, outputs, graph):
    sums = loss.error_sums(outputs, graph)
    return loss.value(sums, loss.stack(sums)), loss.summary(loss.stack(sums))


def test_charges_are_averaged_over_all_components(make_batch):
    graph = make_batch({"atomic_numbers": [1, 8], "labels": {Z: np.zeros((2, 3, 3))}})
    prediction = torch.zeros(2, 3, 3, dtype=torch.float64)
    prediction[0, 0, 1] = 3.0
    prediction[1, 2, 2] = -1.0
    value, summary = summed(Loss({Z: 2.0}), {Z: prediction}, graph)
    assert value.item() == pytest.approx(2.0 * 10.0 / 18.0)
    assert summary["loss"] == pytest.approx(value.item())
    assert summary[f"{Z}_rmse"] == pytest.approx((10.0 / 18.0) ** 0.5)
    assert summary[f"{Z}_mae"] == pytest.approx(4.0 / 18.0)


def test_element_weights_change_the_loss_but_not_the_reported_error(make_batch):
    graph = make_batch({"atomic_numbers": [1, 1, 8], "labels": {Z: np.zeros((3, 3, 3))}})
    prediction = torch.ones(3, 3, 3, dtype=torch.float64) * torch.tensor([1.0, 1.0, 2.0]).view(3, 1, 1)
    value, summary = summed(Loss({Z: 1.0}, {8: 4.0}), {Z: prediction}, graph)
    assert value.item() == pytest.approx((1.0 + 1.0 + 4.0 * 4.0) / 6.0)
    assert summary[f"{Z}_rmse"] == pytest.approx(2.0**0.5)


def test_frames_without_the_label_do_not_count(make_batch):
    graph = make_batch(
        {"atomic_numbers": [1], "labels": {"energy": np.array(1.0)}},
        {"atomic_numbers": [1, 1], "labels": {"energy": np.array(4.0), "forces": np.zeros((2, 3))}},
    )
    outputs = {
        "energy": torch.tensor([0.0, 0.0], dtype=torch.float64),
        "forces": torch.tensor([[9.0, 9, 9], [1, 0, 0], [0, 2, 0]], dtype=torch.float64, requires_grad=True),
    }
    value, summary = summed(Loss({"energy": 1.0, "forces": 10.0}), outputs, graph)
    energy, forces = (1.0 + 2.0**2) / 2, (1.0 + 4.0) / 6
    assert value.item() == pytest.approx(energy + 10.0 * forces)
    assert summary["energy_rmse"] == pytest.approx(energy**0.5)
    value.backward()
    assert outputs["forces"].grad[0].tolist() == [0.0, 0.0, 0.0]


def test_a_property_that_no_frame_of_the_batch_holds_adds_zero(make_batch):
    graph = make_batch({"atomic_numbers": [1], "labels": {"energy": np.array(1.0)}})
    loss = Loss({"energy": 1.0, "forces": 10.0})
    assert loss.labelled(graph) == ("energy",)
    value, summary = summed(loss, {"energy": torch.tensor([3.0], dtype=torch.float64)}, graph)
    assert value.item() == pytest.approx(4.0)
    assert "forces_rmse" not in summary


def test_dipoles_are_compared_over_the_root_of_the_number_of_atoms(make_batch):
    graph = make_batch({"atomic_numbers": [1] * 4, "labels": {"dipole": np.array([1.0, 0.0, 0.0])}})
    value, _ = summed(Loss({"dipole": 1.0}), {"dipole": torch.zeros(1, 3, dtype=torch.float64)}, graph)
    assert value.item() == pytest.approx((1.0 / 2.0) ** 2 / 3)
    assert residual_unit("dipole") == "e Å/sqrt(atom)"
    assert residual_unit("forces") == "eV/Å"


def test_polarizabilities_are_compared_relative_to_the_label(make_batch):
    label = np.diag([2.0, 4.0, 6.0])
    graph = make_batch({"atomic_numbers": [1], "labels": {"polarizability": label}})
    prediction = torch.tensor(label)[None] + torch.tensor([[[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, -1.0]]])
    value, summary = summed(Loss({"polarizability": 1.0}), {"polarizability": prediction}, graph)
    assert value.item() == pytest.approx((0.5**2 + 0.25**2) / 9)
    assert summary["polarizability_mae"] == pytest.approx(0.75 / 9)
    assert residual_unit("polarizability") == "relative"


def test_frames_without_a_dielectric_tensor_leave_the_gradient_as_it_is():
    """Of a crystal without the label and of molecules, which have none."""
    model = copy_model(make_model(("polarizability",))).train()
    labelled = build_graph(replace(triclinic(), labels={"dielectric_tensor": np.diag([2.0, 3.0, 4.0])}), model.r_max)
    others = [build_graph(frame, model.r_max) for frame in (triclinic_pair(), slab(), molecule())]
    loss, gradients = Loss({"dielectric_tensor": 1.0}), []
    for graph in (collate([labelled]), collate([others[0], labelled, *others[1:]])):
        model.zero_grad()
        value, _ = summed(loss, model(graph, ("dielectric_tensor",), create_graph=True), graph)
        value.backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]))
    assert gradients[0].abs().max() > 1e-3
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-12, rtol=0)


def test_stress_is_averaged_over_nine_components(make_batch):
    graph = make_batch({"atomic_numbers": [1], "labels": {"stress": np.zeros((3, 3))}})
    value, _ = summed(Loss({"stress": 1.0}), {"stress": torch.eye(3, dtype=torch.float64)[None]}, graph)
    assert value.item() == pytest.approx(3.0 / 9.0)


def test_polarization_is_compared_modulo_lattice_vectors():
    cell = torch.tensor([[[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.5, -1.0, 6.0]]], dtype=torch.float64)
    small = torch.tensor([[0.3, -0.7, 1.1]], dtype=torch.float64)
    shifted = small + torch.tensor([[2.0, -3.0, 1.0]], dtype=torch.float64) @ cell[0]
    everywhere = torch.ones(1, 3, dtype=torch.bool)
    torch.testing.assert_close(reduce_to_quantum(shifted, cell, everywhere), small)
    slab = torch.tensor([[True, True, False]])
    along_slab = small + torch.tensor([[2.0, -3.0, 0.0]], dtype=torch.float64) @ cell[0]
    torch.testing.assert_close(reduce_to_quantum(along_slab, cell, slab)[0, 2], small[0, 2])
    nowhere = torch.zeros(1, 3, dtype=torch.bool)
    torch.testing.assert_close(reduce_to_quantum(shifted, cell, nowhere), shifted)


def test_polarization_of_a_slab_keeps_the_component_without_a_quantum():
    cell = torch.diag_embed(torch.tensor([[4.0, 5.0, 6.0]], dtype=torch.float64))
    slab = torch.tensor([[True, True, False]])
    difference = torch.tensor([[4.1, -9.8, 13.0]], dtype=torch.float64)
    expected = torch.tensor([[0.1, 0.2, 13.0]], dtype=torch.float64)
    torch.testing.assert_close(reduce_to_quantum(difference, cell, slab), expected)


def test_shares_of_a_batch_add_up_to_its_loss(make_batch):
    generator = np.random.default_rng(0)
    frames = [{"atomic_numbers": [1] * n, "labels": {Z: generator.normal(size=(n, 3, 3))}} for n in (1, 3, 2)]
    loss = Loss({Z: 1.0})

    def sums(part):
        graph = make_batch(*part)
        return loss.error_sums({Z: torch.zeros(graph.n_atoms, 3, 3, dtype=torch.float64)}, graph)

    whole, first, second = sums(frames), sums(frames[:1]), sums(frames[1:])
    total = loss.stack(first) + loss.stack(second)
    torch.testing.assert_close(total, loss.stack(whole))
    torch.testing.assert_close(loss.value(first, total) + loss.value(second, total), loss.value(whole, loss.stack(whole)))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"bec": 1.0}, "unknown property 'bec'"),
        ({Z: 0.0}, "must be positive"),
        ({}, "nothing to train"),
    ],
)
def test_weights_that_make_no_loss_are_refused(weights, message):
    with pytest.raises(TrainingError, match=message):
        Loss(weights)


def test_huber_is_the_square_and_then_its_tangent():
    errors = torch.tensor([0.05, -0.1, 0.3, -0.5], dtype=torch.float64, requires_grad=True)
    found = penalty(errors, 0.1)
    assert found.tolist() == pytest.approx([0.0025, 0.01, 0.05, 0.09])
    (slope,) = torch.autograd.grad(found.sum(), errors)
    assert slope.tolist() == pytest.approx([0.1, -0.2, 0.2, -0.2])
    assert penalty(errors, None).tolist() == pytest.approx([0.0025, 0.01, 0.09, 0.25])
