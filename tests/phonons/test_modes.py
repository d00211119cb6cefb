"""Modes, longitudinal modes and optics against closed forms and against phonopy alone."""

import warnings

import numpy as np
import pytest
from ase.io import read
from ase.units import _amu, _c, _e, _eps0, _Nav

from bec_mace.errors import PhononError
from bec_mace.phonons.born import BornCharges, symmetrise
from bec_mace.phonons.lattice import THZ
from bec_mace.phonons.modes import GammaModes
from bec_mace.phonons.molecules import KM_MOL
from bec_mace.phonons.optics import CM_PER_THZ, dielectric_function, optical_spectrum
from bec_mace.units import COULOMB_CONSTANT

phonopy = pytest.importorskip("phonopy")

from bec_mace.phonons import (  # noqa: E402
    add_force_sets,
    add_forces,
    analyse,
    from_file,
    gamma_modes,
    longitudinal_modes,
    make_phonon,
)
from tests.phonons.springs_of_crystals import LENGTH, STIFFNESS, CrystalSprings, rock_salt  # noqa: E402

Q, EPSILON = 1.7, 2.9


@pytest.fixture(scope="module")
def springs():
    """Rock salt of springs with charges of 1.7 e in a medium."""
    phonon = make_phonon(rock_salt(), [2, 2, 2])
    add_forces(phonon, CrystalSprings(), 0.01)
    charges = np.einsum("j,ab->jab", [Q] * 4 + [-Q] * 4, np.eye(3))
    return phonon, symmetrise(phonon, charges, EPSILON * np.eye(3), "springs")


@pytest.fixture(scope="module")
def alumina(files):
    folder = files / "phonopy" / "Al2O3"
    phonon = make_phonon(read(folder / "POSCAR-unitcell", format="vasp"), [2, 2, 1])
    add_force_sets(phonon, folder / "FORCE_SETS")
    born = from_file(phonon, folder / "BORN")
    return phonon, gamma_modes(phonon, born)


def test_rock_salt_of_springs(springs):
    """Six springs hold an ion, two of them along each axis: w_TO^2 = 2 k / mu; w_LO^2 = w_TO^2 + 4 pi k_e q^2 / (mu V eps)."""
    phonon, born = springs
    modes = gamma_modes(phonon, born)
    m = modes.masses
    mu, volume = m[0] * m[1] / m.sum(), 2 * LENGTH**3
    transverse = np.sqrt(2 * STIFFNESS / mu) * THZ
    longitudinal = np.sqrt(2 * STIFFNESS / mu + 4 * np.pi * COULOMB_CONSTANT * Q**2 / (mu * volume * EPSILON)) * THZ
    assert THZ == pytest.approx(15.633302, rel=1e-6)
    assert modes.volume == pytest.approx(volume, rel=1e-12)
    assert modes.frequencies == pytest.approx([0, 0, 0, *[transverse] * 3], abs=2e-4)
    assert modes.is_acoustic.tolist() == [True] * 3 + [False] * 3 and modes.labels[3:] == ("T1u",) * 3
    for direction in ([1, 0, 0], [3, -1, 2]):
        found = longitudinal_modes(phonon, modes, np.array(direction))
        assert found.pairs == pytest.approx(np.array([[transverse, longitudinal]]), abs=2e-4)
        assert np.linalg.norm(found.direction) == pytest.approx(1)
    phonon.nac_params["born"][:] *= 1.1
    phonon.nac_params = phonon.nac_params
    with pytest.raises(PhononError, match="THz off those of these charges; it has others"):
        longitudinal_modes(phonon, modes, np.array([1, 0, 0]))
    born.apply(phonon)
    static = EPSILON + 4 * np.pi * COULOMB_CONSTANT * Q**2 / (2 * STIFFNESS * volume)
    assert modes.epsilon_static == pytest.approx(static * np.eye(3), rel=1e-4, abs=1e-9)
    # In the mode the ions move in the ratio of the other's mass: Z_mode = q (1/m1 + 1/m2) / sqrt(1/m1^2 + 1/m2^2).
    charge = Q * (1 / m).sum() / np.sqrt((1 / m**2).sum())
    assert np.linalg.norm(modes.charges[3:], axis=1) == pytest.approx([charge] * 3, rel=1e-6)
    assert modes.oscillator_strengths[3:].sum(axis=0) == pytest.approx(Q**2 / mu * np.eye(3), rel=1e-6, abs=1e-9)


