"""Constants and conversions.

Inside the package lengths are in Å, energies in eV, charges in e, and everything else follows: forces in eV/Å,
fields in V/Å, dipoles in e Å. The numbers are CODATA 2018.
"""

from __future__ import annotations

HARTREE = 27.211386245988
"""One hartree, in eV."""

BOHR = 0.529177210903
"""One bohr, in Å."""

COULOMB_CONSTANT = HARTREE * BOHR
"""e^2 / (4 pi epsilon_0), in eV Å."""

SPEED_OF_LIGHT = 2.99792458e-5
"""In cm/fs: a wavenumber in cm^-1 times this is a frequency in 1/fs."""

BOLTZMANN = 8.617333262145e-5
"""In eV/K."""

PLANCK = 4.135667696923859
"""The Planck constant h, in eV fs; h c times a wavenumber in cm^-1 is an energy."""

TO_ATOMIC = {"e": 1.0, "e Å": 1.0 / BOHR, "Å^3": 1.0 / BOHR**3, "1": 1.0}
"""What a value in a unit of the package is multiplied by to be in atomic units."""

BASE_UNITS = {"length": "Å", "energy": "eV", "charge": "e"}
"""The units of the package, as written into files that leave it."""
