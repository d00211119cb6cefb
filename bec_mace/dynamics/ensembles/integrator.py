"""What every integrator of an ensemble can do, and the one that a configuration asks for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from ase import Atoms, units

from bec_mace.config.dynamics import EnsembleConfig
from bec_mace.config.ensembles import ENSEMBLES
from bec_mace.dynamics.ensembles.targets import TargetTemperature
from bec_mace.errors import DynamicsError
from bec_mace.outside import import_object


class Dynamics(Protocol):
    """What is needed of an integrator of ASE."""

    def step(self) -> Any:
        """Go on by one time step."""


class Integrator(ABC):
    """One of ASE's integrators, with what it needs to be stopped and to go on.

    Args:
        atoms: With momenta and a calculator. With a thermostat the centre of mass must be at rest.
        config: Which ensemble.
        time_step_fs: In fs.
        rng: Noise, where there is any.
        steps: Number of steps of the whole run, over which a temperature may change.

    Attributes:
        atoms: The atoms that move.
        target: Temperature of the thermostat by steps, in K.
        kelvin: The present one; nan without a thermostat.
        dynamics: ASE's integrator.
        conserves: Whether there is a conserved energy.
    """

    def __init__(
        self, atoms: Atoms, config: EnsembleConfig, time_step_fs: float, rng: np.random.Generator, steps: int = 0
    ) -> None:
        self.atoms, self.rng = atoms, rng
        self.target = TargetTemperature(config.temperature, steps)
        self.kelvin, self._work = self.target(0), 0.0
        self.conserves = ENSEMBLES[config.name].conserves
        self.dynamics: Any = self.build(config, time_step_fs * units.fs)

    @abstractmethod
    def build(self, config: EnsembleConfig, time_step: float) -> Dynamics:
        """Make ASE's integrator.

        Args:
            config: Which ensemble.
            time_step: In ASE's unit of time.
        """

    def step(self) -> None:
        """Go on by one time step; positions and momenta are then those of the same time."""
        self.dynamics.step()

    def aim(self, step: int) -> None:
        """Set the thermostat to the temperature of a step; the work that this does on the baths is taken note of."""
        kelvin = self.target(step)
        if not (kelvin == self.kelvin or math.isnan(kelvin)):
            before = self.bath_energy()
            self.hold(kelvin)
            self._work += self.bath_energy() - before
            self.kelvin = kelvin

    def hold(self, kelvin: float) -> None:  # noqa: B027 - without a thermostat there is nothing to do
        """Change the temperature of the thermostat, ``kelvin`` until now."""

    def bath_energy(self) -> float:
        """Energy in eV of what the atoms exchange energy with, such as thermostats; 0 without any."""
        return 0.0

    def outside_energy(self) -> float:
        """What is conserved together with the energy of the atoms, in eV: that of the baths less the work done on them."""
        return self.bath_energy() - self._work

    def state(self) -> dict[str, Any]:
        """What the integrator remembers from step to step, beside the atoms."""
        return {"rng": self.rng.bit_generator.state, "kelvin": self.kelvin, "work": self._work}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave, with the positions and momenta that the atoms have."""
        self.rng.bit_generator.state = state["rng"]
        kelvin, self._work = float(state.get("kelvin", self.kelvin)), float(state.get("work", 0.0))
        if not (kelvin == self.kelvin or math.isnan(kelvin)):
            self.hold(kelvin)
            self.kelvin = kelvin


def build_integrator(
    atoms: Atoms, config: EnsembleConfig, time_step_fs: float, rng: np.random.Generator, steps: int = 0
) -> Integrator:
    """The integrator of an ensemble; arguments are those of ``Integrator``."""
    kind = import_object(ENSEMBLES[config.name].place, "ensemble.name", DynamicsError)
    integrator: Integrator = kind(atoms, config, time_step_fs, rng, steps)
    return integrator
