import numpy as np
import pytest
import torch
from ase.io import read

from bec_mace.cli import predict as command
from bec_mace.data import read_frames
from bec_mace.inference import predict
from bec_mace.models import load_model


def test_prediction_is_what_the_model_gives_in_order(run, model_path, small_frames):
    result = run("predict", model_path, small_frames, "-o", "out.extxyz", "--batch-size", 2, "--precision", "float64")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ("3 structures with predicted_becs, predicted_charges, predicted_energy, predicted_forces "
                             "in out.extxyz\n")
    model = load_model(model_path, dtype=torch.float64)
    names = ("born_effective_charges", "charges", "energy", "forces")
    written = read("out.extxyz", ":")
    frames = read_frames(small_frames)
    assert [len(atoms) for atoms in written] == [4, 3, 3]
    for atoms, frame, expected in zip(written, frames, predict(model, frames, names), strict=True):
        np.testing.assert_allclose(atoms.positions, frame.positions, atol=1e-8)
        becs = atoms.arrays["predicted_becs"].reshape(-1, 3, 3)
        np.testing.assert_allclose(becs, expected["born_effective_charges"], atol=1e-7)
        # Not symmetric, so that the order of the indices shows.
        assert np.abs(becs - becs.transpose(0, 2, 1)).max() > 1e-3
        np.testing.assert_allclose(atoms.arrays["predicted_charges"], expected["charges"], atol=1e-7)
        np.testing.assert_allclose(atoms.arrays["predicted_forces"], expected["forces"], atol=1e-7)
        np.testing.assert_allclose(atoms.info["predicted_energy"], expected["energy"], atol=1e-7)
        assert "REF_becs" not in atoms.arrays and atoms.calc is None


def test_lists_and_globs_keep_their_order(run, model_path, small_frames, tmp_path):
    molecules = read(small_frames, ":")
    molecules[1].write(tmp_path / "b.xyz")
    molecules[0].write(tmp_path / "a1.xyz")
    molecules[2].write(tmp_path / "a2.xyz")
    result = run("predict", model_path, "b.xyz", "a*.xyz", "-o", "out.xyz")
    assert result.exit_code == 0, result.stderr
    written = read("out.xyz", ":", format="extxyz")
    for atoms, number in zip(written, (1, 0, 2), strict=True):
        np.testing.assert_allclose(atoms.positions, molecules[number].positions, atol=1e-8)


@pytest.mark.parametrize(("arguments", "message"), [
    (["none.xyz", "-o", "out.xyz"], "none.xyz: no such file"),
    (["DATA", "-o", "no/out.xyz"], "no/out.xyz: the folder no does not exist; make it first"),
    (["DATA", "-o", "."], "is a folder; name a file"),
    (["DATA", "-o", "DATA"], "is one of the structures to read"),
    (["DATA", "-o", "out.xyz", "--device", "cuda:99"], "--device cuda:99: torch cannot use it"),
    (["DATA", "-o", "out.xyz", "--device", "gpu"], "--device gpu: torch cannot use it"),
])
def test_mistakes(run, model_path, small_frames, arguments, message):
    result = run("predict", model_path, *(str(small_frames) if word == "DATA" else word for word in arguments))
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_unknown_element_is_named(run, model_path, tmp_path):
    (tmp_path / "co.xyz").write_text("2\n\nC 0 0 0\nO 0 0 1.1\n")
    result = run("predict", model_path, "co.xyz", "-o", "out.xyz")
    assert result.exit_code == 2 and "frame 0: the model has not seen C" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["co.xyz"]


def test_a_stopped_prediction_leaves_the_old_file(run, model_path, small_frames, tmp_path, monkeypatch):
    def stop(model, frames, names, batch_size):
        yield {"born_effective_charges": np.zeros((4, 3, 3))}
        raise KeyboardInterrupt

    monkeypatch.setattr("bec_mace.inference.predict", stop)
    (tmp_path / "out.xyz").write_text("old")
    result = run("predict", model_path, small_frames, "-o", "out.xyz")
    assert result.exit_code == 130
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.xyz", "old")]


def test_the_progress_bar_is_for_terminals(monkeypatch, capsys):
    assert list(command._with_progress(iter([{}, {}]), 2)) == [{}, {}]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert list(command._with_progress(iter([{}, {}]), 2)) == [{}, {}]
    assert "2/2" in capsys.readouterr().err
