"""A file is found by its name, whatever characters are in it."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest

from bec_mace.data import read_frames
from bec_mace.dynamics.structure import read_structure
from bec_mace.predict import predict
from bec_mace.testing.small_models import make_model
from bec_mace.testing.structures import molecule

NAMES = ["a@1", "run@300K", "~home", "~", "[x]", "a*b", ".hidden", "v1.5", "a b", "@", "Å"]


@pytest.mark.parametrize("ending", ["extxyz", "traj"])
@pytest.mark.parametrize("name", NAMES)
def test_names(name: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    atoms = molecule().to_atoms()
    file = f"{name}.{ending}"
    with open(file, "wb" if ending == "traj" else "w") as stream:
        ase.io.write(stream, [atoms, atoms], format=ending)
    assert len(read_frames(file, properties=())) == 2
    assert len(list(predict(make_model(("monopole",)), file))) == 2
    assert len(read_structure(file)) == len(read_structure(f"{file}@0")) == len(atoms)
