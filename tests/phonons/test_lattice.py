"""Force constants, Z* and bands: from calculators, models and phonopy's files, and the messages when something does not fit."""

import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read

from bec_mace import BECCalculator
from bec_mace.errors import PhononError
from bec_mace.testing.small_models import make_model

pytest.importorskip("phonopy")

from phonopy.file_IO import (
    parse_BORN,
    write_FORCE_CONSTANTS,
    write_force_constants_to_hdf5,
    write_FORCE_SETS,
)

from bec_mace.phonons import (
    add_force_constants,
    add_force_sets,
    add_forces,
    from_file,
    from_model,
    gamma_modes,
    make_phonon,
    phonon_bands,
    relax,
    relaxation,
    symmetrise,
    write_born,
)
from bec_mace.phonons.lattice import to_ase
from tests.phonons.springs_of_crystals import LENGTH, CrystalSprings, rock_salt


@pytest.fixture(scope="module")
def salt(files):
    folder = files / "phonopy" / "NaCl"
    phonon = make_phonon(read(folder / "POSCAR-unitcell", format="vasp"), [2, 2, 2])
    assert add_force_sets(phonon, folder / "FORCE_SETS") == 2
    return phonon


def test_noise_on_charges_of_rock_salt_is_averaged_away(salt, rng, caplog):
    noisy = np.einsum("j,ab->jab", [1.1] * 4 + [-1.0] * 4, np.eye(3)) + 0.02 * rng.normal(size=(8, 3, 3))
    born = symmetrise(salt, noisy, 2.4 * np.eye(3) + 0.01 * rng.normal(size=(3, 3)), "noise")
    means = np.trace(born.charges, axis1=1, axis2=2) / 3
    assert np.abs(born.charges - np.einsum("j,ab->jab", means, np.eye(3))).max() < 1e-8
    assert np.abs(born.charges.sum(axis=0)).max() < 1e-8 and means[0] == pytest.approx(1.05, abs=0.02)
    assert np.abs(born.epsilon - born.epsilon[0, 0] * np.eye(3)).max() < 1e-8
    assert 0.04 < born.change < 0.15 and born.sum_before == pytest.approx(np.abs(noisy.mean(axis=0)).max())
    caplog.clear()
    symmetrise(salt, noisy + np.einsum("j,ab->jab", [1, 0, 0, 0, 0, 0, 0, 0], np.eye(3)), 2.4 * np.eye(3), "noise")
    assert "change Z* by up to 0" in caplog.text
    with pytest.raises(PhononError, match="not positive definite"):
        symmetrise(salt, noisy, -np.eye(3), "noise")


def test_born_that_is_written_is_read_by_phonopy_to_its_digits(files, tmp_path):
    folder = files / "phonopy" / "Al2O3"
    phonon = make_phonon(read(folder / "POSCAR-unitcell", format="vasp"), [1, 1, 1])
    born = from_file(phonon, folder / "BORN")
    write_born(phonon, born, tmp_path / "BORN")
    lines = (tmp_path / "BORN").read_text().splitlines()
    assert len(lines) == 4 and all(len(line.split()) == 9 for line in lines[1:])
    found = parse_BORN(phonon.primitive, filename=str(tmp_path / "BORN"))
    # Eight decimals, turned onto ten atoms.
    assert np.abs(found["born"] - born.charges).max() < 2e-8
    assert np.abs(found["dielectric"] - born.epsilon).max() <= 5.1e-9
    again = from_file(phonon, tmp_path / "BORN")
    assert np.abs(again.charges - born.charges).max() < 2e-8
    # The antisymmetric parts are there, in the order of the file: polarization first.
    assert born.charges[4, 1, 2] == pytest.approx(0.25811770, abs=1e-8)
    assert born.charges[4, 2, 1] == pytest.approx(0.35087130, abs=1e-8)


