import pytest

from bec_mace.properties import PROPERTIES
from bec_mace.train.epoch_line import WIDTH, epoch_line

COMPARED = [name for name, row in PROPERTIES.items() if row.compared]


def row_of(names, parts=("train", "validation")):
    errors = {f"{part}_{name}_rmse": 123.456789e-4 for part in parts for name in names}
    losses = {f"{part}_loss": 1234.5 for part in parts}
    return {"epoch": 12, "learning_rate": 0.01, "seconds": 1234.5, **errors, **losses}


def test_one_property_is_one_line():
    line = epoch_line(row_of(COMPARED[:1]), 100, COMPARED[:1], True)
    assert line == "epoch   12/100  loss 1.234e+03, 1.234e+03  Z* 0.01235, 0.01235 e  lr 1.00e-02  1234.5 s  best"
    assert "loss 1.234e+03  Z* 0.01235 e  lr" in epoch_line(row_of(COMPARED[:1], ("train",)), 100, COMPARED[:1], False)


@pytest.mark.parametrize("count", range(1, len(COMPARED) + 1))
def test_any_number_of_properties_fits_a_terminal(count):
    names = COMPARED[:count]
    lines = epoch_line(row_of(names), 10_000_000, names, True).splitlines()
    assert max(map(len, lines)) <= WIDTH == 100
    assert all(line.startswith("      ") for line in lines[1:])
    assert " ".join(lines).count("0.01235, 0.01235") == count


def test_what_had_no_label_is_left_out():
    assert "forces" not in epoch_line(row_of(["energy"]), 3, ["energy", "forces"], False)
