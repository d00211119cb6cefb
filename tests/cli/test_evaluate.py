import json

import numpy as np
import torch

from bec_mace.data import read_frames
from bec_mace.models import load_model
from bec_mace.predict import predict


def test_table_json_and_plot(run, model_path, small_frames, tmp_path):
    result = run("evaluate", model_path, small_frames, "--json", "out.json", "--plot", "out.png", "--precision", "float64")
    assert result.exit_code == 0, result.stderr
    numbers = json.loads((tmp_path / "out.json").read_text())
    assert numbers["n_frames"] == 3

    frames = read_frames(small_frames)
    predictions = predict(load_model(model_path, dtype=torch.float64), frames)
    errors = np.concatenate(
        [
            guess["born_effective_charges"] - frame.labels["born_effective_charges"]
            for frame, guess in zip(frames, predictions, strict=True)
        ]
    )
    charges = numbers["born_effective_charges"]
    np.testing.assert_allclose(charges["rmse"], np.sqrt(np.mean(errors**2)), rtol=1e-6)
    np.testing.assert_allclose(charges["mae"], np.mean(np.abs(errors)), rtol=1e-6)
    assert set(charges["per_element"]) == {"H", "O"}
    np.testing.assert_allclose(sum(row["share"] for row in numbers["head_shares"].values()), 1.0, atol=1e-6)
    assert f"{charges['rmse']:.4f}" in result.stdout and "eV/atom" in result.stdout
    assert (tmp_path / "out.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_key_and_index_order(run, model_path, small_frames, tmp_path):
    (tmp_path / "mine.xyz").write_text(small_frames.read_text().replace("REF_becs", "mine"))
    result = run("evaluate", model_path, "mine.xyz", "--plot", "without.png")
    assert result.exit_code == 0 and "forces" in result.stdout and "Born" not in result.stdout
    assert "not judged: no frame holds born_effective_charges (known keys: REF_becs" in result.stdout
    assert (tmp_path / "without.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    options = ["--key", "born_effective_charges=mine", "--precision", "float64"]
    assert run("evaluate", model_path, "mine.xyz", *options, "--json", "a.json").exit_code == 0
    assert (
        run("evaluate", model_path, "mine.xyz", *options, "--json", "b.json", "--index-order", "displacement_first").exit_code
        == 0
    )
    first, second = (json.loads((tmp_path / name).read_text())["born_effective_charges"] for name in ("a.json", "b.json"))
    np.testing.assert_allclose(first["diagonal_rmse"], second["diagonal_rmse"], rtol=1e-9)
    assert abs(first["off_diagonal_rmse"] - second["off_diagonal_rmse"]) > 1e-4


def test_mistakes_are_found_before_the_work(run, model_path):
    result = run("evaluate", model_path, "none.xyz", "--json", "no/out.json")
    assert result.exit_code == 2 and "the folder no does not exist" in result.stderr
    result = run("evaluate", model_path, "none.xyz")
    assert result.exit_code == 2 and "none.xyz: no such file" in result.stderr
    result = run("evaluate", "none", "none.xyz", "--key", "=b")
    assert result.exit_code == 2 and "expected PROPERTY=KEY" in result.stderr


def test_structures_without_labels_are_refused(run, model_path, tmp_path):
    (tmp_path / "bare.xyz").write_text("2\n\nO 0 0 0\nH 0 0 1\n")
    result = run("evaluate", model_path, "bare.xyz")
    assert result.exit_code == 2 and "found in 0 of 1 frames (first: bare.xyz" in result.stderr