def test_charges_of_a_model_keep_their_order(tmp_path):
    """In a cell without symmetry only the mean tensor is taken away; in a doubled one phonopy finds the smaller cell."""
    model = make_model(("dipole", "monopole", "polarizability"))
    cell = [[3.4, 0.2, -0.1], [0.6, 3.2, 0.3], [-0.4, 0.5, 3.6]]
    atoms = Atoms("COH", positions=[[0.1, 0.2, 0.3], [1.3, 1.6, 1.1], [0.3, 0.9, 2.1]], cell=cell, pbc=True)
    phonon = make_phonon(atoms, [1, 1, 1])
    born = from_model(phonon, atoms, model, "random")
    calculator = BECCalculator(model, dtype="float64")
    exact = calculator.get_property("born_effective_charges", atoms)
    assert np.abs(exact - exact.transpose(0, 2, 1)).max() > 0.02
    assert born.charges == pytest.approx(exact - exact.mean(axis=0), abs=1e-9)
    assert born.epsilon == pytest.approx(calculator.get_property("dielectric_tensor", atoms), abs=1e-9)
    twice = atoms.repeat((2, 1, 1))
    double = from_model(make_phonon(twice, [1, 1, 1]), twice, model, "random")
    assert double.charges == pytest.approx(born.charges, abs=1e-9)
    given = from_model(phonon, atoms, model, "random", epsilon_infinity=2.5)
    assert given.epsilon == pytest.approx(2.5 * np.eye(3)) and given.charges == pytest.approx(born.charges)


def test_models_that_cannot(salt):
    atoms = to_ase(salt.unitcell)
    with pytest.raises(PhononError, match=r"the model small gives no Z\* \(heads: energy\)"):
        from_model(salt, atoms, make_model(("energy",)), "small")
    with pytest.raises(PhononError, match="no dielectric tensor.*charges.epsilon_infinity"):
        from_model(salt, atoms, make_model(("dipole",)), "small")


def test_force_constants_in_files_are_those_of_force_sets(salt, tmp_path):
    write_FORCE_CONSTANTS(salt.force_constants, filename=str(tmp_path / "FORCE_CONSTANTS"), p2s_map=salt.primitive.p2s_map)
    write_force_constants_to_hdf5(
        salt.force_constants, filename=str(tmp_path / "fc.hdf5"), p2s_map=salt.primitive.p2s_map, physical_unit="eV/angstrom^2"
    )
    exact = gamma_modes(salt).frequencies
    for name in ("FORCE_CONSTANTS", "fc.hdf5"):
        phonon = make_phonon(to_ase(salt.unitcell), [2, 2, 2])
        add_force_constants(phonon, tmp_path / name)
        assert gamma_modes(phonon).frequencies[3:] == pytest.approx(exact[3:], abs=1e-6)


def test_displacements_of_all_atoms_are_fitted(tmp_path):
    """FORCE_SETS of the second kind: random displacements with their forces."""
    exact, other = make_phonon(rock_salt(), [1, 1, 1]), make_phonon(rock_salt(), [1, 1, 1])
    add_forces(exact, CrystalSprings(), 1e-3)
    other.generate_displacements(distance=1e-3, number_of_snapshots=4, random_seed=3)
    calculator = CrystalSprings()
    other.forces = [calculator.get_property("forces", to_ase(cell)) for cell in other.supercells_with_displacements]
    write_FORCE_SETS(other.dataset, filename=str(tmp_path / "FORCE_SETS"))
    phonon = make_phonon(rock_salt(), [1, 1, 1])
    assert add_force_sets(phonon, tmp_path / "FORCE_SETS") == 4
    assert gamma_modes(phonon).frequencies == pytest.approx(gamma_modes(exact).frequencies, abs=0.01)
    with pytest.raises(PhononError, match="32 lines are no multiple of the 64 atoms of the supercell"):
        add_force_sets(make_phonon(rock_salt(), [2, 2, 2]), tmp_path / "FORCE_SETS")


