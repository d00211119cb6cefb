"""Vibrations of molecules against ASE's Infrared on the same calculator, and closed forms."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.vibrations import Infrared
from scipy.spatial.transform import Rotation

from bec_mace import BECCalculator
from bec_mace.errors import PhononError
from bec_mace.phonons import molecules, relax_molecule, vibrations
from bec_mace.phonons.lattice import THZ
from bec_mace.phonons.molecules import DEBYE2, KM_MOL, to_dict, write_csv
from bec_mace.phonons.optics import CM_PER_THZ
from bec_mace.phonons.plots import plot_lines
from bec_mace.phonons.scattering import activities
from bec_mace.testing.small_models import make_model
from tests.dynamics.springs import Springs


class ChargedSprings(Springs):
    implemented_properties = ["energy", "forces", "born_effective_charges"]

    def calculate(self, *arguments, **options):
        super().calculate(*arguments, **options)
        self.results["born_effective_charges"] = np.zeros((len(self.atoms), 3, 3))


@pytest.fixture(scope="module")
def calculator():
    """Springs of equal lengths beside the charges of a random model."""
    return BECCalculator(make_model(("charge_transfer", "dipole")), base=Springs(stiffness=4.0, length=1.2), dtype="float64")


@pytest.fixture
def triangle():
    """At rest: three atoms at equal distances, turned somehow."""
    atoms = Atoms("OHC", positions=1.2 * np.array([[0, 0, 0], [1, 0, 0], [0.5, np.sqrt(0.75), 0]]))
    atoms.rotate(40, (1, 2, 3))
    return atoms


def test_frequencies_and_intensities_are_those_of_ase(calculator, triangle, tmp_path):
    """ASE differentiates forces and dipole; here Z* is one evaluation. Both without the error of the displacement's square."""
    ours, ases = [], []
    for size in (0.01, 0.005):
        found = vibrations(triangle, calculator, size)
        ours.append(np.array([found.wavenumbers, found.intensities_debye]))
        atoms = triangle.copy()
        atoms.calc = calculator
        infrared = Infrared(atoms, name=str(tmp_path / f"ir{size}"), delta=size)
        infrared.run()
        ases.append(np.array([infrared.get_frequencies().real[-3:], infrared.intensities[-3:]]))
    assert ours[0][0] == pytest.approx(ases[0][0], abs=0.05)
    first, second = ((4 * one[1] - one[0]) / 3 for one in (ours, ases))
    assert first[0] == pytest.approx(second[0], abs=1e-4)
    assert first[1] == pytest.approx(second[1], rel=1e-6) and second[1].max() > 0.1
    assert found.intensities_km_mol == pytest.approx(42.2561 * found.intensities_debye, rel=1e-4)
    assert found.dipole_debye == pytest.approx(infrared.dipole_zero, rel=1e-9)
    assert KM_MOL == pytest.approx(974.88, rel=1e-5) and DEBYE2 == pytest.approx(4.80320**2, rel=1e-5)


def test_a_pair_of_atoms_has_one_vibration(calculator):
    """Five motions of a linear molecule are rigid: w = sqrt(k/mu); the intensity is that of Z* along the bond."""
    direction = np.array([1.0, 2.0, 2.0]) / 3
    atoms = Atoms("OH", positions=[[0, 0, 0], 1.2 * direction])
    found = vibrations(atoms, calculator)
    masses = atoms.get_masses()
    mu = masses.prod() / masses.sum()
    assert found.wavenumbers == pytest.approx([np.sqrt(4.0 / mu) * THZ * CM_PER_THZ], rel=1e-4)
    moved = np.array([direction / masses[0], -direction / masses[1]]) * np.sqrt(mu)
    derivative = np.einsum("jab,jb->a", found.charges, moved)
    assert found.intensities_km_mol == pytest.approx([KM_MOL * derivative @ derivative])
    assert found.zero_point_energy == pytest.approx(0.5 * found.wavenumbers[0] * 1.239841984e-4, rel=1e-6)
    atoms.set_masses([16.0, 2.0])
    heavy = vibrations(atoms, calculator)
    assert heavy.wavenumbers[0] / found.wavenumbers[0] == pytest.approx(np.sqrt(mu / (32 / 18)), rel=1e-9)


def test_rotation_changes_nothing(calculator, triangle):
    one = vibrations(triangle, calculator)
    triangle.rotate(77, (1, -1, 0.3))
    triangle.positions += [3, -2, 5]
    other = vibrations(triangle, calculator)
    assert other.wavenumbers == pytest.approx(one.wavenumbers, abs=0.1)
    assert other.intensities_km_mol == pytest.approx(one.intensities_km_mol, rel=1e-3)


