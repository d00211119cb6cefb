"""Chains of Nose-Hoover thermostats of ASE: their degrees of freedom, their temperature, and what they remember.

The masses of a chain are proportional to kT. When its temperature changes they go along, with their momenta, so that the
time constant stays and the velocities of the chain have no jump.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.nose_hoover_chain import NoseHooverChainThermostat

CHAIN = ("_eta", "_p_eta", "_Q")
"""What the thermostat of atoms remembers."""

BAROSTAT = ("_xi", "_p_xi", "_R", "_W")
"""What the thermostat of a cell remembers, and the mass of the cell."""


def internal_atoms(atoms: Atoms) -> int:
    """A third of the degrees of freedom without the centre of mass: ASE counts 3N although it keeps the total momentum."""
    return max(len(atoms) - 1, 1)


def thermostat_of(atoms: Atoms, kelvin: float, time_constant: float) -> NoseHooverChainThermostat:
    """A chain of three for 3N - 3 degrees of freedom; the time constant is in ASE's unit."""
    return NoseHooverChainThermostat(internal_atoms(atoms), atoms.get_masses()[:, None], kelvin, time_constant)


def set_kelvin(chain: Any, names: Sequence[str], before: float, after: float) -> None:
    """Change the temperature of a chain.

    Args:
        chain: Of the atoms or of the cell.
        names: Its momenta and masses, all proportional to kT.
        before: The temperature until now, in K.
        after: From now on.
    """
    chain._kT = units.kB * after
    for name in names:
        setattr(chain, name, getattr(chain, name) * (after / before))


def remembered(part: Any, names: Sequence[str]) -> dict[str, Any]:
    """Copies of attributes."""
    return {name: np.copy(getattr(part, name)) for name in names}


def remember(part: Any, names: Sequence[str], state: Mapping[str, Any]) -> None:
    """Set attributes to what ``remembered`` gave; those that an older state lacks stay."""
    for name in names:
        if name in state:
            value = np.array(state[name], dtype=np.float64)
            setattr(part, name, value if value.ndim else float(value))
