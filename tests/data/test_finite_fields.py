"""Born effective charges from forces in fields, and the units of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from bec_mace.data.finite_fields import read_field_runs
from bec_mace.data.frames import Frame
from bec_mace.data.label_units import factor, in_units_of_the_package
from bec_mace.errors import BecMaceError, ConfigError, DataError
from bec_mace.units import BOHR, HARTREE

Z = "born_effective_charges"
CELL = np.array([[5.1, 0.0, 0.0], [1.2, 4.4, 0.0], [-0.5, 0.9, 6.3]])
POSITIONS = np.array([[0.1, 0.2, 0.3], [1.9, 2.1, 0.4], [0.6, 1.8, 3.2]])
GENERATOR = np.random.default_rng(4)
CHARGES = GENERATOR.normal(size=(2, 3, 3, 3))
"""Of two structures and three atoms, in e, without any symmetry."""
AT_REST = GENERATOR.normal(size=(2, 3, 3))
SECOND = GENERATOR.normal(size=(2, 3, 3, 3, 3))
X, Y, DIAGONAL = [0.01, 0.0, 0.0], [0.0, 0.02, 0.0], [0.01, -0.01, 0.03]


def forces(number: int, field: np.ndarray) -> np.ndarray:
    """At rest, linear and of second order in the field."""
    return (
        AT_REST[number]
        + np.einsum("a,jab->jb", field, CHARGES[number])
        + np.einsum("jbcd,c,d->jb", SECOND[number], field, field)
    )


def run_files(folder: Path, fields: list[list[float]], extra: str = "", unit: float = 1.0) -> Path:
    lines = []
    for place, field in enumerate(fields):
        frames = []
        for number in (0, 1):
            atoms = Atoms("AlO2", POSITIONS + 0.1 * number, cell=CELL, pbc=True)
            atoms.calc = SinglePointCalculator(atoms, energy=-3.0 - number, forces=forces(number, unit * np.array(field)))
            frames.append(atoms)
        write(folder / f"run{place}.extxyz", frames)
        lines.append(f"  - {{file: run{place}.extxyz, field: {field}}}")
    path = folder / "fields.yaml"
    path.write_text("\n".join([extra, "runs:", *lines, ""]))
    return path


def both(*fields: list[float]) -> list[list[float]]:
    return [[sign * x for x in field] for field in fields for sign in (1.0, -1.0)]


@pytest.mark.parametrize(("extra", "unit"), [("", 1.0), ("unit: V/Å", 1.0), ("unit: a.u.", HARTREE / BOHR)])
def test_six_runs_in_any_directions(tmp_path: Path, extra: str, unit: float) -> None:
    path = run_files(tmp_path, both(X, DIAGONAL, Y), extra, unit)
    first, second = read_field_runs(path)
    for number, frame in enumerate((first, second)):
        # ASE writes forces with 8 decimals.
        np.testing.assert_allclose(frame.labels[Z], CHARGES[number], atol=3e-6)
        assert frame.labels.keys() == {Z} and frame.source == f"{path}, frame {number}"
    np.testing.assert_allclose(second.positions, POSITIONS + 0.1)


def test_the_run_without_a_field_gives_the_other_labels(tmp_path: Path) -> None:
    frames = read_field_runs(run_files(tmp_path, [*both(X, DIAGONAL, Y), [0.0, 0.0, 0.0]]))
    assert frames[1].labels.keys() == {Z, "energy", "forces"} and float(frames[1].labels["energy"]) == -4.0
    np.testing.assert_allclose(frames[1].labels["forces"], AT_REST[1], atol=1e-8)


def test_runs_that_do_not_agree_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = run_files(tmp_path, both(X, DIAGONAL, Y, [0.02, 0.02, 0.02]))
    read_field_runs(path)
    assert not caplog.text
    text = (tmp_path / "run6.extxyz").read_text()
    (tmp_path / "run6.extxyz").write_text((tmp_path / "run7.extxyz").read_text())
    read_field_runs(path)
    assert "fields.yaml, frame 0: forces in different fields differ on the charges by up to" in caplog.text and text


def test_symmetry_gives_what_two_runs_leave_open(tmp_path: Path) -> None:
    """Wurtzite: the three-fold axis turns a field that is tilted into three directions."""
    from ase.build import bulk

    atoms = bulk("ZnO", "wurtzite", a=3.25, c=5.2)
    tilted, diagonal = np.array([0.01, 0.004, 0.02]), np.diag([2.1, 2.1, 2.4])
    expected = np.array([diagonal, diagonal, -diagonal, -diagonal])
    assert atoms.get_chemical_symbols() == ["Zn", "Zn", "O", "O"] or sorted(atoms.get_chemical_symbols()) == [
        "O",
        "O",
        "Zn",
        "Zn",
    ]
    expected = np.array([diagonal if symbol == "Zn" else -diagonal for symbol in atoms.get_chemical_symbols()])
    for name, sign in (("plus", 1), ("minus", -1)):
        one = atoms.copy()
        one.calc = SinglePointCalculator(one, forces=sign * np.einsum("a,jab->jb", tilted, expected))
        write(tmp_path / f"{name}.extxyz", one)
    path = tmp_path / "two.yaml"
    runs = "".join(
        f"  - {{file: {name}.extxyz, field: {(sign * tilted).tolist()}}}\n" for name, sign in (("plus", 1), ("minus", -1))
    )
    path.write_text(f"symmetry: true\nruns:\n{runs}")
    (frame,) = read_field_runs(path)
    np.testing.assert_allclose(frame.labels[Z], expected, atol=3e-6)
    path.write_text(f"runs:\n{runs}")
    with pytest.raises(DataError, match="the fields span 1 of 3 directions. Add pairs .* symmetry: true"):
        read_field_runs(path)
    path.write_text(
        f"symmetry: true\nruns:\n{runs}".replace("0.01, 0.004, 0.02", "0.0, 0.0, 0.02").replace(
            "-0.01, -0.004, -0.02", "0.0, 0.0, -0.02"
        )
    )
    with pytest.raises(DataError, match="span 1 of 3 directions, with all that the symmetry of the structure adds"):
        read_field_runs(path)


def test_mistakes_in_the_file(tmp_path: Path) -> None:
    for fields, extra, message in (
        (both(X, Y)[:3], "", r"fields.yaml:5: runs.2.field: no run has the opposite of \[0.0, 0.02, 0.0\]"),
        ([*both(X), X], "", "is there more than once; leave one run out"),
        ([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], "", "is there more than once"),
        (both(X, Y), "unit: kV/cm", "unit: "),
        (both(X, Y), "units: V/Å", "unknown key; did you mean 'unit'"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_field_runs(run_files(tmp_path, fields, extra))


def test_runs_that_do_not_belong_together(tmp_path: Path) -> None:
    path = run_files(tmp_path, both(X, DIAGONAL, Y))
    with pytest.raises(DataError, match="fields span 2 of 3 directions"):
        read_field_runs(run_files(tmp_path, both(X, Y)))
    path = run_files(tmp_path, both(X, DIAGONAL, Y))
    whole = (tmp_path / "run3.extxyz").read_text()
    for text, message in (
        (whole.replace("2.10000000", "2.10100000", 1), r"run3.extxyz, frame 0: not the structure of .*run0.extxyz, frame 0"),
        ("\n".join(whole.splitlines()[:5]) + "\n", "run3.extxyz has 1 structures and run0.extxyz 2"),
        (whole.replace(":forces:R:3", ":other:R:3"), "run3.extxyz, frame 0: no forces"),
    ):
        (tmp_path / "run3.extxyz").write_text(text)
        with pytest.raises(DataError, match=message):
            read_field_runs(path)
    (tmp_path / "run3.extxyz").unlink()
    with pytest.raises(BecMaceError, match="run3.extxyz: no such file"):
        read_field_runs(path)


def test_units() -> None:
    for name, unit, value in (
        ("energy", "hartree", HARTREE),
        ("energy", "kcal/mol", 0.043364104),
        ("forces", "Ry/bohr", HARTREE / 2 / BOHR),
        ("forces", "kJ/mol/nm", 0.0010364270),
        ("stress", "kbar", 0.1 / 160.21766),
        ("stress", "a.u.", HARTREE / BOHR**3),
        ("dipole", "debye", 0.20819434),
        ("dipole", "a.u.", BOHR),
        ("polarizability", "Bohr^3", BOHR**3),
        ("positions", "nm", 10.0),
        ("born_effective_charges", "a.u.", 1.0),
        ("dielectric_tensor", "1", 1.0),
    ):
        assert factor(name, unit) == pytest.approx(value, rel=1e-7), (name, unit)
    with pytest.raises(DataError, match="'kcal' is no unit of forces; known are eV/Å"):
        factor("forces", "kcal")
    with pytest.raises(DataError, match="'force' is no property"):
        factor("force", "eV/Å")


def test_positions_and_labels_come_into_the_units_of_the_package() -> None:
    frame = Frame.from_atoms(Atoms("H2", [[0, 0, 0], [0, 0, 1.4]], cell=[4, 5, 6], pbc=True, info={"REF_energy": -1.1}))
    ours = in_units_of_the_package(frame, {"positions": "bohr", "energy": "hartree"})
    assert ours.positions[1, 2] == pytest.approx(1.4 * BOHR) and ours.cell[2, 2] == pytest.approx(6 * BOHR)
    assert float(ours.labels["energy"]) == pytest.approx(-1.1 * HARTREE)
