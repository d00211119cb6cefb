"""Coulomb energies that are known: of other programs, and of crystals of point charges."""

from __future__ import annotations

from typing import NamedTuple

from bec_mace.units import COULOMB_CONSTANT

CHARGES = (0.4, -0.7, 0.2)
"""Of three atoms, in e."""
DIPOLES = ((0.1, -0.2, 0.05), (0.0, 0.15, -0.1), (-0.05, 0.02, 0.2))
"""In e Å."""
QUADRUPOLES = (
    ((0.2, 0.05, -0.1), (0.05, -0.3, 0.04), (-0.1, 0.04, 0.1)),
    ((-0.1, 0.02, 0.07), (0.02, 0.05, -0.03), (0.07, -0.03, 0.05)),
    ((0.12, -0.06, 0.01), (-0.06, -0.02, 0.08), (0.01, 0.08, -0.1)),
)
"""In e Å^2."""
CAPACITIES = (0.01, 0.02, 0.005)
"""Charge that an atom gives away for its potential, in e^2/eV."""
POLARIZABILITIES = (
    ((0.05, 0.01, 0.0), (0.01, 0.06, 0.0), (0.0, 0.0, 0.04)),
    ((0.03, 0.0, 0.01), (0.0, 0.02, 0.0), (0.01, 0.0, 0.05)),
    ((0.04, 0.0, 0.0), (0.0, 0.04, 0.005), (0.0, 0.005, 0.03)),
)
"""In e^2 Å^2/eV."""
POSITIONS = ((0.0, 0.0, 0.0), (1.1, 0.2, -0.3), (-0.4, 2.0, 0.9))
"""In Å."""
CELL = ((9.0, 0.0, 0.0), (1.0, 10.0, 0.0), (-0.5, 0.7, 11.0))
"""In Å."""
_ITS_CONSTANT = 14.399639
_ENERGIES = {
    "q": (-2.87850539, -2.93238988),
    "q u": (-3.10548535, -3.15696183),
    "q u Q": (-3.33760896, -3.39011547),
    "q u Q kappa": (-3.76674468, -3.84408921),
    "q u Q alpha": (-3.47700923, -3.51885390),
    "q u Q kappa alpha": (-3.90614495, -3.97282763),
}


NAMES = tuple(_ENERGIES)
"""What acts in each of the energies that are known."""


def reference_energy(name: str, crystal: bool) -> float:
    """Energy of the three with a smearing of 1 Å, alone or in the cell, without a macroscopic field or a background, in eV.

    Args:
        name: What acts: multipoles and how the atoms yield. Charges kappa yield to the potential itself, not to what it has
            over its mean.
        crystal: Whether they are in the cell.

    By two programs whose Coulomb constant has another value: what is linear in it is scaled, and what is quadratic twice.
    """
    permanent, whole = _ENERGIES["q u Q" if len(name) > 5 else name][crystal], _ENERGIES[name][crystal]
    scale = COULOMB_CONSTANT / _ITS_CONSTANT
    return permanent * scale + (whole - permanent) * scale**2


MOLECULE = reference_energy("q", crystal=False)
"""Energy of the charges alone, in eV."""
CRYSTAL = reference_energy("q", crystal=True)
"""Energy of the charges in the cell, in eV."""


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
