"""Heads on a mace model: energies, forces and stress stay those of mace; Z* is exact; nothing of mace is trained."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bec_mace.config.model import ModelConfig
from bec_mace.config.schema import RunConfig
from bec_mace.data import Graph, build_graph, collate
from bec_mace.models import PolarizationModel, load_model, save_model
from bec_mace.models.mace.mace_file import sizes_of
from bec_mace.testing.oracle import oracle
from bec_mace.testing.physics import CHECKS, check_derivative_of_dipole, check_rotation
from bec_mace.testing.structures import molecule, triclinic, triclinic_pair
from bec_mace.train.loop import train as train_run
from tests.models.mace.mace_systems import ENERGIES, MODELS, build, built, largest, mace_model, mace_results

# Copying or writing a module of e3nn makes TorchScript of it.
pytestmark = pytest.mark.filterwarnings("ignore:The TorchScript type system:UserWarning")


@pytest.mark.parametrize("name", MODELS)
def test_energies_are_those_of_mace(name: str) -> None:
    module, model = mace_model(name), built(name)
    for frame in (triclinic(), molecule()):
        expected = mace_results(module, frame)
        assert largest(expected["forces"]) > 0.05
        actual = model(build_graph(frame, model.r_max), (*expected, "born_effective_charges"))
        for key, value in expected.items():
            assert largest(actual[key] - value) < 1e-10, key


@pytest.mark.parametrize(("name", "tolerance"), [("plain first", 2e-8), ("density", 3e-7)])
def test_energies_of_a_file_in_single_precision(name: str, tolerance: float, save: Callable[[Any], str]) -> None:
    """Constants of the tensor products are rounded, and ours with them; those of distances and repulsion are not."""
    module = copy.deepcopy(mace_model(name, torch.float32))
    model = build(save(module))
    assert sizes_of(model.config).single_precision
    expected = mace_results(module.double(), triclinic())
    actual = model(build_graph(triclinic(), model.r_max), tuple(expected))
    for key, value in expected.items():
        assert largest(actual[key] - value) < tolerance, key


def test_sizes_are_those_of_the_file() -> None:
    config = built("plain first").config
    assert (config.r_max, config.channels, config.max_l, config.correlation, config.num_interactions) == (2.6, 3, 2, 3, 2)
    assert (config.hidden_irreps, config.radial_mlp, config.num_radial, config.cutoff_power) == ("3x0e + 3x1o", [8], 4, 5)
    assert list(config.head_options) == ["monopole", "energy"]
    sizes = sizes_of(config)
    assert sizes.layer_irreps == ["3x0e+3x1o", "3x0e"] and sizes.correlations == [3, 2] and not sizes.residual_first
    assert sizes.reference_energies == pytest.approx(ENERGIES + 0.2) and sizes.scale == 1.3
    assert ModelConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_basis_of_couplings_that_is_another_one(present: Callable[[Any], str]) -> None:
    """Reduced couplings are fewer and mixed; the weights are changed to those of the usual ones."""
    module = copy.deepcopy(mace_model("usual"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for contraction in (c for product in module.products for c in product.symmetric_contractions.contractions):
            for nu, weights in ((1, contraction.weights[0]), (2, contraction.weights_max)):
                coupling = contraction.U_tensors(nu)
                n = coupling.shape[-1]
                mix = torch.eye(n, dtype=torch.float64) + 0.3 * torch.rand(n, n, generator=generator, dtype=torch.float64)
                coupling.copy_(coupling @ mix)
                weights.copy_(torch.einsum("pq,zqc->zpc", torch.linalg.inv(mix), weights))
    expected = mace_results(mace_model("usual"), triclinic())
    assert largest(mace_results(module, triclinic())["forces"] - expected["forces"]) < 1e-10
    model = build(present(module))
    out = model(build_graph(triclinic(), model.r_max), ("energy", "forces"))
    assert largest(out["forces"] - expected["forces"]) < 1e-10


HEADS = ("monopole", "charge_transfer", "dipole", "direct")


@pytest.mark.parametrize("name", ["plain first", "2e", "three layers, gaussian", "density", "density, three layers"])
def test_response_against_the_oracle(name: str) -> None:
    model = built(name, HEADS)
    for frame in (triclinic_pair(), molecule()):
        expected = oracle(model, frame)["total"]
        assert largest(expected - expected.transpose(1, 2)) > 1e-3
        out = model(build_graph(frame, model.r_max), ("born_effective_charges", "forces"))
        assert largest(out["born_effective_charges"] - expected) < 1e-10


@pytest.mark.parametrize("check", CHECKS)
def test_checks_of_every_model(check: str) -> None:
    CHECKS[check](built("plain first", ("monopole", "charge_transfer", "dipole"), freeze=False))


@pytest.mark.parametrize("check", CHECKS)
def test_checks_with_densities_and_transformed_distances(check: str) -> None:
    CHECKS[check](built("density", ("monopole", "charge_transfer", "dipole"), freeze=False))


def test_frozen_models_have_the_symmetries() -> None:
    model = built("usual", ("charge_transfer", "dipole"))
    check_rotation(model)
    check_derivative_of_dipole(model)


def batch(model: PolarizationModel) -> Graph:
    return collate([build_graph(frame, model.r_max) for frame in (triclinic_pair(), molecule())])


def loss(model: PolarizationModel) -> Tensor:
    """A scalar that every component of Z* enters with its own weight."""
    z = model(batch(model), create_graph=True)["born_effective_charges"]
    weights = torch.rand(z.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return (weights * z).square().sum()


@pytest.mark.parametrize("name", ["plain first", "2e", "density"])
def test_gradients_of_the_heads_do_not_depend_on_freezing(name: str) -> None:
    """With a frozen backbone its derivatives are constants, and other code computes them."""
    gradients = []
    for freeze in (True, False):
        model = built(name, HEADS, freeze)
        trained = {key: value for key, value in model.named_parameters() if value.requires_grad}
        mine = {key: value for key, value in trained.items() if not key.startswith(("backbone.", "heads.energy."))}
        assert (mine.keys() == trained.keys()) is freeze
        gradients.append(dict(zip(mine, torch.autograd.grad(loss(model), list(mine.values())), strict=True)))
    for key, value in gradients[1].items():
        assert largest(value) > 0, key
        assert largest(gradients[0][key] - value) < 1e-10 * max(1.0, largest(value)), key


def test_gradients_of_the_density_against_finite_differences() -> None:
    model = built("density", ("monopole", "dipole"), freeze=False)
    for layer in model.backbone.layers:
        weight = layer.interaction.density_fn[0].weight
        (gradient,) = torch.autograd.grad(loss(model), [weight])
        direction, step, ends = gradient.sign(), 1e-4, []
        for sign in (1, -1):
            with torch.no_grad():
                weight.add_(sign * step * direction)
                ends.append(float(loss(model)))
                weight.sub_(sign * step * direction)
        expected = float((gradient * direction).sum())
        assert expected > 1e-3
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(expected, rel=1e-5)


def test_blocks_of_atoms_with_densities() -> None:
    model, graph = built("density", ("monopole", "dipole")), build_graph(triclinic(), 2.6)
    whole, parts = (model(graph, ("born_effective_charges", "energy", "forces"), block_size=size) for size in (None, 2))
    for key, value in whole.items():
        assert largest(parts[key] - value) < 1e-12 * max(1.0, largest(value)), key


def train(model: PolarizationModel, steps: int = 2) -> None:
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()


def test_training_leaves_a_frozen_backbone_alone(present: Callable[[Any], str]) -> None:
    module = mace_model("usual")
    model = build(present(module), ("dipole", "monopole"))
    before = {name: value.clone() for name, value in model.named_parameters()}
    train(model)
    for name, value in model.named_parameters():
        changed = not torch.equal(value, before[name])
        assert changed is not name.startswith(("backbone.", "heads.energy.")), name
    out = model(build_graph(molecule(), model.r_max), ("energy", "forces", "born_effective_charges"))
    expected = mace_results(module, molecule())
    assert largest(out["energy"] - expected["energy"]) < 1e-10 and largest(out["forces"] - expected["forces"]) < 1e-10


@pytest.mark.parametrize(("name", "freeze"), [("plain first", True), ("last readout alone, tanh", False)])
def test_a_saved_model_needs_no_file_of_mace(
    name: str, freeze: bool, save: Callable[[Any], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(mace_model(name))
    model = build(path, ("dipole", "charge_transfer"), freeze)
    train(model)
    saved = save_model(model, tmp_path / "best")
    Path(path).unlink()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    for owner, attribute in ((pickle, "load"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, attribute, refuse)
    loaded = load_model(saved, dtype=torch.float64)
    names = ("born_effective_charges", "energy", "forces", "charges")
    expected, actual = (m.requires_grad_(False)(batch(model), names) for m in (model, loaded))
    for key, value in expected.items():
        assert torch.equal(actual[key], value), key
    assert loaded.config == model.config and loaded.elements == [1, 6, 8]


def test_a_run_from_its_configuration(save: Callable[[Any], str], files: Path, tmp_path: Path) -> None:
    """In float32 with averaged weights, stopped and resumed; the energies are those of mace, in float64, all the same."""
    module = mace_model("usual")
    path = save(module)

    def config(epochs: int) -> RunConfig:
        return RunConfig.model_validate(
            {
                "output": str(tmp_path / "run"),
                "device": "cpu",
                "data": {"train": str(files / "water_clusters_rpbe_d3.extxyz"), "validation": 0.5},
                "model": {"backbone": {"from_mace": path}, "heads": ["dipole"]},
                "training": {"epochs": epochs},
            }
        )

    train_run(config(1))
    assert train_run(config(2), resume=True)["epochs"] == 2
    model = load_model(tmp_path / "run", dtype=torch.float64)
    expected = mace_results(module, triclinic())
    out = model(build_graph(triclinic(), model.r_max), tuple(expected))
    for key, value in expected.items():
        assert largest(out[key] - value) < 1e-10, key


def test_training_in_single_precision_keeps_the_weights_of_the_file(present: Callable[[Any], str], tmp_path: Path) -> None:
    """The frozen weights are stored as they were read, so that in float64 the energies are mace's again."""
    module = mace_model("plain first")
    model = build(present(module), ("dipole",), dtype=torch.float32)
    loaded = load_model(save_model(model, tmp_path / "m"), dtype=torch.float64)
    expected = mace_results(module, triclinic())
    out = loaded(build_graph(triclinic(), loaded.r_max), tuple(expected))
    for key, value in expected.items():
        assert largest(out[key] - value) < 1e-10, key
    with torch.no_grad():  # What was trained after all is stored as it is.
        model.backbone.node_embedding.linear.weight.add_(1.0)
    again = load_model(save_model(model, tmp_path / "m"))
    assert torch.equal(again.backbone.node_embedding.linear.weight, model.backbone.node_embedding.linear.weight)
