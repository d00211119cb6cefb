"""A kernel model obeys what every model obeys, and its design matrix is its Z*."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bec_mace.config.model import KernelModelConfig
from bec_mace.data import build_graph, collate
from bec_mace.errors import ModelError
from bec_mace.models import KernelModel, build_kernel_model, load_model, save_model, update_metadata
from bec_mace.models.checkpoint_file import read_checkpoint, write_checkpoint
from bec_mace.testing.physics import CHECKS, make_frame, random_rotation
from bec_mace.testing.small_models import copy_model
from bec_mace.testing.structures import FRAMES, atom, molecule, slab, triclinic, triclinic_pair

from .kernel_systems import STATISTICS, kernel_oracle, make_kernel_model

Z, DEVIATION = "born_effective_charges", "born_effective_charges_std"
BOTH = ("monopole", "dipole")
MODELS = {"monopole": (("monopole",), "none"), "dipole": (("dipole",), "none"), "both": (BOTH, None)}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", MODELS)
def test_kit(name: str, check: str) -> None:
    CHECKS[check](make_kernel_model(*MODELS[name]))


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("zeta", [1, 2, 3])
def test_engine_equals_oracle(zeta: int, frame: str) -> None:
    model, structure = make_kernel_model(BOTH, "none", zeta), FRAMES[frame]()
    expected = kernel_oracle(model, structure)
    out = model(build_graph(structure, model.r_max), (Z, "head_contributions"))
    for name, part in expected.items():
        if frame != "atom":
            assert part.abs().max() > 1e-3, name
        assert (out["head_contributions"][name] - part).abs().max() < 1e-10, name
    assert (out[Z] - sum(expected.values())).abs().max() < 1e-10


@pytest.mark.parametrize("rule", ["none", "project"])
@pytest.mark.parametrize("heads", [("monopole",), ("dipole",), BOTH], ids="+".join)
@pytest.mark.parametrize("zeta", [1, 2, 3])
def test_design_matrix_times_weights_is_the_forward_pass(zeta: int, heads: tuple[str, ...], rule: str) -> None:
    model = make_kernel_model(heads, rule, zeta)
    graph = collate([build_graph(frame, model.r_max) for frame in (triclinic(), triclinic_pair(), slab(), molecule(), atom())])
    expected = model(graph)[Z]
    matrix = model.design_matrix(graph)
    assert matrix.shape == (graph.n_atoms, 3, 3, model.n_weights)
    assert expected.abs().max() > 0.1
    assert (matrix @ model.weights() - expected).abs().max() < 1e-12
    # A block of one atom at a time: memory changes nothing.
    assert (model.design_matrix(graph, 1.0) - matrix).abs().max() < 1e-12


def test_first_weights_are_monopoles() -> None:
    model = make_kernel_model(BOTH)
    graph = build_graph(triclinic(), model.r_max)
    matrix, weights, total = model.design_matrix(graph), model.weights(), sum(model.sizes)
    shares = model(graph, ("head_contributions",))["head_contributions"]
    places = {"monopole": slice(0, total), "dipole": slice(total, 2 * total), "reference": slice(2 * total, None)}
    for name, place in places.items():
        assert (matrix[..., place] @ weights[place] - shares[name]).abs().max() < 1e-12


def test_deviation_is_that_of_drawn_weights() -> None:
    """Weights drawn from the posterior give Z* that scatter as predicted."""
    model = make_kernel_model(BOTH, "project")
    graph = build_graph(triclinic(), model.r_max)
    deviation = model(graph, (DEVIATION,))[DEVIATION]
    generator = torch.Generator().manual_seed(2)
    drawn = model.posterior @ torch.randn(model.n_weights, 20000, generator=generator, dtype=torch.float64)
    scatter = (model.design_matrix(graph) @ drawn).var(dim=3)
    elements = torch.tensor([model.elements.index(int(z)) for z in graph.atomic_numbers])
    expected = torch.sqrt(scatter + model.noise**2) * model.calibration[elements].view(-1, 1, 1)
    assert (deviation / expected - 1).abs().max() < 0.05


def test_deviation_along_a_direction() -> None:
    model = make_kernel_model(BOTH)
    graph = build_graph(triclinic(), model.r_max)
    full = model(graph, (DEVIATION,))[DEVIATION]
    directions = torch.tensor([[0.0, 1.0, 0.0], [0.3, -0.5, 0.8]], dtype=torch.float64)
    along = model(graph, (DEVIATION,), directions=directions)[DEVIATION]
    assert along.shape == (graph.n_atoms, 2, 3)
    assert (along[:, 0] - full[:, 1]).abs().max() < 1e-12
    longer = model(graph, (DEVIATION,), directions=3 * directions)[DEVIATION]
    torch.testing.assert_close(longer, 3 * along)
    turned = random_rotation()
    frame = triclinic()
    rotated = make_frame(list(frame.atomic_numbers), frame.positions @ turned.T, frame.cell @ turned.T, True)
    other = model(build_graph(rotated, model.r_max), (DEVIATION,), directions=directions @ torch.tensor(turned).T)[DEVIATION]
    moved = torch.einsum("jdb,cb->jdc", along.square(), torch.tensor(turned) ** 2)
    assert other.square().sum(dim=2) == pytest.approx(moved.sum(dim=2).numpy(), rel=0.5)
    assert (other.square().sum(2) - along.square().sum(2)).abs().max() < 1e-10  # The trace over displacements does not turn.


@pytest.mark.parametrize("uncertainty", [True, False])
def test_checkpoint_round_trip(uncertainty: bool, tmp_path: Path) -> None:
    model = copy_model(make_kernel_model(BOTH, None, uncertainty=uncertainty)).requires_grad_(False)
    loaded = load_model(save_model(model, tmp_path / "m"), dtype=torch.float64)
    assert isinstance(loaded, KernelModel)
    assert loaded.config == model.config
    graph = build_graph(triclinic_pair(), model.r_max)
    expected, actual = model(graph, model.provides), loaded(graph, model.provides)
    assert (DEVIATION in expected) is uncertainty
    for name in model.provides - {"head_contributions"}:
        assert torch.equal(actual[name], expected[name]), name


def test_metadata_can_change_while_the_tensors_stay(tmp_path: Path) -> None:
    path = save_model(make_kernel_model(BOTH), tmp_path / "m", {"metrics": {"a": 1.0}, "note": "kept"})
    before = read_checkpoint(path)[1]
    update_metadata(path, {"metrics": {"b": 2.0}})
    metadata, after = load_model(path).metadata, read_checkpoint(path)[1]
    assert (metadata["metrics"], metadata["note"]) == ({"b": 2.0}, "kept")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(ModelError, match=r"other\.safetensors: no such file"):
        update_metadata(tmp_path / "other", {})


def test_sums_over_representatives_stay_in_double_precision(tmp_path: Path) -> None:
    path = save_model(make_kernel_model(BOTH), tmp_path / "m")
    low = load_model(path, dtype=torch.float32)
    assert low.reference_charges.dtype == torch.float32
    assert torch.equal(low.representatives, make_kernel_model(BOTH).representatives)
    assert torch.equal(low.weights()[:-3], make_kernel_model(BOTH).weights()[:-3])
    graph = build_graph(molecule(), low.r_max, torch.float32)
    assert {value.dtype for value in low(graph, (Z, "charges", DEVIATION)).values()} == {torch.float32}


def test_number_of_representatives_is_part_of_the_checkpoint(tmp_path: Path) -> None:
    path = save_model(make_kernel_model(BOTH), tmp_path / "m")
    description, tensors = read_checkpoint(path)
    description["config"]["num_representatives"]["C"] = 6
    write_checkpoint(path, description, tensors)
    with pytest.raises(ModelError, match="tensors do not fit the description beside them"):
        load_model(path)


def test_elements_without_a_number_of_representatives() -> None:
    config = KernelModelConfig(kind="kernel", r_max=3.0, heads=["dipole"], num_representatives={"H": 3})
    with pytest.raises(ModelError, match="num_representatives names no number for C, O; add it"):
        build_kernel_model(config, [1, 6, 8], STATISTICS)


def test_too_many_elements() -> None:
    config = KernelModelConfig(kind="kernel", r_max=3.0, heads=["dipole"])
    with pytest.raises(ModelError, match="a kernel model of 60 elements .* invariants .*; lower them, or train a network"):
        build_kernel_model(config, list(range(1, 61)), STATISTICS)


def test_no_energy() -> None:
    model = make_kernel_model(BOTH)
    with pytest.raises(ModelError, match="does not give energy: its heads .monopole, dipole. give"):
        model(build_graph(molecule(), model.r_max), ("energy",))
    with pytest.raises(ModelError, match="this model has no energy head; add 'energy' to model.heads and train it"):
        model._energy(None)
