import math
from unittest.mock import ANY

import pytest
import torch

from bec_mace.errors import TrainingError
from bec_mace.storage.files import replace_file
from bec_mace.train.run_folder import RunFolder, metric_units, read_metrics

UNITS = {"epoch": "", "train_loss": "", "seconds": "s"}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


def write_rows(folder, count):
    for epoch in range(1, count + 1):
        folder.append_metrics({"epoch": epoch, "train_loss": 1.0 / epoch}, UNITS)


def test_metrics_have_a_row_for_each_epoch_and_units_beside(folder):
    write_rows(folder, 2)
    assert folder.metrics.read_text() == "epoch,train_loss,seconds\n1,1,\n2,0.5,\n"
    columns, units = read_metrics(folder.metrics)
    assert columns["train_loss"] == [1.0, 0.5]
    assert all(math.isnan(value) for value in columns["seconds"])
    assert units == UNITS


def test_metrics_of_earlier_versions_are_read_and_go_on(folder):
    folder.metrics.write_text("epoch,train_loss,seconds\n,,s\n1,1,\n2,0.5,\n")
    assert read_metrics(folder.metrics) == ({"epoch": [1, 2], "train_loss": [1, 0.5], "seconds": [ANY, ANY]}, UNITS)
    folder.cut_metrics(1)
    folder.append_metrics({"epoch": 2, "train_loss": 0.25}, UNITS)
    assert folder.metrics.read_text() == "epoch,train_loss,seconds\n1,1,\n2,0.25,\n"
    assert read_metrics(folder.metrics)[1] == UNITS


@pytest.mark.parametrize(("kept", "epochs"), [(3, [1, 2, 3]), (2, [1, 2]), (9, [1, 2, 3])])
def test_rows_after_an_epoch_are_cut(folder, kept, epochs):
    write_rows(folder, 3)
    folder.cut_metrics(kept)
    assert read_metrics(folder.metrics)[0]["epoch"] == epochs


def test_cutting_all_rows_removes_the_file(folder):
    folder.cut_metrics(0)
    write_rows(folder, 1)
    folder.cut_metrics(0)
    assert not folder.metrics.exists()


def test_another_csv_is_refused(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(TrainingError, match=r"other.csv: not a metrics.csv"):
        read_metrics(path)


@pytest.mark.parametrize("name", ["metrics.csv", "last.pt", "best.safetensors"])
def test_any_trace_of_a_run_is_respected(folder, name):
    folder.check_free(resume=False)
    (folder.path / name).touch()
    with pytest.raises(TrainingError, match="holds a run already"):
        folder.check_free(resume=False)
    folder.check_free(resume=True)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    path = tmp_path / "run"
    path.touch()
    with pytest.raises(TrainingError, match="the output folder is a file"):
        RunFolder(path).check_free(resume=False)


def test_last_is_read_back_without_pickled_code(folder):
    assert folder.load_last() is None
    folder.save_last({"weights": torch.arange(3.0), "epoch": 4})
    state = folder.load_last()
    assert state["epoch"] == 4
    assert torch.equal(state["weights"], torch.arange(3.0))


def test_a_broken_last_is_named(folder):
    folder.last.write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match=r"last.pt: cannot be read as a checkpoint; restore it, or choose another `output`"):
        folder.load_last()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def half(partial):
        partial.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(path, half)
    assert path.read_text() == "old"


def test_columns_name_every_trained_property():
    units = metric_units(["forces"], {"forces": "eV/Å"}.__getitem__)
    assert list(units)[:3] == ["epoch", "step", "learning_rate"]
    assert units["validation_forces_rmse"] == "eV/Å" and units["train_forces_mae"] == "eV/Å"
