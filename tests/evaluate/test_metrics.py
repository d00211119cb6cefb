import math

import numpy as np
import pytest

from bec_mace.evaluate.metrics import (
    charge_metrics,
    coverage_metrics,
    head_shares,
    mae,
    rmse,
    sum_rule_residual,
    trivial_charges,
)


@pytest.fixture
def asymmetric(rng):
    """Two frames of H2O and OH with random reference tensors."""
    numbers = [np.array([8, 1, 1]), np.array([1, 8])]
    return numbers, [rng.normal(size=(len(z), 3, 3)) for z in numbers]


def test_a_known_error_is_found_in_every_number(asymmetric):
    numbers, reference = asymmetric
    predicted = [frame.copy() for frame in reference]
    predicted[0][0, 0, 1] += 0.6  # oxygen, off-diagonal
    predicted[1][0, 2, 2] -= 0.3  # hydrogen, diagonal
    found = charge_metrics(numbers, reference, predicted)
    assert found["rmse"] == pytest.approx(math.sqrt((0.36 + 0.09) / 45))
    assert found["mae"] == pytest.approx(0.9 / 45)
    assert found["diagonal_rmse"] == pytest.approx(math.sqrt(0.09 / 15))
    assert found["off_diagonal_rmse"] == pytest.approx(math.sqrt(0.36 / 30))
    assert found["antisymmetric_rmse"] == pytest.approx(math.sqrt(0.3**2 / 15))
    assert found["per_element"]["O"] == pytest.approx({"rmse": math.sqrt(0.36 / 18), "mae": 0.6 / 18})
    assert found["per_element"]["H"] == pytest.approx({"rmse": math.sqrt(0.09 / 27), "mae": 0.3 / 27})


def test_a_symmetric_error_has_no_antisymmetric_part(asymmetric):
    numbers, reference = asymmetric
    predicted = [frame + np.ones((3, 3)) for frame in reference]
    assert charge_metrics(numbers, reference, predicted)["antisymmetric_rmse"] == pytest.approx(0.0, abs=1e-12)


def test_the_trivial_model_is_the_best_isotropic_charge(asymmetric):
    numbers, reference = asymmetric
    found = charge_metrics(numbers, reference, reference)
    assert found["rmse"] == 0.0
    all_numbers, tensors = np.concatenate(numbers), np.concatenate(reference)
    charges = trivial_charges(all_numbers, tensors)

    def error(shift):
        guess = np.array([charges[int(z)] + shift for z in all_numbers])[:, None, None] * np.eye(3)
        return rmse(guess - tensors)

    assert found["trivial"]["rmse"] == pytest.approx(error(0.0))
    assert error(0.0) < min(error(0.01), error(-0.01))


def test_sum_rule_residual_is_the_rms_of_cell_sums():
    first, second = np.zeros((2, 3, 3)), np.zeros((4, 3, 3))
    first[:, 0, 1] = 0.5
    second[0, 2, 2], second[1, 2, 2] = 3.0, -3.0
    assert sum_rule_residual([first, second]) == pytest.approx(math.sqrt(1.0 / 18))


def test_shares_of_heads_add_up_to_one(rng):
    parts = {"monopole": rng.normal(size=(4, 3, 3)), "dipole": rng.normal(size=(4, 3, 3))}
    shares = head_shares(parts["monopole"] + parts["dipole"], parts)
    assert sum(row["share"] for row in shares.values()) == pytest.approx(1.0)
    assert shares["dipole"]["rms"] == pytest.approx(rmse(parts["dipole"]))
    opposed = head_shares(parts["monopole"], {"a": 1.5 * parts["monopole"], "b": -0.5 * parts["monopole"]})
    assert [row["share"] for row in opposed.values()] == pytest.approx([1.5, -0.5])


def test_shares_of_nothing_are_zero():
    assert head_shares(np.zeros((2, 3, 3)), {"a": np.zeros((2, 3, 3))})["a"] == {"share": 0.0, "rms": 0.0}


def test_errors_of_nothing_are_nan():
    assert math.isnan(rmse(np.zeros(0))) and math.isnan(mae(np.zeros(0)))


def test_shares_of_errors_within_their_deviations():
    errors = np.array([0.5, 1.5, -1.9, 2.2, 0.9, -0.1, 3.0, 0.2, 0.3]).reshape(1, 3, 3)
    found = coverage_metrics([np.array([8])], [2 * errors], [np.full((1, 3, 3), 2.0)])
    assert found["within_68"] == pytest.approx(5 / 9) and found["within_95"] == pytest.approx(7 / 9)
    assert found["per_element"]["O"] == {"within_68": found["within_68"], "within_95": found["within_95"], "rms": 2.0}
