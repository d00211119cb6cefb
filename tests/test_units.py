from __future__ import annotations

import pytest
from ase import units as ase_units

from bec_mace import units


def test_constants_agree_with_ase() -> None:
    assert [units.HARTREE, units.BOHR] == pytest.approx([ase_units.Hartree, ase_units.Bohr], rel=1e-6)
    assert units.BOLTZMANN == pytest.approx(ase_units.kB, rel=1e-6)


def test_derived_units() -> None:
    assert units.COULOMB_CONSTANT == pytest.approx(14.3996454, rel=1e-8), "e^2/(4 pi eps0) in eV Å"
