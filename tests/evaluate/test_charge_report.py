"""What is said of charges that act through Coulomb's law."""

from __future__ import annotations

import numpy as np
import pytest

from bec_mace.config.electrostatics import ElectrostaticsConfig
from bec_mace.data import Frame
from bec_mace.evaluate.charge_report import charge_lines, describe_charges
from bec_mace.evaluate.comparison import compare, format_table, summarize_comparison
from bec_mace.testing import structures
from bec_mace.testing.small_models import make_static_model

Z = "born_effective_charges"
FIXED = ElectrostaticsConfig(sources=["monopole"], screening="fixed", epsilon_infinity=1.96)


def frame(numbers: list[int], labels: dict[str, np.ndarray]) -> Frame:
    positions = np.arange(3.0 * len(numbers)).reshape(-1, 3)
    return Frame(np.array(numbers), positions, np.zeros((3, 3)), np.zeros(3, bool), labels)


def test_charges_are_counted_by_element():
    frames = [frame([8, 1, 1], {}), frame([1], {})]
    predicted = [{"charges": np.array([-0.8, 0.3, 0.5]), "screening": np.array([1.2, 1.0, 1.0])}]
    predicted.append({"charges": np.array([0.1]), "screening": np.array([1.6])})
    report = describe_charges(frames, predicted, FIXED)
    assert report["charges"]["per_element"]["H"]["mean"] == pytest.approx(0.3)
    assert report["charges"]["per_element"]["H"]["spread"] == pytest.approx(np.std([0.3, 0.5, 0.1]))
    assert report["charges"]["per_element"]["O"] == {"mean": -0.8, "spread": 0.0}
    assert report["screening"]["mean"] == pytest.approx(1.2)
    assert report["root_of_epsilon_infinity"] == pytest.approx(1.4)
    lines = list(charge_lines(report))
    assert lines[0].startswith("static charges: by element H 0.3000 (spread 0.1633), O -0.8000 (spread 0.0000) e")
    assert lines[1].startswith("screening (fixed): 1.2000, spread 0.2449,") and "root of epsilon_infinity 1.4000" in lines[1]


def test_both_signs_are_judged_where_energies_alone_fix_the_charges(rng):
    labels = rng.normal(size=(5, 3, 3))
    labels -= labels.mean()
    predicted = [{"charges": np.zeros(5), Z: -0.9 * labels}]
    report = describe_charges([frame([1] * 5, {Z: labels})], predicted, FIXED)
    assert report["r_squared"] == pytest.approx(1 - 1.9**2)
    assert report["r_squared_of_other_sign"] == pytest.approx(0.99)
    assert "turn the signs of model.electrostatics.charge_sign" in list(charge_lines(report))[-1]
    learned = ElectrostaticsConfig(sources=["monopole"], screening="global")
    assert "r_squared" not in describe_charges([frame([1] * 5, {Z: labels})], predicted, learned)


def test_a_comparison_has_them():
    model = make_static_model(("monopole", "energy"), "local", r_max=3.0)
    comparison = compare(model, [structures.triclinic()])
    result = summarize_comparison(comparison)
    charges = result["static_charges"]["charges"]
    assert charges["mean"] == pytest.approx(0.0, abs=1e-12)
    assert charges["spread"] == pytest.approx(np.std(comparison.predicted[0]["charges"]))
    assert result["static_charges"]["screening"]["spread"] > 1e-3
    assert "screening (local): " in format_table(result)
