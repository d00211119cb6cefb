"""What a model has hardly seen is said, once."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from ase.build import bulk

from bec_mace.integrations.ase import BECCalculator
from bec_mace.models import PolarizationModel, load_model
from bec_mace.models.familiarity import FEW, Familiarity, rare_elements
from bec_mace.predict import predict
from bec_mace.testing.small_models import copy_model, make_model
from bec_mace.testing.structures import molecule

Z, DEVIATION = "born_effective_charges", "born_effective_charges_std"
OXIDES = {"MnO": 4.44, "FeO": 4.30, "CoO": 4.26, "NiO": 4.17}


@pytest.fixture(scope="module")
def crystals() -> PolarizationModel:
    return load_model("crystals")


@pytest.mark.parametrize("name", OXIDES)
def test_oxides_of_open_shells_are_not_given_without_a_word(
    crystals: PolarizationModel, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Their charges are near +2.3 e; the model, which saw one crystal with Mn, says +0.1."""
    atoms = bulk(name, "rocksalt", a=OXIDES[name])
    (result,) = predict(crystals, [atoms], (Z,))
    assert set(result) == {Z}
    text = caplog.text
    assert "structure 0" in text and "its charges may be far off, the sign included" in text
    caplog.clear()
    atoms.calc = BECCalculator(crystals)
    atoms.calc.get_property(Z, atoms)
    assert "atoms: " in caplog.text and "may be far off" in caplog.text
    caplog.clear()
    atoms.rattle(0.001)
    atoms.calc.get_property(Z, atoms)
    assert "stands in" not in caplog.text


@pytest.mark.parametrize(("name", "a"), [("MgO", 4.21), ("CaO", 4.77), ("NaCl", 5.64)])
def test_what_the_model_knows_is_given_in_silence(
    crystals: PolarizationModel, name: str, a: float, caplog: pytest.LogCaptureFixture
) -> None:
    list(predict(crystals, [bulk(name, "rocksalt", a=a)], (Z, DEVIATION)))
    assert not caplog.records


def test_rare_elements_are_named_rarest_first() -> None:
    assert rare_elements({"structures_by_element": {"H": 200, "Mn": 1, "V": FEW - 1, "Fe": FEW, "Cr": 3}}) == {
        "Mn": 1,
        "Cr": 3,
        "V": FEW - 1,
    }
    assert rare_elements({}) == {}


def test_each_element_is_named_once_and_few_disputes(caplog: pytest.LogCaptureFixture) -> None:
    model = copy_model(make_model(("monopole",)))
    model.metadata = {"structures_by_element": {"H": 3, "C": 200, "O": 4}}
    familiarity = Familiarity(model)
    assert familiarity.asked([Z]) == {Z} and not familiarity.disputes
    numbers = molecule().atomic_numbers
    for number in range(3):
        familiarity.note(numbers, {}, f"frame {number}")
    assert [record.getMessage().split(" stands")[0] for record in caplog.records] == ["frame 0: H", "frame 0: O"]
    caplog.clear()
    familiarity.disputes, deviation = True, np.zeros((len(numbers), 3, 3))
    familiarity.note(numbers, {DEVIATION: deviation}, "frame 0")
    assert not caplog.records
    deviation[2] = 0.3
    for number in range(9):
        familiarity.note(numbers, {DEVIATION: deviation}, f"frame {number}")
    words = [record.getMessage() for record in caplog.records]
    assert len(words) == 5 and "disagree on atom 2" in words[0] and "by 0.30 e" in words[0]
    assert words[-1].endswith("Further structures are not named.")
    assert all(record.levelno == logging.WARNING for record in caplog.records)
