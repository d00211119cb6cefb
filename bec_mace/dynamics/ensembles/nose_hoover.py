"""Constant temperature by a chain of thermostats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ase import units
from ase.md.nose_hoover_chain import NoseHooverChainNVT

from bec_mace.config.dynamics import EnsembleConfig
from bec_mace.dynamics.ensembles.chains import CHAIN, remember, remembered, set_kelvin, thermostat_of
from bec_mace.dynamics.ensembles.integrator import Integrator


class NoseHooverIntegrator(Integrator):
    """A chain of three Nose-Hoover thermostats, which conserves the energy and that of the chain together.

    ASE's chain counts 3N degrees of freedom although it keeps the total momentum; here it counts 3N - 3.

    Source: G. J. Martyna, M. L. Klein and M. Tuckerman, J. Chem. Phys. 97, 2635 (1992).
    """

    def build(self, config: EnsembleConfig, time_step: float) -> NoseHooverChainNVT:
        """Make ASE's integrator."""
        time_constant = config.time_constant * units.fs
        dynamics = NoseHooverChainNVT(self.atoms, time_step, self.kelvin, time_constant)
        self._chain = dynamics._thermostat = thermostat_of(self.atoms, self.kelvin, time_constant)
        return dynamics

    def hold(self, kelvin: float) -> None:
        """Change the temperature of the chain."""
        set_kelvin(self._chain, ("_p_eta", "_Q"), self.kelvin, kelvin)

    def bath_energy(self) -> float:
        """Energy of the chain in eV."""
        return float(self._chain.get_thermostat_energy())

    def state(self) -> dict[str, Any]:
        """What the integrator remembers from step to step, beside the atoms."""
        return super().state() | remembered(self._chain, CHAIN)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        super().set_state(state)
        remember(self._chain, CHAIN, state)
