"""Raman tensors of crystals: against finite differences along modes, and what symmetry forbids."""

import numpy as np
import pytest
from ase.spacegroup import crystal

from bec_mace import BECCalculator
from bec_mace.data.formats.site_symmetry import find_operations
from bec_mace.errors import PhononError
from bec_mace.testing.small_models import make_model

pytest.importorskip("phonopy")

from bec_mace.phonons import add_forces, gamma_modes, make_phonon, raman_of_crystal
from bec_mace.phonons.born import evaluate_cell
from tests.phonons.springs_of_crystals import rock_salt


@pytest.fixture(scope="module")
def model():
    return make_model(("energy", "dipole", "polarizability"))


@pytest.fixture(scope="module")
def quartz():
    """The structure of alpha-quartz, smaller: 32 without inversion, nine atoms in two orbits."""
    places = [(0.4697, 0, 0), (0.4135, 0.2669, 0.1191)]
    return crystal(["C", "O"], places, spacegroup=154, cellpar=[3.9, 3.9, 4.3, 90, 90, 120])


@pytest.fixture(scope="module")
def modes(model, quartz):
    phonon = make_phonon(quartz, [1, 1, 1])
    add_forces(phonon, BECCalculator(model, dtype="float64"), 1e-3)
    return gamma_modes(phonon, None, raman_of_crystal(phonon, quartz, model, "random"))


def test_the_group_leaves_what_is_symmetric_and_takes_noise_away(model, quartz, rng):
    group = find_operations(quartz, "quartz")
    exact = evaluate_cell(quartz, model, {"raman_tensors"}, "random")["raman_tensors"]
    assert np.abs(exact).max() > 0.05
    assert group.average(exact) == pytest.approx(exact, abs=1e-10)
    noisy = group.average(exact + rng.normal(size=exact.shape))
    assert group.average(noisy) == pytest.approx(noisy, abs=1e-10)
    assert np.abs(noisy - exact).max() > 0.1


def test_along_modes_are_differences_of_the_polarizability(model, quartz, modes):
    calculator, step = BECCalculator(model, dtype="float64"), 1e-3
    for mode in (4, 11, 20, 26):
        found = []
        for sign in (1, -1):
            moved = quartz.copy()
            moved.positions += sign * step * modes.displacements[mode]
            found.append(calculator.get_property("polarizability", moved))
        assert modes.raman_derivatives[mode] == pytest.approx((found[0] - found[1]) / (2 * step), abs=1e-6)


def test_selection_rules(modes):
    """Of 32: A1 and E scatter, A2 does not; A1 has a symmetric tensor of xx = yy and zz."""
    activity, ratio = modes.raman
    optical = [mode for mode in range(27) if not modes.is_acoustic[mode]]
    kinds = {label: [mode for mode in optical if modes.labels[mode] == label] for label in ("A1", "A2", "E")}
    assert [len(kinds[label]) for label in ("A1", "A2", "E")] == [4, 4, 16]
    assert activity[kinds["A2"]].max() < 1e-12 * activity.max()
    assert activity[kinds["A1"]].min() > 1e-6 * activity.max() and activity[kinds["E"]].min() > 1e-6 * activity.max()
    assert ratio[kinds["E"]] == pytest.approx(0.75, abs=1e-6)
    for tensor in modes.raman_derivatives[kinds["A1"]]:
        assert tensor == pytest.approx(np.diag([tensor[0, 0], tensor[0, 0], tensor[2, 2]]), abs=1e-9)
    assert np.abs(modes.raman_derivatives[modes.is_acoustic]).max() < 1e-9


def test_atoms_of_the_primitive_cell_are_found_in_the_cubic_one():
    """Zincblende: d alpha_ab / d r_c is one number for xyz in any order, of opposite sign on the two ions."""
    model = make_model(("dipole", "polarizability"), hidden_max_l=2)  # vectors vanish at such sites, and so do their dyads
    cubic = crystal(["C", "O"], [(0, 0, 0), (0.25, 0.25, 0.25)], spacegroup=216, cellpar=[3.6, 3.6, 3.6, 90, 90, 90])
    phonon = make_phonon(cubic, [1, 1, 1])
    assert len(phonon.primitive) == 2
    exact = evaluate_cell(cubic, model, {"raman_tensors"}, "random")["raman_tensors"]
    number = exact[cubic.symbols.indices()["C"][0], 0, 1, 2]
    found = raman_of_crystal(phonon, cubic, model, "random")
    levi_civita = np.abs(np.cross(np.eye(3)[:, None], np.eye(3)[None, :]))
    signs = {"C": 1.0, "O": -1.0}
    assert abs(number) > 1e-3
    for symbol, tensor in zip(phonon.primitive.symbols, found, strict=True):
        assert tensor == pytest.approx(signs[symbol] * number * levi_civita, abs=1e-9)


def test_rock_salt_does_not_scatter(model):
    salt = rock_salt(1.9, symbols=("C", "O"))
    assert np.abs(raman_of_crystal(make_phonon(salt, [1, 1, 1]), salt, model, "random")).max() < 1e-12
    with pytest.raises(PhononError, match=r"raman: the model small gives no polarizability \(heads: dipole\)"):
        raman_of_crystal(make_phonon(salt, [1, 1, 1]), salt, make_model(("dipole",)), "small")
