"""A run in progress: its parts, where it is, and the means of what it has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ase import Atoms

from bec_mace.config.dynamics import MDConfig
from bec_mace.dynamics.ensembles import Integrator
from bec_mace.dynamics.folder import MDFolder
from bec_mace.dynamics.observables import CurrentByElement, Drift
from bec_mace.dynamics.potential import Potential
from bec_mace.dynamics.run_report import Moment
from bec_mace.dynamics.trajectory_file import TrajectoryFile
from bec_mace.spectra.currents import CurrentsWriter

_MEANS = ("energies", "temperatures", "potentials", "pressures", "volumes")


@dataclass
class Simulation:
    """A run in progress."""

    config: MDConfig
    folder: MDFolder
    atoms: Atoms
    potential: Potential
    integrator: Integrator
    trajectory: TrajectoryFile
    currents: CurrentsWriter | None
    current_of: CurrentByElement
    step: int = 0
    kept: int = 0
    energies: Drift = field(default_factory=Drift)
    temperatures: Drift = field(default_factory=Drift)
    potentials: Drift = field(default_factory=Drift)
    pressures: Drift = field(default_factory=Drift)
    volumes: Drift = field(default_factory=Drift)

    @property
    def time_fs(self) -> float:
        """Time of the present step."""
        return self.step * self.config.time_step

    def samples(self, step: int) -> bool:
        """Whether a current is taken in this step."""
        stride = self.config.sampling.currents
        return self.currents is not None and stride is not None and step % stride == 0

    @property
    def rows(self) -> int:
        """Number of currents so far."""
        return 0 if self.currents is None else len(self.currents)

    def note(self, moment: Moment) -> None:
        """Take the present step into the means."""
        time_ps = self.time_fs / 1000
        if self.integrator.conserves:
            self.energies.add(time_ps, moment.conserved)
        self.temperatures.add(time_ps, moment.kelvin)
        self.potentials.add(time_ps, moment.potential)
        if moment.pressure is not None and moment.volume is not None:
            self.pressures.add(time_ps, moment.pressure)
            self.volumes.add(time_ps, moment.volume)

    def mean_of(self, values: Drift) -> float | None:
        """The mean over all steps; None where there is none, or an older version began the run and did not keep it."""
        return values.mean if values.count == self.temperatures.count else None

    def means_state(self) -> dict[str, Any]:
        """All means, as plain numbers."""
        return {name: getattr(self, name).state() for name in _MEANS}

    def set_means(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``means_state`` gave."""
        for name in _MEANS:
            if name in state:
                getattr(self, name).set_state(state[name])
