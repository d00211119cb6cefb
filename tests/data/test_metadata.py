"""Metadata of the input, however hostile, cost neither predictions nor the cell on their way through extended XYZ."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms

from bec_mace.data import Frame, read_frames
from bec_mace.models import load_model
from bec_mace.predict import predict_files
from bec_mace.predict.extxyz import ExtxyzPart

HOSTILE: dict[str, Any] = {
    "empty": "",
    "blank": "   ",
    "several lines": "first\nsecond\r\nthird",
    "quotes": 'he said "it\'s"',
    "backslash": "c:\\new\\table\\",
    "tab": "a\tb",
    "equals": "a=b pbc=T",
    "braces": "{1, 2",
    "brackets": "[1 2",
    "word": "T",
    "words": "T F",
    "number": "12",
    "numbers": "1 2 3",
    "json": '_JSON {"a": 1}',
    "unicode": "Å \u2028 \x00 😀",
    "truth": True,
    "real": 1.5,
    "whole": np.int64(3),
    "undefined": float("nan"),
    "complex": np.complex128(1 + 2j),
}
KEYS = ["a=b", "two\nlines", 'quo"te', "back\\slash", "Lattice", "pbc", "Properties", "", "with space", "{x}"]


def structure(info: dict[Any, Any]) -> Atoms:
    return Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], cell=[8, 9, 10], pbc=(True, False, True), info=info)


def through_extxyz(atoms: Atoms, path: Path) -> Atoms:
    part = ExtxyzPart(path, 0, {})
    part.append(Frame.from_atoms(atoms), {"energy": np.array(-3.5), "forces": np.ones((3, 3))})
    part.flush()
    part.close()
    return ase.io.read(path)


@pytest.mark.parametrize("key", HOSTILE)
def test_values_are_read_back(key: str, tmp_path: Path) -> None:
    atoms = through_extxyz(structure({key: HOSTILE[key], "last": 7}), tmp_path / "a.extxyz")
    value = HOSTILE[key]
    found = atoms.info[key]
    assert found == (str(value) if isinstance(value, complex) else value) or found != found and value != value
    assert atoms.info["predicted_energy"] == -3.5
    assert atoms.info["last"] == 7
    assert atoms.pbc.tolist() == [True, False, True]
    assert atoms.arrays["predicted_forces"].shape == (3, 3)


@pytest.mark.parametrize("key", KEYS)
def test_keys_do_not_touch_what_is_beside_them(key: str, tmp_path: Path) -> None:
    atoms = through_extxyz(structure({key: "text", "last": 7}), tmp_path / "a.extxyz")
    assert atoms.info["predicted_energy"] == -3.5
    assert sorted(atoms.info.values(), key=str) == [-3.5, 7, "text"]
    assert atoms.pbc.tolist() == [True, False, True]
    np.testing.assert_allclose(atoms.cell.lengths(), [8, 9, 10])


def test_all_of_it_from_a_trajectory(tmp_path: Path) -> None:
    """A format of ASE that holds what extended XYZ cannot."""
    info = {key: value for key, value in HOSTILE.items() if not isinstance(value, np.generic)}
    atoms = structure(info)
    atoms.pbc = False
    ase.io.write(tmp_path / "in.traj", [atoms, atoms])
    predict_files(load_model("water"), [tmp_path / "in.traj"], tmp_path / "out.extxyz", ("energy",))
    first, second = ase.io.read(tmp_path / "out.extxyz", index=":")
    assert first.info["predicted_energy"] == pytest.approx(second.info["predicted_energy"])
    for key, value in info.items():
        assert first.info[key] == value or value != value


@pytest.mark.parametrize(
    "comment",
    [
        'Lattice="8 0 0 0 9 0 0 0 10" note= pbc="T F T" Properties=species:S:1:pos:R:3',
        'Lattice="8 0 0 0 9 0 0 0 10" note="" pbc="T F T" Properties=species:S:1:pos:R:3',
        'note=\'\' Lattice="8 0 0 0 9 0 0 0 10" pbc="T F T" Properties=species:S:1:pos:R:3',
        'other="a= b=c" note= Lattice="8 0 0 0 9 0 0 0 10" pbc="T F T" Properties=species:S:1:pos:R:3 end=',
    ],
)
def test_a_key_without_a_value_takes_none_of_the_next(comment: str, tmp_path: Path) -> None:
    """ASE reads `note= pbc="T F T"` as a note, and the cell as periodic in all directions."""
    path = tmp_path / "in.extxyz"
    path.write_text(f"2\n{comment}\nO 0 0 0\nH 0 0 1\n" * 2)
    frames = read_frames(path, properties=())
    assert [frame.pbc.tolist() for frame in frames] == [[True, False, True]] * 2
    np.testing.assert_allclose(frames[0].cell, np.diag([8, 9, 10]))
    if "other" in comment:
        assert frames[0].info["other"] == "a= b=c"


def test_the_reader_of_ase_is_still_as_we_know_it() -> None:
    """If ASE's reader learns empty values, our own care can go."""
    atoms = ase.io.read(io.StringIO('1\nnote= pbc="T F T"\nH 0 0 0\n'), format="extxyz")
    assert atoms.info["note"] == "pbc=T F T"
