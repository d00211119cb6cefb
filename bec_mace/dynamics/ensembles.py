r"""ASE's integrators, with what they need to be stopped and to go on.

================  ===========================================================  ==========================================
``nve``           velocity Verlet                                              conserves the energy
``langevin``      Langevin with the centre of mass fixed; friction is          no conserved quantity
                  1 / time_constant
``nose_hoover``   a chain of three Nose-Hoover thermostats                     conserves energy + that of the thermostat
================  ===========================================================  ==========================================

The centre of mass has no share in the temperature: T = 2 (E_kin - P^2 / 2M) / (3N - 3) k_B. ASE's chain counts 3N degrees of
freedom although it keeps the total momentum; here it is told of N - 1 atoms, which makes it 3N - 3. ASE's Langevin fixes the
centre of mass by a constraint (``fixcm`` samples the wrong distribution and is deprecated there).

Sources: E. Vanden-Eijnden and G. Ciccotti, Chem. Phys. Lett. 429, 310 (2006); G. J. Martyna, M. L. Klein and M. Tuckerman,
J. Chem. Phys. 97, 2635 (1992).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import NoseHooverChainNVT, NoseHooverChainThermostat
from ase.md.verlet import VelocityVerlet

from bec_mace.config.dynamics import EnsembleConfig

_CHAIN = ("_eta", "_p_eta")


class Integrator:
    """One of ASE's integrators, and its state.

    Args:
        atoms: With momenta and a calculator. With Langevin and Nose-Hoover the centre of mass must be at rest.
        config: Which ensemble.
        time_step_fs: In fs.
        rng: Noise of Langevin.

    Attributes:
        conserves: Whether there is a conserved energy.
    """

    def __init__(self, atoms: Atoms, config: EnsembleConfig, time_step_fs: float, rng: np.random.Generator) -> None:
        self.atoms, self.rng = atoms, rng
        self.conserves = config.name != "langevin"
        step, time_constant = time_step_fs * units.fs, config.time_constant * units.fs
        self.dynamics: VelocityVerlet | Langevin | NoseHooverChainNVT
        self._chain: NoseHooverChainThermostat | None = None
        kelvin = config.temperature or math.nan  # nve has none and needs none
        if config.name == "nve":
            self.dynamics = VelocityVerlet(atoms, step)
        elif config.name == "langevin":
            if len(atoms) > 1:
                atoms.set_constraint(FixCom())
            self.dynamics = Langevin(atoms, step, temperature_K=kelvin, friction=1 / time_constant,
                                     fixcm=False, rng=rng)
        else:
            self.dynamics = NoseHooverChainNVT(atoms, step, kelvin, time_constant)
            self._chain = NoseHooverChainThermostat(max(len(atoms) - 1, 1), self.dynamics.masses, kelvin, time_constant)
            self.dynamics._thermostat = self._chain

    def step(self) -> None:
        """Go on by one time step; positions and momenta are then those of the same time."""
        self.dynamics.step()

    def thermostat_energy(self) -> float:
        """Energy of the thermostat in eV; 0 without one."""
        return 0.0 if self._chain is None else float(self._chain.get_thermostat_energy())

    def state(self) -> dict[str, Any]:
        """What the integrator remembers from step to step, beside the atoms."""
        state: dict[str, Any] = {"rng": self.rng.bit_generator.state}
        if self._chain is not None:
            state |= {name: getattr(self._chain, name).copy() for name in _CHAIN}
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave, with the positions and momenta that the atoms have."""
        self.rng.bit_generator.state = state["rng"]
        if self._chain is not None:
            for name in _CHAIN:
                setattr(self._chain, name, np.array(state[name]))


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


def temperature(atoms: Atoms) -> float:
    """The kinetic temperature in K, without the motion of the centre of mass."""
    momenta, masses = atoms.get_momenta(), atoms.get_masses()
    total = momenta.sum(axis=0) if len(atoms) > 1 else np.zeros(3)
    energy = 0.5 * float(np.sum(momenta**2 / masses[:, None])) - 0.5 * float(total @ total) / masses.sum()
    result: float = 2 * energy / (3 * max(len(atoms) - 1, 1) * units.kB)
    return result
