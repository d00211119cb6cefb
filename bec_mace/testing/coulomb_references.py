"""Coulomb energies that are known: of another program, and of crystals of point charges."""

from __future__ import annotations

from typing import NamedTuple

from bec_mace.units import COULOMB_CONSTANT

CHARGES = (0.4, -0.7, 0.2)
"""Of three atoms, in e."""
POSITIONS = ((0.0, 0.0, 0.0), (1.1, 0.2, -0.3), (-0.4, 2.0, 0.9))
"""In Å."""
CELL = ((9.0, 0.0, 0.0), (1.0, 10.0, 0.0), (-0.5, 0.7, 11.0))
"""In Å."""
_ITS_CONSTANT = 14.399639
MOLECULE = -2.87850539 * COULOMB_CONSTANT / _ITS_CONSTANT
"""Energy of the three alone, with a smearing of 1 Å, by a program with another value of the Coulomb constant, in eV."""
CRYSTAL = -2.93238988 * COULOMB_CONSTANT / _ITS_CONSTANT
"""Energy in the cell, without a macroscopic field and without the uniform background, in eV."""


class Crystal(NamedTuple):
    """Point charges of +1 and -1 e in a cubic cell.

    Attributes:
        fractions: Places of all charges, the positive ones first.
        distance: Of neighbours, in units of the lattice constant.
        madelung: The constant that belongs to this distance.
    """

    fractions: tuple[tuple[float, float, float], ...]
    distance: float
    madelung: float


def _crystal(sites: tuple[tuple[float, float, float], ...], shift: tuple[float, float, float], madelung: float) -> Crystal:
    x, y, z = shift
    others = tuple((a + x, b + y, c + z) for a, b, c in sites)
    return Crystal(sites + others, (x**2 + y**2 + z**2) ** 0.5, madelung)


_FCC = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
CRYSTALS = {
    "NaCl": _crystal(_FCC, (0.5, 0.0, 0.0), 1.7475645946331822),
    "CsCl": _crystal(_FCC[:1], (0.5, 0.5, 0.5), 1.7626747730709884),
    "zincblende": _crystal(_FCC, (0.25, 0.25, 0.25), 1.6380550533887988),
}
"""By the name of the structure."""
