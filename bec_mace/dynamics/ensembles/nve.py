"""Constant energy."""

from __future__ import annotations

from ase.md.verlet import VelocityVerlet

from bec_mace.config.dynamics import EnsembleConfig
from bec_mace.dynamics.ensembles.integrator import Integrator


class VerletIntegrator(Integrator):
    """Velocity Verlet, which conserves the energy."""

    def build(self, config: EnsembleConfig, time_step: float) -> VelocityVerlet:
        """Make ASE's integrator."""
        return VelocityVerlet(self.atoms, time_step)
