from __future__ import annotations

import pytest
from ase import units as ase_units

from bec_mace import units


def test_constants_agree_with_ase() -> None:
    assert [units.HARTREE, units.BOHR] == pytest.approx([ase_units.Hartree, ase_units.Bohr], rel=1e-6)
    assert units.BOLTZMANN == pytest.approx(ase_units.kB, rel=1e-6)


def test_derived_units() -> None:
    assert units.COULOMB_CONSTANT == pytest.approx(14.3996454, rel=1e-8), "e^2/(4 pi eps0) in eV Å"


def test_constants_of_spectra_are_those_of_the_si() -> None:
    """The speed of light, e and h are exact there."""
    light, charge, planck, boltzmann = 299792458.0, 1.602176634e-19, 6.62607015e-34, 1.380649e-23
    assert units.SPEED_OF_LIGHT == pytest.approx(light * 100 / 1e15, rel=1e-12)
    assert units.PLANCK == pytest.approx(planck / charge * 1e15, rel=1e-12)
    assert units.BOLTZMANN == pytest.approx(boltzmann / charge, rel=1e-12)
