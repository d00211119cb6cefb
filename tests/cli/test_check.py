"""``bec-mace check``: a table, sentences, an exit status, and the frames that pass."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from bec_mace.data import read_frames

FILES = Path(__file__).parents[1] / "files"
CLUSTERS = FILES / "water_clusters_rpbe_d3.extxyz"


@pytest.fixture
def broken(tmp_path):
    """Frame 2 with a broken run along y, frame 5 twice."""
    frames = read(CLUSTERS, ":")
    becs = frames[2].arrays["REF_becs"]
    becs[:, 3:6] += 0.2
    frames.append(frames[5].copy())
    frames[-1].calc = None
    frames[-1].info = dict(frames[5].info)
    write(tmp_path / "broken.extxyz", frames)
    return tmp_path / "broken.extxyz"


def test_what_is_right(run):
    result = run("check", CLUSTERS, FILES / "zirconia_pbe.extxyz")
    assert result.exit_code == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1] == "18 of 18 frames pass"
    assert result.stdout.splitlines()[0].split() == ["check", "frames", "wrong", "typical", "worst", "limit", "unit"]


def test_what_is_wrong(run, broken, tmp_path):
    result = run("check", broken, "-o", "good.extxyz", "--json", "all.json", "--plot", "all.png")
    assert result.exit_code == 1, result.stderr
    lines = result.stdout.splitlines()
    assert f"{broken}, frame 2: the acoustic sum rule fails by" in result.stdout and "along y." in result.stdout
    assert "along x." not in result.stdout and "along z." not in result.stdout
    assert f"{broken}, frame 10: nearly the structure of {broken}, frame 5" in result.stdout
    assert lines[-2:] == ["9 of 11 frames pass", "wrote good.extxyz: 9 of 11 frames"]
    before, after = read_frames(broken), read_frames(tmp_path / "good.extxyz")
    kept = [frame for number, frame in enumerate(before) if number not in (2, 10)]
    for old, new in zip(kept, after, strict=True):
        assert old.labels.keys() == new.labels.keys()
        np.testing.assert_allclose(new.labels["born_effective_charges"], old.labels["born_effective_charges"], atol=6e-9)
    found = json.loads((tmp_path / "all.json").read_text())
    assert (found["n_frames"], found["n_wrong"]) == (11, 2)
    assert [one["passes"] for one in found["frames"]] == [number not in (2, 10) for number in range(11)]
    assert found["frames"][2]["acoustic sum rule, P along y"] > 0.1 > found["frames"][2]["acoustic sum rule, P along x"]
    assert {row["name"]: row["n_found"] for row in found["checks"] if row["n_found"]} == {
        "acoustic sum rule, P along y": 1,
        "near duplicates": 1,
    }
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    assert run("check", "good.extxyz").exit_code == 0


def test_limits_of_ones_own(run):
    assert run("check", CLUSTERS, "--sum-rule", "1e-5").exit_code == 1
    assert run("check", CLUSTERS, "--outlier", "0.01").exit_code == 1
    result = run("check", CLUSTERS, "--near", "2")
    assert result.exit_code == 1 and "nearly the structure of" in result.stdout
    result = run("check", CLUSTERS, "--sum-rule", "0")
    assert result.exit_code == 2 and "--sum-rule: must be greater than 0, got 0" in result.stderr


def test_nothing_passes(run, broken, tmp_path):
    frames = read(broken, "2:3")
    write(tmp_path / "one.extxyz", frames)
    result = run("check", "one.extxyz", "-o", "none.extxyz")
    assert result.exit_code == 2 and "none.extxyz: not written, no frame passes" in result.stderr
    result = run("check", "one.extxyz", "-o", "none.h5")
    assert result.exit_code == 2 and "end the name in one of .extxyz" in result.stderr
    result = run("check", "one.extxyz", "-o", "one.extxyz")
    assert result.exit_code == 2 and "is one of the files to read" in result.stderr


def test_files_with_keys_and_an_order_of_their_own(run, tmp_path):
    frames = read(CLUSTERS, ":")
    for atoms in frames:
        becs = atoms.arrays.pop("REF_becs").reshape(-1, 3, 3)
        atoms.set_array("mine", becs.swapaxes(1, 2).reshape(-1, 9))
    write(tmp_path / "mine.extxyz", frames)
    key = ["--key", "born_effective_charges=mine"]
    result = run("check", "mine.extxyz", *key)
    assert result.exit_code == 1 and "change index_order" in result.stdout and "more of 'transposed'" in result.stdout
    assert run("check", "mine.extxyz", *key, "--index-order", "displacement_first").exit_code == 0


def test_structures_without_charges(run, tmp_path):
    frames = read(CLUSTERS, ":3")
    for atoms in frames:
        del atoms.arrays["REF_becs"]
    write(tmp_path / "bare.extxyz", frames)
    result = run("check", "bare.extxyz", "--plot", "bare.png")
    assert result.exit_code == 0 and "sum rule" not in result.stdout and (tmp_path / "bare.png").exists()


def test_structures_without_labels(run, tmp_path):
    write(tmp_path / "bare.extxyz", [Atoms("OH2", positions=atoms.positions) for atoms in read(CLUSTERS, ":1")])
    result = run("check", "bare.extxyz")
    assert result.exit_code == 2 and "bare.extxyz: none of 1 frames has a label that is known" in result.stderr
