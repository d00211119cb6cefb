"""What the calculator refuses, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.calculators.calculator import Calculator

from bec_mace.errors import ModelError
from bec_mace.integrations.ase import BECCalculator
from bec_mace.testing.small_models import copy_model, make_model
from bec_mace.testing.structures import molecule, triclinic

FIELD = [0.1, -0.2, 0.3]


def test_no_stress_in_a_field_from_the_cache_either() -> None:
    """Forces that were computed before bring no stress along; without the field it is there."""
    atoms = triclinic().to_atoms()
    atoms.calc = BECCalculator(make_model(("monopole", "energy")), dtype="float64", electric_field=FIELD)
    atoms.get_forces()
    assert "stress" not in atoms.calc.results
    with pytest.raises(ModelError, match="there is no stress in an electric field"):
        atoms.get_stress()
    atoms.calc.electric_field = [0, 0, 0]
    expected = atoms.get_stress()
    atoms.calc.electric_field = FIELD
    with pytest.raises(ModelError, match="there is no stress in an electric field"):
        atoms.get_stress()
    atoms.calc.electric_field = None
    np.testing.assert_allclose(atoms.get_stress(), expected, atol=1e-14)


@pytest.mark.parametrize("asked", ["forces", "born_effective_charges"])
def test_results_that_are_not_finite(asked: str) -> None:
    model = copy_model(make_model(("monopole", "energy")))
    with torch.no_grad():
        next(model.backbone.layers[0].parameters())[0] = float("nan")
    atoms = molecule().to_atoms()
    atoms.calc = BECCalculator(model, dtype="float64")
    with pytest.raises(ModelError, match=r"atoms: \w+ that the model gives is not finite"):
        atoms.calc.get_property(asked, atoms)
    assert not atoms.calc.results


def test_results_of_another_potential_that_are_not_finite() -> None:
    class Broken(Calculator):
        implemented_properties = ["energy", "forces"]

        def calculate(self, atoms=None, properties=None, system_changes=()):
            super().calculate(atoms, properties, system_changes)
            self.results = {"energy": 0.0, "forces": np.full((len(atoms), 3), np.inf)}

    atoms = molecule().to_atoms()
    atoms.calc = BECCalculator(make_model(("dipole",)), base=Broken(), dtype="float64")
    with pytest.raises(ModelError, match="atoms: forces"):
        atoms.get_forces()


def test_a_model_that_two_calculators_share() -> None:
    """Each computes in its own precision, and the model stays in that which it had."""
    model = copy_model(make_model(("monopole", "energy")))
    frame = triclinic()
    exact = BECCalculator(model, dtype="float64")
    expected = exact.get_property("forces", frame.to_atoms())
    single = BECCalculator(model, dtype="float32")
    assert model.dtype == exact.model.dtype == torch.float64
    assert single.model.dtype == torch.float32
    other = triclinic().to_atoms()
    other.rattle(0.01, seed=1)
    exact.get_property("forces", other)
    np.testing.assert_array_equal(exact.get_property("forces", frame.to_atoms()), expected)
    difference = np.abs(single.get_property("forces", frame.to_atoms()) - expected).max()
    assert 0 < difference < 1e-5
    assert BECCalculator(model, dtype="float64").model is model
