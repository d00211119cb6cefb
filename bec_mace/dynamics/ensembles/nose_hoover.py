"""Constant temperature by a chain of thermostats."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import units
from ase.md.nose_hoover_chain import NoseHooverChainNVT, NoseHooverChainThermostat

from bec_mace.config.dynamics import EnsembleConfig
from bec_mace.dynamics.ensembles.integrator import Integrator

_CHAIN = ("_eta", "_p_eta")


class NoseHooverIntegrator(Integrator):
    """A chain of three Nose-Hoover thermostats, which conserves the energy and that of the chain together.

    ASE's chain counts 3N degrees of freedom although it keeps the total momentum; here it is told of N - 1 atoms, which
    makes it 3N - 3.

    Source: G. J. Martyna, M. L. Klein and M. Tuckerman, J. Chem. Phys. 97, 2635 (1992).
    """

    def build(self, config: EnsembleConfig, time_step: float) -> NoseHooverChainNVT:
        """Make ASE's integrator."""
        kelvin, time_constant = config.temperature or math.nan, config.time_constant * units.fs
        dynamics = NoseHooverChainNVT(self.atoms, time_step, kelvin, time_constant)
        self._chain = NoseHooverChainThermostat(max(len(self.atoms) - 1, 1), dynamics.masses, kelvin, time_constant)
        dynamics._thermostat = self._chain
        return dynamics

    def thermostat_energy(self) -> float:
        """Energy of the chain in eV."""
        return float(self._chain.get_thermostat_energy())

    def state(self) -> dict[str, Any]:
        """What the integrator remembers from step to step, beside the atoms."""
        return super().state() | {name: getattr(self._chain, name).copy() for name in _CHAIN}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        super().set_state(state)
        for name in _CHAIN:
            setattr(self._chain, name, np.array(state[name]))
