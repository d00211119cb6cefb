"""Ensembles by ASE's integrators: one file each, and one line in ``bec_mace.config.ensembles``."""

from bec_mace.dynamics.ensembles.integrator import Integrator, build_integrator
from bec_mace.dynamics.ensembles.momenta import draw_momenta, pressure, stop_centre_of_mass, temperature

__all__ = ["Integrator", "build_integrator", "draw_momenta", "pressure", "stop_centre_of_mass", "temperature"]