def test_without_charges_there_are_transverse_modes_alone(springs):
    results = analyse(make_copy(springs[0]), None, bands=None)
    assert results.spectrum is None and results.longitudinal == [] and results.bands is None
    with pytest.raises(PhononError, match="name a model or a BORN file under charges"):
        _ = results.modes.charges
    with pytest.raises(PhononError, match="no infrared spectrum with no Z"):
        dielectric_function(results.modes, np.array([1.0]), 1.0)


def make_copy(phonon):
    copy = make_phonon(rock_salt(), [2, 2, 2])
    copy.force_constants = phonon.force_constants
    return copy


def test_corundum_agrees_with_phonopy_alone(alumina, files):
    """phonopy.load reads the same files by itself; all frequencies for three directions of q."""
    phonon, modes = alumina
    folder = files / "phonopy" / "Al2O3"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = phonopy.load(
            unitcell_filename=folder / "POSCAR-unitcell",
            supercell_matrix=[2, 2, 1],
            primitive_matrix="auto",
            force_sets_filename=folder / "FORCE_SETS",
            born_filename=folder / "BORN",
            log_level=0,
        )
    for direction in np.array([[1.0, 0, 0], [0, 0, 1.0], [1.0, 2.0, -1.5]]):
        alone.run_qpoints([[0, 0, 0]], nac_q_direction=alone.primitive.cell @ direction)
        found = longitudinal_modes(phonon, modes, direction)
        assert np.abs(found.frequencies - alone.qpoints.frequencies[0]).max() < 1e-3
        assert (found.pairs[:, 1] > found.pairs[:, 0]).all()
        assert (found.pairs[:-1, 1] < found.pairs[1:, 0] + 1e-9).all()  # between two transverse modes


def test_longitudinal_modes_are_zeros_of_the_dielectric_function(alumina):
    """What phonopy lifts is where n.epsilon.n of our strengths vanishes; the two have nothing but Z* in common."""
    phonon, modes = alumina
    for direction in np.array([[1.0, 0, 0], [0, 0, 1.0], [0.3, -0.7, 0.5]]):
        unit = direction / np.linalg.norm(direction)
        pairs = longitudinal_modes(phonon, modes, direction).pairs
        epsilon = dielectric_function(modes, pairs[:, 1] * CM_PER_THZ, damping=1e-9)
        slopes = dielectric_function(modes, (pairs[:, 1] + 1e-3) * CM_PER_THZ, damping=1e-9)
        along, beside = (np.einsum("a,nab,b->n", unit, one, unit).real for one in (epsilon, slopes))
        assert np.abs(along / (beside - along) * 1e-3).max() < 1e-6  # THz


def test_corundum_obeys_lyddane_sachs_and_teller(alumina):
    """The product of (LO / TO)^2 of a principal axis is eps(0) / eps(infinity); published labels and order of A2u and Eu."""
    phonon, modes = alumina
    for axis, label in ((0, "Eu"), (2, "A2u")):
        pairs = longitudinal_modes(phonon, modes, np.eye(3)[axis]).pairs
        ratio = np.prod((pairs[:, 1] / pairs[:, 0]) ** 2)
        assert ratio == pytest.approx(modes.epsilon_static[axis, axis] / modes.born.epsilon[axis, axis], rel=1e-6)
        polar = [modes.labels[mode] for mode in range(30) if modes.is_polar[mode] and abs(modes.polarities[mode, axis]) > 1e-3]
        assert set(polar) == {label}
    assert np.diag(modes.epsilon_static) == pytest.approx([9.513, 9.513, 11.514], abs=2e-3)


def test_strengths_of_all_modes_sum_to_those_of_ions(alumina):
    """sum_m S = sum_j Z_j Z_j^T / M_j, since the eigenvectors are complete."""
    _, modes = alumina
    ions = np.einsum("jab,jcb,j->ac", modes.born.charges, modes.born.charges, 1 / modes.masses)
    assert modes.oscillator_strengths.sum(axis=0) == pytest.approx(ions, abs=1e-10)
    assert np.abs(modes.polarities[modes.is_acoustic]).max() < 1e-6


