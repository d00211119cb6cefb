"""When dynamics has gone wrong, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from bec_mace.dynamics.ensembles import temperature
from bec_mace.dynamics.observables import closest_pair
from bec_mace.dynamics.simulation import Simulation
from bec_mace.errors import DataError, DynamicsError, ModelError


@contextmanager
def naming_the_step(simulation: Simulation, step: int) -> Iterator[None]:
    """Say of an error in a step when it happened and what is left."""
    try:
        yield
    except (DynamicsError, DataError, ModelError) as error:
        raise DynamicsError(
            f"{simulation.folder.path}: step {step} ({step * simulation.config.time_step:g} fs): "
            f"{str(error).rstrip('.')}. Shorten time_step, relax the structure first, or find out whether the potential "
            f"knows such structures. The state of step {simulation.kept} is kept; a new run can start from this folder "
            "with `structure`."
        ) from error


def check(simulation: Simulation, step: int) -> None:
    """Refuse to go on with dynamics that have exploded.

    Raises:
        DynamicsError: The temperature is above its limit or not finite, or two atoms are too close.
        DataError: Two atoms are at the same place.
    """
    atoms, limits, sampling = simulation.atoms, simulation.config.limits, simulation.config.sampling
    kelvin = temperature(atoms)
    if not kelvin <= limits.temperature:
        speeds = np.linalg.norm(atoms.get_velocities(), axis=1)
        atom = int(np.argmax(np.where(np.isfinite(speeds), speeds, np.inf)))
        raise DynamicsError(
            f"the temperature is {kelvin:.6g} K, above limits.temperature ({limits.temperature:g} K); "
            f"the fastest is atom {atom} ({atoms.symbols[atom]})"
        )
    if step % sampling.log == 0 or step % sampling.checkpoint == 0 or step == simulation.config.steps:
        distance, one, other = closest_pair(atoms)
        if distance < limits.distance:
            raise DynamicsError(
                f"atoms {one} ({atoms.symbols[one]}) and {other} ({atoms.symbols[other]}) are {distance:.3f} Å "
                f"apart, closer than limits.distance ({limits.distance:g} Å)"
            )
