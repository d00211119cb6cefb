from __future__ import annotations

import pytest
from ase import units as ase_units

from bec_mace import units


def test_constants_agree_with_ase() -> None:
    ours = [units.HARTREE, units.BOHR, units.DEBYE]
    assert ours == pytest.approx([ase_units.Hartree, ase_units.Bohr, ase_units.Debye], rel=1e-6)


def test_derived_units() -> None:
    # One atomic unit of field is 5.142e11 V/m; of polarizability 0.1482 Å^3; e^2/(4 pi eps0) is 14.40 eV Å.
    dipole = units.ATOMIC_DIPOLE / units.DEBYE
    derived = [units.ATOMIC_FIELD, units.ATOMIC_POLARIZABILITY, units.COULOMB_CONSTANT, dipole]
    assert derived == pytest.approx([51.4220675, 0.148184711, 14.3996454, 2.541746], rel=1e-6)
