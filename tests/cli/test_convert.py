"""``bec-mace convert``: what is written is what was read, under names that need no keys."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from bec_mace.data import read_frames
from bec_mace.units import BOHR, HARTREE

Z = "born_effective_charges"
OUTPUTS = Path(__file__).parents[1] / "files" / "outputs"
BORN = Path(__file__).parents[1] / "files" / "phonopy" / "NaCl" / "BORN"


@pytest.mark.parametrize("name", ["all.extxyz", "all.xyz", "all.extxyz.gz"])
def test_all_that_is_read(run, tmp_path, name):
    sources = [OUTPUTS / "OUTCAR.0005.002.gz", OUTPUTS / "NaCl.ph.out.gz", OUTPUTS / "MgO.vasprun.xml"]
    result = run("convert", *sources, "-o", name)
    assert result.exit_code == 0, result.stderr
    before, after = read_frames(sources), read_frames(tmp_path / name)
    lines = result.stdout.splitlines()
    assert (
        f"{sources[0]}: VASP OUTCAR, 1 frame, 9 atoms: born_effective_charges, energy, forces, stress, dielectric_tensor"
        == lines[0]
    )
    assert f"{sources[1]}: ph.x output, 1 frame, 8 atoms: born_effective_charges, dielectric_tensor" == lines[1]
    assert lines[-1].startswith(f"wrote {name}: 3 frames, ") and "born_effective_charges in all" in lines[-1]
    assert "energy in 2" in lines[-1]
    asymmetric = 0.0
    for old, new in zip(before, after, strict=True):
        assert old.labels.keys() == new.labels.keys()
        for label, value in old.labels.items():
            np.testing.assert_allclose(new.labels[label], value, atol=6e-9)
        np.testing.assert_allclose(new.positions, old.positions, atol=6e-9)
        np.testing.assert_allclose(new.cell, old.cell, atol=1e-12)
        asymmetric = max(asymmetric, np.abs(old.labels[Z] - old.labels[Z].swapaxes(1, 2)).max())
    assert asymmetric > 0.1


def test_keys_units_and_index_order(run, tmp_path):
    charges = np.random.default_rng(1).normal(size=(2, 3, 3))
    atoms = Atoms("HF", [[0, 0, 0], [0, 0.3, 1.7]], cell=[10, 11, 12], pbc=True)
    atoms.set_array("zstar", charges.swapaxes(1, 2).reshape(2, 9))
    atoms.set_array("f_au", np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]]))
    atoms.info.update(e_tot=-100.25, config_type="dimer", charge_of_fluorine="x")
    write("mine.extxyz", atoms)
    keys = [f"--key={name}={key}" for name, key in ((Z, "zstar"), ("forces", "f_au"), ("energy", "e_tot"))]
    units = ["--units", "forces=hartree/bohr", "--units", "energy=hartree", "--units", "positions=bohr"]
    result = run(
        "convert",
        "mine.extxyz",
        OUTPUTS / "NaCl.ph.out.gz",
        "-o",
        "out.extxyz",
        *keys,
        *units,
        "--index-order",
        "displacement_first",
    )
    assert result.exit_code == 0, result.stderr
    frame, raw = read_frames(tmp_path / "out.extxyz")
    np.testing.assert_allclose(frame.labels[Z], charges, atol=6e-9)
    np.testing.assert_allclose(frame.labels["forces"][0], np.array([0.1, 0.2, 0.3]) * HARTREE / BOHR, atol=6e-9)
    assert float(frame.labels["energy"]) == pytest.approx(-100.25 * HARTREE, rel=1e-12)
    assert frame.positions[1, 1] == pytest.approx(0.3 * BOHR, abs=6e-9) and frame.info["config_type"] == "dimer"
    # Raw outputs have units and an order of their own.
    (original,) = read_frames(OUTPUTS / "NaCl.ph.out.gz")
    np.testing.assert_allclose(raw.labels[Z], original.labels[Z], atol=6e-9)
    np.testing.assert_allclose(raw.positions, original.positions, atol=6e-9)


def test_keys_that_are_no_labels_are_named(run):
    atoms = Atoms("H", cell=[9, 9, 9], pbc=True, info={"virial": np.eye(3)})
    write("a.extxyz", [atoms, Atoms("He")])
    result = run("convert", "a.extxyz", "-o", "b.extxyz")
    assert result.stdout.splitlines()[0] == "a.extxyz: extended XYZ, 2 frames, 2 atoms: no labels; not read: virial in 1"


def test_broken_files(run, tmp_path):
    whole = OUTPUTS / "NaCl.ph.out.gz"
    (tmp_path / "cut.gz").write_bytes(whole.read_bytes()[:3000])
    (tmp_path / "text.extxyz").write_text("2\nno properties\nH 0 0 0\n")
    result = run("convert", "cut.gz", whole, "-o", "out.extxyz")
    assert result.exit_code == 2 and "Error: cut.gz" in result.stderr and not (tmp_path / "out.extxyz").exists()
    result = run("convert", "cut.gz", whole, "text.extxyz", "-o", "out.extxyz", "--skip-errors")
    assert result.exit_code == 2
    assert "text.extxyz: extended XYZ, not read" in result.stdout and "wrote out.extxyz: 1 frame, 8 atoms" in result.stdout
    said = result.stderr.splitlines()
    assert said[-3] == "2 of 3 files could not be read:" and said[-2].startswith("  cut.gz, frame 0: ")
    assert said[-1].startswith("  text.extxyz, frame 0: ASE cannot read it (")
    assert len(read_frames(tmp_path / "out.extxyz")) == 1
    result = run("convert", "cut.gz", "text.extxyz", "-o", "none.extxyz", "--skip-errors")
    assert result.exit_code == 2 and "none.extxyz: not written, no file could be read" in result.stderr
    assert not list(tmp_path.glob("*none*"))


def test_what_is_asked_wrongly(run, tmp_path):
    for arguments, message in (
        (["-o", "out.h5"], "end the name in one of .extxyz, .xyz, .extxyz.gz, .xyz.gz"),
        (["-o", "out.xyz", "--units", "forces"], "--units forces: expected PROPERTY=UNIT"),
        (["-o", "out.xyz", "--units", "forces=N"], "'N' is no unit of forces"),
        (["-o", "out.xyz", "--key", "force=f"], "'force' is no property. Did you mean 'forces'?"),
    ):
        result = run("convert", BORN, *arguments)
        assert result.exit_code == 2 and message in result.stderr, result.stderr
    write("a.extxyz", Atoms("H"))
    result = run("convert", "a.extxyz", "-o", "a.extxyz")
    assert result.exit_code == 2 and "is one of the files to read" in result.stderr


def test_runs_in_fields(run, tmp_path):
    from tests.data.test_finite_fields import CHARGES, DIAGONAL, X, Y, both, run_files

    path = run_files(tmp_path, both(X, Y, DIAGONAL))
    path.write_text(path.read_text())
    result = run("convert", "fields.yaml", "-o", "out.extxyz")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0] == "fields.yaml: runs in fields, 2 frames, 6 atoms: born_effective_charges"
    for number, frame in enumerate(read_frames(tmp_path / "out.extxyz")):
        np.testing.assert_allclose(frame.labels[Z], CHARGES[number], atol=3e-6)
    path.write_text(path.read_text().replace("0.02", "0.03", 1))
    result = run("convert", "fields.yaml", BORN, "-o", "out.extxyz", "--skip-errors")
    assert (
        result.exit_code == 2
        and "no run has the opposite of" in result.stderr
        and "wrote out.extxyz: 1 frame, 8 atoms" in result.stdout
    )
