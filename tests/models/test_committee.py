"""Committees: means and spreads over networks that were trained apart."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule as ase_molecule

from bec_mace import BECCalculator
from bec_mace.data import build_graph
from bec_mace.errors import ModelError
from bec_mace.models import CommitteeModel, load_model, save_model
from bec_mace.models.footprint import estimate_memory
from bec_mace.testing.physics import CHECKS
from bec_mace.testing.small_models import copy_model, make_model
from bec_mace.testing.structures import molecule, triclinic
from tests.models.kernel_regression.kernel_systems import make_kernel_model

Z, DEVIATION = "born_effective_charges", "born_effective_charges_std"


@cache
def committee() -> CommitteeModel:
    """Three networks of different heads and sizes. Do not change it: it is shared."""
    return CommitteeModel(
        [
            make_model(("monopole", "dipole", "energy"), acoustic_sum_rule="weighted"),
            make_model(("charge_transfer", "energy"), acoustic_sum_rule="none", channels=2),
            make_model(("monopole", "energy"), acoustic_sum_rule="project", max_l=3, num_interactions=1),
        ]
    )


@pytest.mark.parametrize("directions", [None, torch.tensor([[0.2, -0.7, 1.1]], dtype=torch.float64)])
def test_mean_and_spread_of_the_members(directions: torch.Tensor | None) -> None:
    model = committee()
    graph = build_graph(triclinic(), model.r_max)
    names = (Z, "charges", "dipole", "energy", "forces", "stress")
    found = model(graph, (*names, DEVIATION), directions=directions)
    each = [member(graph, names, directions=directions) for member in model.networks]
    for name in names:
        values = np.stack([values[name].numpy() for values in each])
        assert np.abs(values[0] - values[1]).max() > 1e-3
        assert np.abs(found[name].numpy() - values.mean(axis=0)).max() < 1e-12, name
    spread = np.stack([values[Z].numpy() for values in each]).std(axis=0, ddof=1)
    assert np.abs(found[DEVIATION].numpy() - spread).max() < 1e-12 and spread.max() > 0.01


@pytest.mark.parametrize("check", CHECKS)
def test_physics(check: str) -> None:
    CHECKS[check](committee())


def test_shares_of_the_heads_add_up() -> None:
    model = committee()
    out = model(build_graph(molecule(), model.r_max), (Z, "head_contributions"))
    parts = out["head_contributions"]
    assert set(parts) == {"monopole", "dipole", "charge_transfer", "reference"}
    assert (sum(parts.values()) - out[Z]).abs().max() < 1e-12


def test_blocks_and_memory() -> None:
    model, graph = committee(), build_graph(triclinic(), 2.6)
    whole, parts = (model(graph, (Z, DEVIATION, "forces"), block_size=size) for size in (None, 2))
    assert all((parts[name] - value).abs().max() < 1e-12 for name, value in whole.items())
    each = [estimate_memory(member, 100, 3000, (Z,)) for member in model.networks]
    assert estimate_memory(model, 100, 3000, (Z,)) == max(each) > min(each)


def test_a_committee_is_saved_and_loaded_whole(tmp_path: Path) -> None:
    model = committee()
    save_model(model, tmp_path / "best", {"metrics": {}})
    loaded = load_model(tmp_path, dtype=torch.float64)
    graph = build_graph(triclinic(), model.r_max)
    names = (Z, DEVIATION, "forces")
    for name, value in model(graph, names).items():
        # Sums over aligned and unaligned memory may differ in the last digit.
        torch.testing.assert_close(loaded(graph, names)[name], value, rtol=1e-12, atol=1e-13)
    assert loaded.config == model.config and not any(weight.requires_grad for weight in loaded.parameters())
    assert loaded.metadata["number_of_parameters"] == sum(
        weight.numel() for member in model.networks for weight in member.parameters()
    )
    single = load_model(tmp_path)(build_graph(triclinic(), model.r_max).to(dtype=torch.float32))[Z]
    assert single.dtype == torch.float32


def test_the_calculator_takes_a_committee() -> None:
    model = copy_model(committee())
    atoms = ase_molecule("CH3OH")
    atoms.calc = BECCalculator(model, dtype="float64")
    graph = build_graph(molecule(), model.r_max)
    assert model(graph)[Z].shape == (graph.n_atoms, 3, 3)
    total = atoms.calc.get_property(Z, atoms).sum(axis=0)
    assert np.abs(total).max() < 1e-10
    assert atoms.get_forces().shape == (6, 3)


def test_elements_that_are_not_known() -> None:
    model = committee()
    graph = build_graph(molecule(), model.r_max)
    graph.atomic_numbers[0] = 26
    with pytest.raises(ModelError, match="the model has not seen Fe"):
        model(graph)


def test_members_that_do_not_fit() -> None:
    first = make_model(("monopole",))
    with pytest.raises(ModelError, match="needs at least 2 members, got 1"):
        CommitteeModel([first])
    with pytest.raises(ModelError, match="member 2 has other r_max than the first"):
        CommitteeModel([first, make_model(("monopole",), r_max=2.5)])
    with pytest.raises(ModelError, match="leave out kernel models"):
        CommitteeModel([first, make_kernel_model(("monopole",))])
    with pytest.raises(ModelError, match="does not give stress"):
        CommitteeModel([first, make_model(("dipole", "energy"))])(build_graph(triclinic(), 2.6), ("stress",))


def test_members_of_one_configuration_keep_their_own_weights(tmp_path: Path) -> None:
    first = copy_model(make_model(("dipole", "polarizability")))
    second = copy_model(first)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.mul_(1.1)
    save_model(CommitteeModel([first, second]), tmp_path / "both", {})
    loaded = load_model(tmp_path / "both", dtype=torch.float64)
    graph, names = build_graph(triclinic(), loaded.r_max), (Z, "dielectric_tensor")
    found = [model(graph, names) for model in (first, second)]
    for name in names:
        assert (found[0][name] - found[1][name]).abs().max() > 1e-3
        torch.testing.assert_close(loaded(graph, names)[name], (found[0][name] + found[1][name]) / 2, atol=1e-12, rtol=0)
