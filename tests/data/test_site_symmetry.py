"""BORN files of independent atoms: the others follow from the space group."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from bec_mace.data import read_frames
from bec_mace.data.formats.site_symmetry import expand
from bec_mace.errors import DataError

pytest.importorskip("spglib")

U = 0.3064
SN = np.array([[4.1, 0.6, 0.0], [0.6, 4.1, 0.0], [0.0, 0.0, 4.5]])
O = np.array([[-2.05, -0.3, 0.0], [-0.5, -2.05, 0.0], [0.0, 0.0, -2.25]])  # noqa: E741


def rutile() -> Atoms:
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (U, U, 0), (-U, -U, 0), (0.5 - U, 0.5 + U, 0.5), (0.5 + U, 0.5 - U, 0.5)]
    return Atoms("Sn2O4", cell=[4.74, 4.74, 3.19], scaled_positions=places, pbc=True)


def born(folder: Path, atoms: Atoms, tensors: list[np.ndarray], first: str = "14.4") -> Path:
    write(folder / "POSCAR", atoms, format="vasp")
    lines = [first, " ".join(f"{x:.8f}" for x in np.diag([3.8, 3.8, 4.1]).ravel())]
    lines += [" ".join(f"{x:.8f}" for x in tensor.ravel()) for tensor in tensors]
    (folder / "BORN").write_text("\n".join(lines) + "\n")
    return folder / "BORN"


def test_rutile_from_one_atom_of_each_kind(tmp_path: Path) -> None:
    """The axes of the second octahedron stand across those of the first: off-diagonal elements change their sign."""
    symmetric = 0.5 * (O + O.T)
    (frame,) = read_frames(born(tmp_path, rutile(), [SN, symmetric], "# epsilon and Z* of atoms 1 3"))
    found = frame.labels["born_effective_charges"]
    flipped = np.array([[1, -1, 1], [-1, 1, 1], [1, 1, 1]])
    np.testing.assert_allclose(found[0], SN, atol=1e-7)
    np.testing.assert_allclose(found[1], SN * flipped, atol=1e-7)
    np.testing.assert_allclose(found[[2, 3]], [symmetric, symmetric], atol=1e-7)
    np.testing.assert_allclose(found[[4, 5]], [symmetric * flipped] * 2, atol=1e-7)
    np.testing.assert_allclose(frame.labels["dielectric_tensor"], np.diag([3.8, 3.8, 4.1]))


def test_indices_stay_in_their_order() -> None:
    """A screw of order three in a trigonal crystal without mirrors, where tensors are not symmetric."""
    turn = np.array([[-0.5, -(0.75**0.5), 0], [0.75**0.5, -0.5, 0], [0, 0, 1]])
    cell = np.array([[4.9, 0, 0], [-2.45, 4.9 * 0.75**0.5, 0], [0, 0, 5.4]])
    first = np.array([0.41, 0.27, 0.12]) @ cell
    places = [np.linalg.matrix_power(turn, n) @ first + np.array([0, 0, 1.8 * n]) for n in range(3)]
    atoms = Atoms("O3", positions=places, cell=cell, pbc=True)
    atoms += Atoms("Si3", positions=[[0, 0, 1.8 * n] for n in range(3)])
    oxygen = np.array([[-1.3, 0.4, 0.2], [0.1, -2.0, -0.7], [0.3, -0.5, -1.7]])
    silicon = np.diag([3.3, 3.3, 3.4])
    found = expand(atoms, np.array([oxygen, silicon]), [1, 4], "BORN")
    for n in range(3):
        rotation = np.linalg.matrix_power(turn, n)
        np.testing.assert_allclose(found[n], rotation @ oxygen @ rotation.T, atol=1e-9)


@pytest.mark.parametrize(
    ("tensors", "first", "message"),
    [
        ([SN], "14.4", "of 1 atoms, but the independent atoms of the structure beside it, P4_2/mnm, are 1, 3 of 6"),
        ([SN, O + O.T], "# epsilon and Z* of atoms 1 4", r"\(atoms 1, 4\), but the independent atoms"),
        ([SN, np.diag([1.0, 2.0, 3.0])], "14.4", "the tensor of atom 3 breaks the symmetry of its site by 1.000 e"),
    ],
)
def test_what_does_not_belong_together(tmp_path: Path, tensors: list[np.ndarray], first: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_frames(born(tmp_path, rutile(), tensors, first))


def test_without_spglib_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spglib", None)
    with pytest.raises(DataError, match="BORN: lists 2 of 6 atoms, .*pip install spglib"):
        read_frames(born(tmp_path, rutile(), [SN, O + O.T]))
