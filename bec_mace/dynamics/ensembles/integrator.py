"""What every integrator of an ensemble can do, and the one that a configuration asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from ase import Atoms, units

from bec_mace.config.dynamics import EnsembleConfig
from bec_mace.config.ensembles import ENSEMBLES
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

    Attributes:
        atoms: The atoms that move.
        dynamics: ASE's integrator.
        conserves: Whether there is a conserved energy.
    """

    def __init__(self, atoms: Atoms, config: EnsembleConfig, time_step_fs: float, rng: np.random.Generator) -> None:
        self.atoms, self.rng = atoms, rng
        self.conserves = ENSEMBLES[config.name].conserves
        self.dynamics = self.build(config, time_step_fs * units.fs)

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

    def thermostat_energy(self) -> float:
        """Energy of the thermostat in eV; 0 without one."""
        return 0.0

    def state(self) -> dict[str, Any]:
        """What the integrator remembers from step to step, beside the atoms."""
        return {"rng": self.rng.bit_generator.state}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave, with the positions and momenta that the atoms have."""
        self.rng.bit_generator.state = state["rng"]


def build_integrator(atoms: Atoms, config: EnsembleConfig, time_step_fs: float, rng: np.random.Generator) -> Integrator:
    """The integrator of an ensemble; arguments are those of ``Integrator``."""
    kind = import_object(ENSEMBLES[config.name].place, "ensemble.name", DynamicsError)
    integrator: Integrator = kind(atoms, config, time_step_fs, rng)
    return integrator
