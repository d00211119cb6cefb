"""The charge of a structure reaches the model on every path, and nothing takes two charges for the same structure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import read, write

from bec_mace import BECCalculator
from bec_mace.data import Frame, build_graph, data_fingerprint
from bec_mace.data.fingerprint import structure_fingerprint
from bec_mace.data.sources import content
from bec_mace.dynamics.folder import State, read_state, write_state
from bec_mace.dynamics.structure import read_structure
from bec_mace.errors import DataError
from bec_mace.evaluate.comparison import evaluate
from bec_mace.predict import predict, predict_files
from bec_mace.testing.small_models import make_static_model
from bec_mace.testing.structures import molecule

Z = "born_effective_charges"
CHARGED = replace(molecule(), info={"total_charge": -1.0})


@pytest.fixture
def model():
    return make_static_model(("monopole", "energy"), "local", acoustic_sum_rule="project")


@pytest.fixture
def expected(model):
    out = model(build_graph(CHARGED, model.r_max), (Z, "charges"))
    assert float(out["charges"].sum()) == pytest.approx(-1, abs=1e-12)
    return {name: value.numpy() for name, value in out.items()}


def test_predictions_of_files_and_streams(model, expected, tmp_path: Path) -> None:
    write(tmp_path / "in.extxyz", [molecule().to_atoms(), CHARGED.to_atoms()])
    predict_files(model, [tmp_path / "in.extxyz"], tmp_path / "out.extxyz", (Z, "charges"))
    neutral, charged = read(tmp_path / "out.extxyz", ":")
    assert np.abs(charged.arrays["predicted_becs"].reshape(-1, 3, 3) - expected[Z]).max() < 1e-7
    assert neutral.arrays["predicted_charges"].sum() == pytest.approx(0, abs=1e-6)
    (streamed,) = predict(model, [CHARGED], (Z,))
    assert np.abs(streamed[Z] - expected[Z]).max() < 1e-12


def test_the_calculator_sees_a_charge_and_its_change(model, expected) -> None:
    atoms = molecule().to_atoms()
    atoms.calc = BECCalculator(model, dtype="float64")
    assert atoms.calc.get_property("charges", atoms).sum() == pytest.approx(0, abs=1e-12)
    atoms.info["total_charge"] = -1.0
    assert np.abs(atoms.calc.get_property(Z, atoms) - expected[Z]).max() < 1e-12
    atoms.info["total_charge"] = "minus one"
    with pytest.raises(DataError, match="total_charge must be a number"):
        atoms.calc.get_property("charges", atoms)


def test_dynamics_starts_and_resumes_with_it(tmp_path: Path) -> None:
    write(tmp_path / "start.extxyz", CHARGED.to_atoms())
    atoms = read_structure(str(tmp_path / "start.extxyz"))
    assert atoms.info == {"total_charge": -1.0}
    write_state(tmp_path / "state.npz", State.of(atoms, {"step": 3}))
    assert read_state(tmp_path / "state.npz").atoms().info == {"total_charge": -1.0}


def test_structures_that_differ_in_it_are_different() -> None:
    others = [molecule(), CHARGED, replace(molecule(), info={"total_charge": 2.0})]
    for identity in (structure_fingerprint, lambda frame: data_fingerprint([frame]), lambda frame: b"".join(content(frame))):
        assert len({identity(frame) for frame in others}) == 3
        assert identity(replace(molecule(), info={"total_charge": 0.0, "name": "a"})) == identity(molecule())


def test_the_sum_rule_of_labels_counts_it(model, expected) -> None:
    labelled = replace(CHARGED, labels={Z: expected[Z]})
    residual = evaluate(model, [labelled])[Z]["sum_rule_residual"]
    assert residual["reference"] == pytest.approx(0, abs=1e-10) and residual["predicted"] == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("value", [float("nan"), "x", True, np.array([1.0, 2.0])])
def test_what_is_no_charge_is_refused(value: object) -> None:
    atoms = molecule().to_atoms()
    atoms.info["total_charge"] = value
    with pytest.raises(DataError, match="total_charge must be a number of elementary charges"):
        Frame.from_atoms(atoms)
    assert torch.is_tensor(build_graph(molecule(), 2.0).total_charge)
