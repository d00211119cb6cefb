import os
import re
import signal

import numpy as np
import pytest
import torch
from ase.io import read

from bec_mace.cli import predict as command
from bec_mace.data import read_frames
from bec_mace.models import load_model
from bec_mace.predict import predict, read_predictions
from bec_mace.predict.partial import Part


def test_prediction_is_what_the_model_gives_in_order(run, model_path, small_frames):
    result = run("predict", model_path, small_frames, "-o", "out.extxyz", "--batch-size", 2, "--precision", "float64")
    assert result.exit_code == 0, result.stderr
    numbers, names = result.stdout.splitlines()
    assert re.fullmatch(r"3 structures, 10 atoms; \d+ atoms/s, \d+% of the time in the model", numbers)
    assert names == "predicted_becs, predicted_charges, predicted_energy, predicted_forces in out.extxyz"
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.xyz", "-o", "out.xyz"], "none.xyz: no such file"),
        (["DATA", "-o", "no/out.xyz"], "no/out.xyz: the folder no does not exist; make it first"),
        (["DATA", "-o", "."], "is a folder; name a file"),
        (["DATA", "-o", "DATA"], "is one of the files to read"),
        (["DATA", "-o", "out.xyz", "--device", "cuda:99"], "--device cuda:99: torch cannot use it"),
        (["DATA", "-o", "out.xyz", "--batch-size", "0"], "'0' is neither a whole number from 1 nor 'auto'"),
        (["DATA", "-o", "out.xyz", "--batch-size", "all"], "'all' is neither a whole number from 1 nor 'auto'"),
        (["DATA", "-o", "out.xyz", "--device", "gpu"], "--device gpu: torch cannot use it"),
    ],
)
def test_mistakes(run, model_path, small_frames, arguments, message):
    result = run("predict", model_path, *(str(small_frames) if word == "DATA" else word for word in arguments))
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_unknown_element_is_named(run, model_path, tmp_path):
    (tmp_path / "co.xyz").write_text("2\n\nC 0 0 0\nO 0 0 1.1\n")
    result = run("predict", model_path, "co.xyz", "-o", "out.xyz")
    assert result.exit_code == 2 and "frame 0: the model has not seen C" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["co.xyz"]


def test_a_stopped_prediction_leaves_the_old_file_and_goes_on(run, model_path, small_frames, tmp_path, monkeypatch):
    append = Part.append

    def stop(self, done):
        append(self, done)
        raise KeyboardInterrupt

    (tmp_path / "out.xyz").write_text("old")
    command = ("predict", model_path, small_frames, "-o", "out.xyz", "--batch-size", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Part, "append", stop)
        result = run(*command)
    assert result.exit_code == 130 and "Go on with the same command and --resume." in result.stderr
    assert (tmp_path / "out.xyz").read_text() == "old"
    result = run(*command)
    assert result.exit_code == 2 and "holds an unfinished prediction; go on with it (--resume)" in result.stderr
    result = run(*command, "--resume")
    assert result.exit_code == 0 and "3 structures, 1 of them before, 10 atoms" in result.stdout
    assert "going on behind 1 structures" in result.stderr
    assert len(read("out.xyz", ":")) == 3 and not (tmp_path / "out.xyz.partial").exists()


def test_termination_is_a_stop(run, model_path, small_frames, tmp_path, monkeypatch):
    append = Part.append

    def kill(self, done):
        append(self, done)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Part, "append", kill)
    result = run("predict", model_path, small_frames, "-o", "out.xyz", "--batch-size", 2)
    assert result.exit_code == 130 and "Stopped by SIGTERM. Go on with the same command and --resume." in result.stderr
    assert len(read("out.xyz.partial/0.extxyz", ":")) == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_hdf5_by_the_name_of_the_output(run, model_path, small_frames, tmp_path):
    result = run("predict", model_path, small_frames, "-o", "out.h5", "--workers", 0)
    assert result.stdout.splitlines()[1] == "born_effective_charges, charges, energy, forces in out.h5"
    assert [len(frame) for frame, _ in read_predictions(tmp_path / "out.h5")] == [4, 3, 3]


def test_more_on_request(run, model_path, small_frames, tmp_path):
    """The dipole of molecules alone; what the model does not give is said."""
    result = run("predict", model_path, small_frames, "-o", "out.xyz", "--also", "dipole", "--also", "charges")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[1].count("predicted_charges") == 1
    for atoms in read(tmp_path / "out.xyz", ":", format="extxyz"):
        assert ("predicted_dipole" in atoms.info) == (not atoms.pbc.any())
    refused = run("predict", model_path, small_frames, "-o", "out.xyz", "--also", "quadrupoles")
    assert refused.exit_code == 2 and "the model does not give quadrupoles" in refused.stderr


def test_one_process_of_a_launcher_is_no_group(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert command.start_processes("cpu", "float32") is None


def test_the_progress_bar_is_for_terminals(monkeypatch, capsys):
    with command.progress_bar() as advance:
        advance(2, 10)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with command.progress_bar() as advance:
        advance(2, 10)
    shown = capsys.readouterr().err
    assert "2 structures" in shown and "atoms/s" in shown
    with command.progress_bar(first=False) as advance:
        advance(2, 10)
    assert capsys.readouterr().err == ""