def test_forces_of_our_own_potential():
    """A model with an energy head through its calculator: modes at Gamma are those of its second derivatives."""
    model = make_model(("energy", "dipole"))
    atoms = Atoms(
        "OH", positions=[[0.1, 0.2, 0.3], [1.3, 1.1, 1.0]], cell=[[2.9, 0.2, 0], [0.1, 3.1, 0.2], [0, -0.2, 3.3]], pbc=True
    )
    calculator = BECCalculator(model, dtype="float64")
    phonon = make_phonon(atoms, [1, 1, 1])
    # Without symmetry: six displacements, in both directions.
    assert add_forces(phonon, calculator, 1e-3) == 12
    hessian = np.zeros((6, 6))
    for row in range(6):
        moved = []
        for sign in (1, -1):
            other = atoms.copy()
            other.positions[row // 3, row % 3] += sign * 1e-4
            moved.append(calculator.get_property("forces", other).ravel())
        hessian[row] = (moved[1] - moved[0]) / 2e-4
    roots = np.repeat(np.sqrt(atoms.get_masses()), 3)
    exact = np.linalg.eigvalsh(0.5 * (hessian + hessian.T) / np.outer(roots, roots))
    assert gamma_modes(phonon).eigenvalues == pytest.approx(exact, abs=2e-4 * np.abs(exact).max())


def test_bands(salt, files):
    bare = phonon_bands(salt, "GXWKGL,UX", 60)
    assert bare.ends == [("G", "X"), ("X", "W"), ("W", "K"), ("K", "G"), ("G", "L"), ("U", "X")]
    lengths = [one[-1] - one[0] for one in bare.distances]
    assert lengths[0] == pytest.approx(1 / salt.unitcell.cell[0, 0])  # from 0 to 1/a along a cubic axis
    assert np.abs(bare.frequencies[0][0][:3]).max() < 1e-3 and bare.frequencies[0][0][5] == pytest.approx(4.6165, abs=1e-3)
    for first, second in zip(bare.frequencies[:3], bare.frequencies[1:4], strict=True):
        assert first[-1] == pytest.approx(second[0], abs=1e-6)
    from_file(salt, files / "phonopy" / "NaCl" / "BORN").apply(salt)
    polar = phonon_bands(salt, "GX", 10)
    assert polar.frequencies[0][0][5] == pytest.approx(7.3964, abs=1e-3) and polar.frequencies[0][0][4] == pytest.approx(
        4.6165, abs=1e-3
    )
    salt.nac_params = None
    with pytest.raises(PhononError, match=r"bands.path: GQ is no path .* G, K, L, U, W, X"):
        phonon_bands(salt, "GQ")
    with pytest.raises(PhononError, match=r"bands.path: G is no path"):
        phonon_bands(salt, "G")


def test_relaxation_finds_the_length_of_springs_and_keeps_symmetry(monkeypatch):
    start = rock_salt(length=1.03 * LENGTH)
    found = relax(start, CrystalSprings(), with_cell=True, max_force=1e-4)
    assert found.cell.array == pytest.approx(2 * LENGTH * np.eye(3), abs=1e-4) and found.calc is None
    assert start.cell[0, 0] == pytest.approx(2.06 * LENGTH)
    monkeypatch.setattr(relaxation, "_MOST_STEPS", 1)
    with pytest.raises(PhononError, match="relax: the forces are still above 1e-09 eV/Å after 1 steps"):
        relax(start, CrystalSprings(), with_cell=True, max_force=1e-9)
    held = relax(start, CrystalSprings(), max_force=1e-4)
    assert held.cell.array == pytest.approx(start.cell.array) and held.positions == pytest.approx(start.positions)


def test_what_does_not_fit_is_said(salt, files, tmp_path):
    folder = files / "phonopy" / "NaCl"
    atoms = to_ase(salt.unitcell)
    with pytest.raises(PhononError, match="for a molecule use `bec-mace vibrations`"):
        make_phonon(molecule("H2O"), [1, 1, 1])
    with pytest.raises(PhononError, match="of a supercell of 64 atoms, and the supercell of this structure has 8;"):
        add_force_sets(make_phonon(atoms, [1, 1, 1]), folder / "FORCE_SETS")
    with pytest.raises(PhononError, match="cannot be read as FORCE_SETS of phonopy"):
        add_force_sets(make_phonon(atoms, [1, 1, 1]), folder / "BORN")
    with pytest.raises(PhononError, match="none: cannot be read as force constants"):
        add_force_constants(salt, "none")
    other = make_phonon(bulk("Si"), [1, 1, 1])
    with pytest.raises(PhononError, match="cannot be read as BORN of phonopy for this structure"):
        from_file(other, folder / "BORN")
    text = (folder / "BORN").read_text()
    (tmp_path / "BORN").write_text(text.replace("14.400", "0.28", 1))
    with pytest.raises(PhononError, match=r"begins with the factor 0.28, so it belongs to other units"):
        from_file(salt, tmp_path / "BORN")


def test_a_force_that_is_not_finite_is_named():
    class Broken(CrystalSprings):
        def calculate(self, *arguments, **options):
            super().calculate(*arguments, **options)
            self.results["forces"][0, 0] = np.nan

    with pytest.raises(PhononError, match="a force in displaced supercell 0 is not finite"):
        add_forces(make_phonon(rock_salt(), [1, 1, 1]), Broken())


def test_without_phonopy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "phonopy", None)
    with pytest.raises(PhononError, match=r"pip install 'bec_mace\[phonons\]'"):
        make_phonon(bulk("Cu"), [1, 1, 1])