def test_optics_of_corundum(alumina):
    _, modes = alumina
    found = optical_spectrum(modes, damping=5.0, polarizations=np.array([[2.0, 0, 0], [0, 0, 1.0]]), max_wavenumber=3000)
    static, electrons = np.diag(modes.epsilon_static)[[0, 2]], np.diag(modes.born.epsilon)[[0, 2]]
    low, high = ((np.sqrt(one) - 1) ** 2 / (np.sqrt(one) + 1) ** 2 for one in (static, electrons))
    assert found.reflectivity[0] == pytest.approx(low, rel=1e-6)
    assert found.reflectivity[-1] == pytest.approx(high, rel=0.15)  # 3000 cm^-1 is far above, not infinite
    assert found.epsilon[0].real == pytest.approx(static) and found.absorption[0] == pytest.approx([0, 0])
    assert (found.epsilon.imag >= 0).all() and (found.absorption >= 0).all() and (found.reflectivity < 1).all()
    # In a band of total reflection between TO and LO.
    inside = np.searchsorted(found.wavenumber, 700)
    assert found.reflectivity[inside, 0] > 0.9
    # n k = eps'' / 2, so n alpha = 2 pi nu eps''.
    n = np.sqrt(found.epsilon).real
    assert n * found.absorption == pytest.approx(2 * np.pi * found.wavenumber[:, None] * found.epsilon.imag, rel=1e-9, abs=1e-9)


def test_a_polarization_that_is_no_axis_is_said_to_be_none(alumina, caplog):
    optical_spectrum(alumina[1], polarizations=np.array([[1.0, 0, 1.0]]))
    assert "no principal axis" in caplog.text
    caplog.clear()
    optical_spectrum(alumina[1], polarizations=np.array([[1.0, 1.0, 0]]))
    assert caplog.text == ""
    with pytest.raises(PhononError, match="take a larger spacing"):
        optical_spectrum(alumina[1], spacing=1e-6)


def test_a_molecule_in_a_large_cell_absorbs_its_intensity():
    """The area of n alpha of one molecule in a volume V, times V N_A, is its intensity in km/mol."""
    masses, volume = np.array([1.0, 35.0]), 1e6
    born = BornCharges(np.einsum("j,ab->jab", [0.2, -0.2], np.eye(3)), np.eye(3), "test", 0, 0, 0, {})
    vectors = np.zeros((6, 2, 3))
    for axis in range(3):
        vectors[axis, :, axis] = np.sqrt(masses / masses.sum())
        vectors[3 + axis, :, axis] = np.sqrt(masses[::-1] / masses.sum()) * [1, -1]
    modes = GammaModes(np.array([0, 0, 0, 20.0, 20.0, 20.0]), vectors, masses, volume, ("H", "Cl"), born, (None,) * 6)
    found = optical_spectrum(modes, damping=20.0, max_wavenumber=60000.0, spacing=1.0)
    area = np.sum(found.n_alpha) * 1.0  # cm^-2
    mu = masses.prod() / masses.sum()
    expected = _Nav * _e**2 * 0.2**2 / (12 * _eps0 * _c**2 * mu * _amu) * 1e-3  # km/mol, one mode along each axis
    assert expected == pytest.approx(KM_MOL * 0.04 / mu, rel=1e-12) and KM_MOL == pytest.approx(974.88, rel=1e-5)
    # cm^-2 x cm^3/mol = cm/mol; three modes, each seen along one axis of three.
    per_mole = area * volume * 1e-24 * _Nav * 1e-5
    assert per_mole == pytest.approx(3 * expected, rel=2e-3)


def test_an_unstable_crystal_has_no_static_response(springs, caplog):
    phonon, born = springs
    wrong = make_copy(phonon)
    wrong.force_constants = -phonon.force_constants
    results = analyse(wrong, born, bands=None)
    assert results.modes.frequencies[0] < -5 and results.modes.epsilon_static is None and results.spectrum is None
    assert "imaginary" in caplog.text and "no static dielectric tensor" in caplog.text
    with pytest.raises(PhononError, match="a polar mode of imaginary frequency"):
        optical_spectrum(results.modes)
