r"""Constant temperature and pressure by chains of thermostats and a cell that moves.

The equations are those of Martyna, Tobias and Klein as ASE integrates them. Two counts are ours: the atoms have 3N - 3 degrees
of freedom, since their total momentum stays zero, and a cell that does not turn has 6, where ASE's thermostat of the cell heats
it to the energy of 9. Then, as averages over time,

.. math:: \langle V (p_{ab} - P \delta_{ab}) \rangle = -k T \, \delta_{ab} ,

with the internal pressure p, kinetic part included, and P the one asked for.

Positions grow with the cell, while momenta stay those of the motion within it: p / m is what currents are made of.

Source: G. J. Martyna, D. J. Tobias and M. L. Klein, J. Chem. Phys. 101, 4177 (1994).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from ase import units
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT

from bec_mace.config.dynamics import EnsembleConfig
from bec_mace.dynamics.ensembles.chains import (
    BAROSTAT,
    CHAIN,
    internal_atoms,
    remember,
    remembered,
    set_kelvin,
    thermostat_of,
)
from bec_mace.dynamics.ensembles.integrator import Integrator

_CELL_DOF = 6


class ConstantPressureIntegrator(Integrator):
    """What the two below share.

    Attributes:
        momentum: ASE's name of the momentum of the cell.
        of_cell: ASE's names of what is remembered of the cell.
    """

    momentum: ClassVar[str]
    of_cell: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def kind(self) -> type[Any]:
        """ASE's integrator."""

    def build(self, config: EnsembleConfig, time_step: float) -> Any:
        """Make ASE's integrator, with the right degrees of freedom."""
        time_constant, self._pressure = config.time_constant * units.fs, (config.pressure or 0.0) * units.GPa
        dynamics = self.kind(
            self.atoms,
            time_step,
            temperature_K=self.kelvin,
            pressure_au=self._pressure,
            tdamp=time_constant,
            pdamp=config.pressure_time_constant * units.fs,
        )
        self._chain = dynamics._thermostat = thermostat_of(self.atoms, self.kelvin, time_constant)
        self._barostat = dynamics._barostat
        dynamics._num_atoms_global = internal_atoms(self.atoms)
        return dynamics

    def hold(self, kelvin: float) -> None:
        """Change the temperature of both chains; the mass of the cell goes along."""
        set_kelvin(self._chain, ("_p_eta", "_Q"), self.kelvin, kelvin)
        set_kelvin(self._barostat, ("_p_xi", "_R", "_W"), self.kelvin, kelvin)
        setattr(self.dynamics, self.momentum, getattr(self.dynamics, self.momentum) * (kelvin / self.kelvin))

    def bath_energy(self) -> float:
        """Energy of both chains, kinetic energy of the cell, and pressure times volume, in eV."""
        cell = float(np.sum(getattr(self.dynamics, self.momentum) ** 2)) / (2 * self._barostat.W)
        chains = self._chain.get_thermostat_energy() + self._barostat.get_barostat_energy()
        return float(chains + cell + self._pressure * self.atoms.get_volume())

    def state(self) -> dict[str, Any]:
        """What the integrator remembers from step to step, beside the atoms."""
        parts = ((self._chain, CHAIN), (self._barostat, BAROSTAT), (self.dynamics, self.of_cell))
        return super().state() | {name: value for part, names in parts for name, value in remembered(part, names).items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        super().set_state(state)
        remember(self._chain, CHAIN, state)
        remember(self._barostat, BAROSTAT, state)
        remember(self.dynamics, self.of_cell, state)


class IsotropicIntegrator(ConstantPressureIntegrator):
    """The volume changes and the shape of the cell stays."""

    kind = IsotropicMTKNPT
    momentum, of_cell = "_p_eps", ("_cell0", "_volume0", "_eps", "_p_eps")


class TriclinicIntegrator(ConstantPressureIntegrator):
    """All lengths and angles of the cell change; it does not turn."""

    kind = MTKNPT
    momentum, of_cell = "_p_g", ("_p_g",)

    def build(self, config: EnsembleConfig, time_step: float) -> Any:
        """Make ASE's integrator; its cell has 6 degrees of freedom, not 9."""
        dynamics = super().build(config, time_step)
        barostat = dynamics._barostat
        barostat._R[0] *= _CELL_DOF / barostat._cell_dof
        barostat._cell_dof = _CELL_DOF
        return dynamics
