"""Momenta and their temperature.

The centre of mass has no share in the temperature: T = 2 (E_kin - P^2 / 2M) / (3N - 3) k_B.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms, units


def draw_momenta(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Draw momenta from the Maxwell-Boltzmann distribution of zero total momentum.

    Args:
        atoms: Changed in place.
        temperature: In K.
        rng: Random numbers.
    """
    widths = np.sqrt(atoms.get_masses() * units.kB * temperature)
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * widths[:, None])
    if len(atoms) > 1:
        stop_centre_of_mass(atoms)


def stop_centre_of_mass(atoms: Atoms) -> None:
    """Take the velocity of the centre of mass from all atoms; one atom alone keeps its own."""
    if len(atoms) > 1:
        momenta, masses = atoms.get_momenta(), atoms.get_masses()
        atoms.set_momenta(momenta - masses[:, None] * momenta.sum(axis=0) / masses.sum())


def pressure(atoms: Atoms) -> float:
    """The internal pressure in GPa, from the stress of the calculator and the momenta."""
    volume: float = atoms.get_volume()
    kinetic = 2 * float(atoms.get_kinetic_energy()) / (3 * volume)
    result: float = (kinetic - float(np.sum(atoms.get_stress()[:3])) / 3) / units.GPa
    return result


def temperature(atoms: Atoms) -> float:
    """The kinetic temperature in K, without the motion of the centre of mass."""
    momenta, masses = atoms.get_momenta(), atoms.get_masses()
    total = momenta.sum(axis=0) if len(atoms) > 1 else np.zeros(3)
    energy = 0.5 * float(np.sum(momenta**2 / masses[:, None])) - 0.5 * float(total @ total) / masses.sum()
    result: float = 2 * energy / (3 * max(len(atoms) - 1, 1) * units.kB)
    return result
