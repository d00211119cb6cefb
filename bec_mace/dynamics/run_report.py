"""What a molecular dynamics run says: lines of its log, and its summary."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ase import Atoms

from bec_mace.config.dynamics import MDConfig
from bec_mace.config.ensembles import ENSEMBLES
from bec_mace.devices import find_device
from bec_mace.dynamics.ensembles import temperature
from bec_mace.dynamics.ensembles.targets import TargetTemperature
from bec_mace.dynamics.potential import Potential
from bec_mace.errors import DynamicsError

_HEADER = "     step    time/ps     T/K       E_pot/eV    E_kin/eV  E_cons/(eV/atom)  drift/(eV/atom)"
_TARGET, _PRESSURE, _LEFT = "  target/K", "      P/GPa        V/Å^3", "   time left"


def header(target: bool = False, pressure: bool = False) -> str:
    """Names and units of the columns of the log.

    E_cons is what the ensemble conserves, drift its change since the start.

    Args:
        target: Whether the temperature of the thermostat changes.
        pressure: Whether the cell does.
    """
    return _HEADER + _TARGET * target + _PRESSURE * pressure + _LEFT


@dataclass(frozen=True)
class Moment:
    """What is told of one step.

    Attributes:
        kelvin: Temperature in K.
        potential: Energy in eV.
        kinetic: Energy in eV.
        conserved: What the ensemble conserves, in eV per atom; nan where there is nothing.
        target: Temperature of the thermostat in K, where it changes.
        pressure: Internal pressure in GPa, kinetic part included, where the cell changes.
        volume: In Å^3, where it changes.
    """

    kelvin: float
    potential: float
    kinetic: float
    conserved: float
    target: float | None = None
    pressure: float | None = None
    volume: float | None = None


@dataclass(frozen=True)
class Summary:
    """How a run went; the contents of results.json.

    Attributes:
        steps: Steps done in all, resumed ones included.
        time_ps: Their time in ps.
        mean_temperature_K: Mean over all steps.
        mean_potential_energy_ev: Mean over all steps, of the whole cell; None where an older version began the run.
        mean_pressure_GPa: Mean over all steps of the internal pressure; None at constant volume.
        mean_volume_A3: Mean over all steps; None at constant volume.
        drift_ev_per_atom_ps: Slope of the conserved energy; None for Langevin, which has none, and for fewer than two steps.
        largest_deviation_ev_per_atom: Largest distance of the conserved energy from its first value; None for Langevin.
        seconds_per_step: Wall time per step of the last session; None if it made no step.
        frames: Frames in the trajectory.
        currents: Rows of currents.h5.
        complete: Whether all steps were made.
        folder: The run folder.
    """

    steps: int
    time_ps: float
    mean_temperature_K: float
    mean_potential_energy_ev: float | None
    mean_pressure_GPa: float | None
    mean_volume_A3: float | None
    drift_ev_per_atom_ps: float | None
    largest_deviation_ev_per_atom: float | None
    seconds_per_step: float | None
    frames: int
    currents: int
    complete: bool
    folder: str

    def text(self) -> str:
        """The summary as a line for the log."""
        parts = [f"{self.steps} steps, {self.time_ps:g} ps, mean temperature {self.mean_temperature_K:.1f} K"]
        if self.mean_pressure_GPa is not None:
            parts.append(f"mean pressure {self.mean_pressure_GPa:.4f} GPa, mean volume {self.mean_volume_A3:.2f} Å^3")
        if self.largest_deviation_ev_per_atom is None:
            parts.append("Langevin conserves no energy")
        elif self.drift_ev_per_atom_ps is not None:
            parts.append(
                f"conserved energy: drift {self.drift_ev_per_atom_ps:.2e} eV/atom/ps, "
                f"largest deviation {self.largest_deviation_ev_per_atom:.2e} eV/atom"
            )
        parts.append(f"{self.frames} frames and {self.currents} currents in {self.folder}")
        if self.seconds_per_step is not None:
            parts.append(f"{self.seconds_per_step:.3g} s per step")
        return "; ".join(parts) + ("" if self.complete else "; not complete, go on with --resume")


def log_line(
    step: int,
    time_ps: float,
    moment: Moment,
    first: float,
    seconds_left: float,
) -> str:
    """One line of the log, under ``header``; nan is written as a dash.

    Args:
        step: Number of the step.
        time_ps: Its time.
        moment: What there is to tell.
        first: The conserved energy at the start, in eV per atom.
        seconds_left: Wall time until the end.
    """
    conserved = moment.conserved
    energies = "               -                -" if math.isnan(conserved) else f"{conserved:17.7f} {conserved - first:16.2e}"
    line = f"{step:9d} {time_ps:10.4f} {moment.kelvin:7.1f} {moment.potential:14.5f} {moment.kinetic:11.5f} {energies}"
    line += "" if moment.target is None else f" {moment.target:9.1f}"
    line += "" if moment.pressure is None else f" {moment.pressure:10.4f} {moment.volume:12.3f}"
    return f"{line} {duration(seconds_left):>11}"


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss; a dash for nan."""
    if math.isnan(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def describe(config: MDConfig, atoms: Atoms, potential: Potential, target: TargetTemperature) -> str:
    """What is going to be done, in one line."""
    ensemble = config.ensemble
    thermostat = f" at {target}, {ensemble.time_constant:g} fs" if ENSEMBLES[ensemble.name].has_thermostat else ""
    if ensemble.pressure is not None:
        thermostat += f", {ensemble.pressure:g} GPa, {ensemble.pressure_time_constant:g} fs"
    parts = [
        f"{config.structure}: {atoms.get_chemical_formula()}, {len(atoms)} atoms, at {temperature(atoms):.1f} K",
        f"{ensemble.name}{thermostat}, {config.steps} steps of {config.time_step:g} fs",
        f"{config.precision} on {find_device(config.device, DynamicsError)}",
    ]
    if not potential.has_charges:
        parts.append("no Z*, so no currents")
    elif config.sampling.currents is not None:
        parts.append(f"currents every {config.sampling.currents * config.time_step:g} fs")
    if config.electric_field is not None:
        parts.append("in an electric field")
    return "; ".join(parts)