def test_a_stretched_molecule_is_relaxed_or_warned_of(calculator, triangle, caplog, monkeypatch):
    stretched = triangle.copy()
    stretched.positions *= 1.1
    found = vibrations(stretched, calculator)
    assert "the largest force is" in caplog.text and found.largest_force > 0.1 and len(found.wavenumbers) == 3
    relaxed = relax_molecule(stretched, calculator, 1e-6)
    assert relaxed.get_all_distances() == pytest.approx(triangle.get_all_distances(), abs=1e-5)
    monkeypatch.setattr(molecules, "_MOST_STEPS", 1)
    with pytest.raises(PhononError, match="the forces are still above 1e-06 eV/Å after 1 steps; raise --max-force"):
        relax_molecule(stretched, calculator, 1e-6)
    assert stretched.get_distance(0, 1) == pytest.approx(1.32) and relaxed.calc is None


def test_saddle_points_have_imaginary_frequencies(triangle):
    upside = BECCalculator(make_model(("dipole",)), base=Springs(stiffness=-4.0, length=1.2), dtype="float64")
    assert (vibrations(triangle, upside).wavenumbers < -300).all()


def test_files(calculator, triangle, tmp_path):
    found = vibrations(triangle, calculator)
    write_csv(found, tmp_path / "lines.csv")
    rows = np.genfromtxt(tmp_path / "lines.csv", delimiter=",", names=True)
    assert rows["wavenumber_cm1"] == pytest.approx(found.wavenumbers, rel=1e-8)
    content = json.loads(json.dumps(to_dict(found)))
    assert [line["intensity_km/mol"] for line in content["lines"]] == pytest.approx(found.intensities_km_mol)
    moved = np.array(content["lines"][0]["displacements_u^(-1/2)"])
    assert np.sum(triangle.get_masses()[:, None] * moved**2) == pytest.approx(1)
    plot_lines(found, tmp_path / "lines.png")
    assert (tmp_path / "lines.png").stat().st_size > 5000


def test_what_has_no_vibrations(calculator, triangle):
    with pytest.raises(PhononError, match="a single atom has no vibrations"):
        vibrations(Atoms("O"), calculator)
    with pytest.raises(PhononError, match="the calculator gives no born_effective_charges"):
        vibrations(triangle, Springs())
    with pytest.raises(PhononError, match="the calculator gives no forces"):
        vibrations(triangle, BECCalculator(make_model(("dipole",)), dtype="float64"))
    triangle.set_cell(10 * np.eye(3))
    triangle.pbc = True
    with pytest.raises(PhononError, match="for a crystal use `bec-mace phonons`"):
        vibrations(triangle, calculator)
    triangle.pbc = False
    with pytest.raises(PhononError, match="a force is not finite"):
        vibrations(triangle, ChargedSprings(length=1.2, good=3))


def test_raman_activities_against_polarizabilities_of_displaced_molecules(triangle, tmp_path):
    """Along each mode the model's polarizability is differentiated; an orientational average by quadrature gives activities."""
    model = make_model(("dipole", "polarizability"))
    calculator = BECCalculator(model, base=Springs(stiffness=4.0, length=1.2), dtype="float64")
    found = vibrations(triangle, calculator)
    derivatives = []
    for mode in found.displacements:
        ends = []
        for sign in (1, -1):
            moved = triangle.copy()
            moved.positions += sign * 1e-4 * mode
            ends.append(calculator.get_property("polarizability", moved))
        derivatives.append((ends[0] - ends[1]) / 2e-4)
    expected, ratios = activities(np.array(derivatives))
    assert found.raman[0] == pytest.approx(expected, rel=1e-5) and found.raman[0].max() > 0.1
    assert found.raman[1] == pytest.approx(ratios, abs=1e-6)
    turns = Rotation.random(20000, rng=1).as_matrix()
    for tensor, activity, ratio in zip(derivatives, expected, ratios, strict=True):
        turned = np.einsum("kab,bc,kdc->kad", turns, tensor, turns)
        polarized, crossed = np.mean(turned[:, 2, 2] ** 2), np.mean(turned[:, 0, 2] ** 2)
        assert 45 * (polarized + crossed) == pytest.approx(activity, rel=0.03)
        assert crossed / polarized == pytest.approx(ratio, rel=0.05)
    write_csv(found, tmp_path / "lines.csv")
    rows = np.genfromtxt(tmp_path / "lines.csv", delimiter=",", names=True)
    assert rows["raman_activity_A4u"] == pytest.approx(expected, rel=1e-5)
    assert to_dict(found)["lines"][1]["depolarization_ratio"] == pytest.approx(ratios[1], abs=1e-6)


def test_a_vibration_without_a_mean_is_depolarized():
    shear = np.array([[[0, 1, 0], [1, 0, 0], [0, 0, 0]], np.eye(3), np.zeros((3, 3))], dtype=float)
    activity, ratio = activities(shear)
    assert activity == pytest.approx([21, 45, 0]) and ratio == pytest.approx([0.75, 0, 0])
