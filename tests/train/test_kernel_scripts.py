"""The scripts that compare models and take charges apart."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import ase.io
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
KERNELS = ("kernel monopole", "kernel dipole")


@pytest.fixture(scope="module")
def data(files: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Six water clusters to draw from and two to test on."""
    folder = tmp_path_factory.mktemp("clusters")
    frames = ase.io.read(files / "water_clusters_rpbe_d3.extxyz", index=":8")
    for name, part in (("train", frames[:6]), ("test", frames[6:])):
        ase.io.write(folder / f"{name}.extxyz", part, format="extxyz")
    return str(folder / "train.extxyz"), str(folder / "test.extxyz")


@pytest.fixture(autouse=True)
def quiet_log():
    import logging

    package = logging.getLogger("bec_mace")
    kept = package.handlers[:], package.level, package.propagate
    yield
    package.handlers[:], package.level, package.propagate = kept[0], kept[1], kept[2]


def run(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", [script, *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    return stopped.value.code


def test_learning_curves(data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    arguments = [
        "--train",
        data[0],
        "--test",
        data[1],
        "--sizes",
        "2",
        "6",
        "--seeds",
        "0",
        "1",
        "--r-max",
        "3",
        "--max-l",
        "2",
        "--representatives",
        "10",
        "--json",
        str(tmp_path / "m.json"),
        "--only-models",
    ]
    assert run(monkeypatch, "compare_models.py", *arguments, KERNELS[0]) == 0
    assert "kernel dipole" not in capsys.readouterr().out
    assert run(monkeypatch, "compare_models.py", *arguments, *KERNELS, "--plot", str(tmp_path / "m.png")) == 0
    printed = capsys.readouterr().out
    assert "seed 1, kernel monopole:" not in printed, "cells that are there are not run again"
    assert "| files, training frames | 2 | 6 |" in printed
    cells = json.loads((tmp_path / "m.json").read_text())["cells"]["files"]
    assert set(cells) == set(KERNELS)
    for column in cells.values():
        for seeds in column.values():
            for cell in seeds.values():
                assert 0 < cell["rmse"] and cell["n_test_frames"] == 2
                assert 0 <= cell["within_68"] <= cell["within_95"] <= 1
    assert cells[KERNELS[0]]["2"]["0"]["rmse"] != cells[KERNELS[0]]["2"]["1"]["rmse"], "a seed draws other frames"
    # All six frames: the draw is the same, whatever the seed.
    assert cells[KERNELS[1]]["6"]["0"]["rmse"] == pytest.approx(cells[KERNELS[1]]["6"]["1"]["rmse"], rel=0.2)
    assert (tmp_path / "m.png").stat().st_size > 10_000


def test_other_settings_need_another_file(data: tuple[str, str], tmp_path: Path, monkeypatch, capsys) -> None:
    arguments = [
        "--train",
        data[0],
        "--test",
        data[1],
        "--sizes",
        "2",
        "--seeds",
        "0",
        "--r-max",
        "3",
        "--max-l",
        "1",
        "--representatives",
        "4",
        "--json",
        str(tmp_path / "m.json"),
        "--only-models",
        "kernel dipole",
    ]
    assert run(monkeypatch, "compare_models.py", *arguments) == 0
    assert run(monkeypatch, "compare_models.py", *arguments, "--zeta", "3") == 2
    assert "asked for" in capsys.readouterr().err
    assert run(monkeypatch, "compare_models.py", *arguments, "--sizes", "7") == 2
    assert "has 6 training frames; ask for fewer" in capsys.readouterr().err
    (tmp_path / "m.json").write_text("[]")
    assert run(monkeypatch, "compare_models.py", *arguments) == 2
    assert "not a file of this script" in capsys.readouterr().err


def test_the_parts_of_the_charges_add_up(data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        run(
            monkeypatch,
            "charge_partition.py",
            "--train",
            data[0],
            "--test",
            data[1],
            "--frames",
            "3",
            "--seeds",
            "0",
            "1",
            "--representatives",
            "10",
            "--r-max",
            "3",
            "--models",
            "water",
            "--json",
            str(tmp_path / "p.json"),
            "--plot",
            str(tmp_path / "p.png"),
        )
        == 0
    )
    found = json.loads((tmp_path / "p.json").read_text())
    assert {label: len(rows) for label, rows in found.items()} == {"monopole": 2, "dipole": 2, "monopole+dipole": 2, "water": 1}
    for label, rows in found.items():
        for row in rows:
            for parts in row.values():
                assert parts["charges"] + parts["redistribution"] + parts["dipoles"] == pytest.approx(parts["total"], abs=2e-5)
                if label == "monopole":
                    assert parts["dipoles"] == 0 and abs(parts["redistribution"]) > 1e-3
                if label == "dipole":
                    assert parts["redistribution"] == pytest.approx(0.0, abs=1e-9)
            assert row["H"]["total"] == pytest.approx(-row["O"]["total"] / 2, abs=1e-4), "water is neutral"
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_more_frames_than_there_are(data: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert run(monkeypatch, "charge_partition.py", "--train", data[0], "--test", data[1], "--frames", "9") == 2
    assert "there are 6 training frames; ask for fewer" in capsys.readouterr().err
