"""Static charges and multipoles on mace backbones, in committees, and in files."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bec_mace.data import build_graph
from bec_mace.electrostatics import ChargedFrames, Coulomb
from bec_mace.models import CommitteeModel, PolarizationModel, load_model, save_model
from bec_mace.testing.physics import move
from bec_mace.testing.small_models import copy_model, make_static_model
from bec_mace.testing.structures import molecule, triclinic
from tests.models.mace.mace_systems import build, mace_model, mace_results

pytestmark = pytest.mark.filterwarnings("ignore:The TorchScript type system:UserWarning")
Z = "born_effective_charges"
HEADS = ("charge_transfer", "dipole", "quadrupole", "energy")
FULL = {
    "sources": ["charge_transfer", "dipole", "quadrupole"],
    "screening": "global",
    "response": {"dipoles": "anisotropic", "charges": "edges"},
}
LOCAL = {"sources": ["charge_transfer"], "screening": "local"}


def on_mace(save: Callable[[Any], str], name: str, section: dict[str, Any], freeze: bool) -> PolarizationModel:
    heads = tuple(section["sources"])
    return build(save(copy.deepcopy(mace_model(name))), heads, freeze, electrostatics=section)


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize(("name", "section"), [("usual", LOCAL), ("all irreps after the last", FULL)])
def test_on_a_mace_model(name, section, freeze, present: Callable[[Any], str], tmp_path: Path) -> None:
    """The energy is that of mace and of Coulomb's law; forces and Z* are its derivatives; a file keeps all of it."""
    model, frame, step = on_mace(present, name, section, freeze), triclinic(), 3e-5
    graph = build_graph(frame, model.r_max)
    out = model(graph, ("energy", "forces", Z, "charges"))
    rest = float(out["energy"] - mace_results(mace_model(name), frame)["energy"])
    if section is LOCAL:
        frames = ChargedFrames(graph.positions, graph.frame_index, graph.cell, graph.pbc)
        assert rest == pytest.approx(float(Coulomb().energies(out["charges"], frames)), abs=1e-8)
    assert abs(rest) > 1e-3
    shift = np.zeros_like(frame.positions)
    shift[1, 2] = step
    up, down = (
        model(build_graph(move(frame, frame.positions + sign * shift), model.r_max), ("energy", "polarization"))
        for sign in (1, -1)
    )
    assert float(out["forces"][1, 2]) == pytest.approx(-float(up["energy"] - down["energy"]) / (2 * step), abs=2e-6)
    assert (out[Z][1, :, 2] - (up["polarization"] - down["polarization"])[0] / (2 * step)).abs().max() < 1e-6
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert any(name.startswith("backbone") for name in trained) != freeze
    assert any(name.startswith("electrostatics") for name in trained)
    save_model(model, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors", dtype=torch.float64)(graph, ("energy", "forces", Z))
    for key, value in again.items():
        assert (value - out[key]).abs().max() < 1e-12


@pytest.mark.parametrize("screening", ["fixed", "global", "local"])
def test_in_a_committee(screening, tmp_path: Path) -> None:
    """Means of the members, in a field too; a file keeps them."""
    first = make_static_model(HEADS, screening, HEADS[:3], FULL["response"])
    second = copy_model(first)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in second.parameters():
            weight.mul_(1 + 0.1 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
        second.electrostatics.mean_polarizabilities.mul_(1.5)
    committee, field = CommitteeModel([first, second]), torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    assert committee.has_enthalpy == (screening != "local")
    order = 2 if committee.has_enthalpy else 1
    names = [Z, "energy", "forces", "charges", "screening", "induced_dipoles", "field_forces"]
    names += ["polarizability", "raman_tensors"] if committee.has_enthalpy else []
    for frame in (triclinic(), molecule()):
        graph = build_graph(frame, committee.r_max)
        options = {"electric_field": field, "field_order": order}
        whole = committee(graph, names, **options)
        parts = [member(graph, names, **options) for member in (first, second)]
        for name in names:
            assert (whole[name] - (parts[0][name] + parts[1][name]) / 2).abs().max() < 1e-12, name
            if name != "screening" or frame.pbc.all():  # There is no volume of a molecule.
                assert (parts[0][name] - parts[1][name]).abs().max() > 1e-6, name
    save_model(committee, tmp_path / "committee.safetensors")
    again = load_model(tmp_path / "committee.safetensors", dtype=torch.float64)(graph, names, **options)
    for name in names:
        assert (again[name] - whole[name]).abs().max() < 1e-12, name
