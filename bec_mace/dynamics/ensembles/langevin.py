"""Constant temperature by friction and noise."""

from __future__ import annotations

from ase import units
from ase.constraints import FixCom
from ase.md.langevin import Langevin

from bec_mace.config.dynamics import EnsembleConfig
from bec_mace.dynamics.ensembles.integrator import Integrator


class LangevinIntegrator(Integrator):
    """Langevin dynamics with the centre of mass fixed; its friction is 1 / time_constant.

    ASE's ``fixcm`` samples the wrong distribution and is deprecated there; a constraint takes its place.

    Source: E. Vanden-Eijnden and G. Ciccotti, Chem. Phys. Lett. 429, 310 (2006).
    """

    dynamics: Langevin

    def build(self, config: EnsembleConfig, time_step: float) -> Langevin:
        """Make ASE's integrator."""
        if len(self.atoms) > 1:
            self.atoms.set_constraint(FixCom())
        return Langevin(
            self.atoms,
            time_step,
            temperature_K=self.kelvin,
            friction=1 / (config.time_constant * units.fs),
            fixcm=False,
            rng=self.rng,
        )

    def hold(self, kelvin: float) -> None:
        """Change the temperature of the noise."""
        self.dynamics.set_temperature(temperature_K=kelvin)
