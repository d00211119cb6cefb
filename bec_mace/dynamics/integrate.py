"""The course of a molecular dynamics run."""

from __future__ import annotations

import dataclasses
import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from tqdm import tqdm

from bec_mace.config.dynamics import MDConfig
from bec_mace.config.ensembles import ENSEMBLES
from bec_mace.dynamics.ensembles import Integrator, build_integrator, draw_momenta, stop_centre_of_mass, temperature
from bec_mace.dynamics.folder import MDFolder, State, write_state
from bec_mace.dynamics.observables import CurrentByElement, Drift, closest_pair
from bec_mace.dynamics.potential import Potential, Z, build_potential
from bec_mace.dynamics.run_report import HEADER, Summary, describe, log_line
from bec_mace.dynamics.structure import read_structure
from bec_mace.dynamics.trajectory_file import TrajectoryFile
from bec_mace.errors import DataError, DynamicsError, ModelError
from bec_mace.spectra.currents import CurrentsWriter

logger = logging.getLogger(__name__)


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

    @property
    def time_fs(self) -> float:
        """Time of the present step."""
        return self.step * self.config.time_step

    def samples(self, step: int) -> bool:
        """Whether a current is taken in this step."""
        stride = self.config.sampling.currents
        return self.currents is not None and stride is not None and step % stride == 0


def run(config: MDConfig, resume: bool = False) -> Summary:
    """Integrate what a configuration says.

    With ``resume``, a run that was killed or stopped goes on from its last state. On the CPU its positions and velocities
    are then, to the last bit, those of a run without the stop.

    Args:
        config: The configuration; ``load_md_config`` reads it from YAML.
        resume: Go on with the run in ``config.output``. Starts one where there is none.

    Returns:
        How it went; also in results.json.

    Raises:
        DynamicsError: The folder holds a run and ``resume`` is false, it holds a different run, the potential cannot be
            built, or the dynamics has gone wrong: a value that is not finite, a temperature above or a distance below its
            limit. The last good state is kept.
        DataError: The structure cannot be used.
        ModelError: A model cannot be used.
    """
    start = time.monotonic()
    folder = MDFolder(config.output)
    folder.check_free(resume)
    potential = build_potential(config)
    check_given(config, potential)
    state = folder.read_state(config)
    # Nothing is written before everything that can be wrong with a start has been looked at.
    atoms = state.atoms() if state else read_structure(config.structure, config.repeat)
    rng = np.random.default_rng(config.seed)
    if state is None:
        set_velocities(atoms, config, rng)
    atoms.calc = potential
    integrator = build_integrator(atoms, config.ensemble, config.time_step, rng)
    if state is None:
        first_evaluation(config, atoms, potential, 0)
    with folder.held(), ExitStack() as files:
        folder.create(config, state)
        files.enter_context(folder.logging_to_file())
        try:
            simulation = open_simulation(config, folder, integrator, potential, state, files)
            first, begin = simulation.step, time.monotonic()
            advance(simulation, start)
            return finish(simulation, simulation.step - first, time.monotonic() - begin)
        except Exception as error:
            logger.error("the run stopped: %s", error, exc_info=True)
            raise


def set_velocities(atoms: Atoms, config: MDConfig, rng: np.random.Generator) -> None:
    """Give a structure the velocities it starts with.

    Raises:
        DynamicsError: Nothing says what they are.
    """
    wanted = config.initial_temperature
    if wanted is None and not atoms.has("momenta"):
        wanted = config.ensemble.temperature
        if wanted is None:
            raise DynamicsError(f"{config.structure}: has no velocities to start from; give an initial_temperature in K")
    if wanted is not None:
        draw_momenta(atoms, wanted, rng)
    elif ENSEMBLES[config.ensemble.name].has_thermostat:
        stop_centre_of_mass(atoms)


def first_evaluation(config: MDConfig, atoms: Atoms, potential: Potential, step: int) -> None:
    """Forces of the step that a session starts from, as the step itself would compute them.

    Compiled kernels round differently in their first calls than later. A resumed run must not see that, so a few
    evaluations come before the one that counts.
    """
    potential.time_fs = step * config.time_step
    everything = wanted_in(config, potential, 0)
    for names in (everything, (), everything, (), wanted_in(config, potential, step)):
        potential.also = names
        potential.reset()  # type: ignore[no-untyped-call]
        atoms.get_forces(md=True)


def in_frames(config: MDConfig) -> tuple[str, ...]:
    """Properties of atoms that the frames of the trajectory hold beside forces."""
    return (*([Z] if config.sampling.born_effective_charges else []), *(["charges"] if config.sampling.charges else []))


def wanted_in(config: MDConfig, potential: Potential, step: int) -> tuple[str, ...]:
    """What a step is asked for beside energy and forces."""
    sampling = config.sampling
    names = list(in_frames(config)) if step % sampling.trajectory == 0 else []
    if potential.has_charges and sampling.currents is not None and step % sampling.currents == 0 and Z not in names:
        names.append(Z)
    return tuple(names)


def check_given(config: MDConfig, potential: Potential) -> None:
    """Refuse to begin with frames that cannot hold what they should.

    Raises:
        ModelError: No model gives it.
    """
    for name in in_frames(config):
        if not potential.gives(name):
            model = None if potential.bec is None else potential.bec.model
            heads = "there is no model" if model is None else f"heads: {', '.join(model.heads)}"
            raise ModelError(f"sampling.{name}: nothing gives {name} ({heads}); name a model that does under charges")


def open_simulation(
    config: MDConfig, folder: MDFolder, integrator: Integrator, potential: Potential, state: State | None, files: ExitStack
) -> Simulation:
    """Open the files, cut back to the state if there is one, and set everything to it."""
    values: dict[str, Any] = state.values if state else {"step": 0, "frames": 0, "currents": 0}
    atoms = integrator.atoms
    current_of = CurrentByElement(atoms.numbers)
    trajectory = files.enter_context(closing(TrajectoryFile(folder.trajectory, values["frames"])))
    currents = None
    if potential.bec is not None and potential.has_charges and config.sampling.currents is not None:
        model = potential.bec.model
        currents = files.enter_context(
            CurrentsWriter(
                folder.currents,
                current_of.symbols,
                current_of.counts,
                config.sampling.currents * config.time_step,
                model=config.charges or str(config.potential.model),
                head_set="+".join(model.heads),
                temperature_K=config.ensemble.temperature or math.nan,
                resume=state is not None,
            )
        )
        currents.truncate(values["currents"])
    simulation = Simulation(config, folder, atoms, potential, integrator, trajectory, currents, current_of, values["step"])
    logger.info("%s", describe(config, atoms, potential))
    logger.info("%s", HEADER)
    if state is None:
        observe(simulation, math.nan)
        keep_state(simulation)
    else:
        simulation.kept = simulation.step
        integrator.set_state(values["integrator"])
        potential.set_state(values["potential"])
        simulation.energies.set_state(values["energies"])
        simulation.temperatures.set_state(values["temperatures"])
        first_evaluation(config, atoms, potential, simulation.step)
        logger.info("resumed after step %d", simulation.step)
    return simulation


def advance(simulation: Simulation, start: float) -> None:
    """Make steps until the last one or the time limit.

    Raises:
        DynamicsError: The dynamics has gone wrong.
    """
    config, potential = simulation.config, simulation.potential
    limit = math.inf if config.time_limit_minutes is None else 60 * config.time_limit_minutes
    begin, first = time.monotonic(), simulation.step
    with tqdm(total=config.steps, initial=first, unit="step", disable=not sys.stderr.isatty()) as bar:
        while simulation.step < config.steps:
            step = simulation.step + 1
            potential.time_fs, potential.also = step * config.time_step, wanted_in(config, potential, step)
            with naming_the_step(simulation, step):
                simulation.integrator.step()
                check(simulation, step)
            simulation.step = step
            seconds = (time.monotonic() - begin) / (step - first)
            observe(simulation, seconds * (config.steps - step))
            bar.update()
            if time.monotonic() - start > limit and step < config.steps:
                logger.info("time limit of %g minutes reached after step %d; resume to go on", limit / 60, step)
                break
            if step % config.sampling.checkpoint == 0:
                keep_state(simulation)
    if simulation.step > simulation.kept:
        keep_state(simulation)


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


def observe(simulation: Simulation, seconds_left: float) -> None:
    """Take note of the present step, and write what is due."""
    config, atoms, potential, step = simulation.config, simulation.atoms, simulation.potential, simulation.step
    kinetic, kelvin = float(atoms.get_kinetic_energy()), temperature(atoms)
    conserved = math.nan
    if simulation.integrator.conserves:
        total = kinetic + potential.conserved_potential() + simulation.integrator.thermostat_energy()
        conserved = total / len(atoms)
        simulation.energies.add(simulation.time_fs / 1000, conserved)
    simulation.temperatures.add(simulation.time_fs / 1000, kelvin)
    energy = float(potential.results["energy"])
    if simulation.currents is not None and simulation.samples(step):
        simulation.currents.append(
            simulation.time_fs,
            simulation.current_of(potential.results[Z], atoms.get_velocities()),
            kelvin,
            float(atoms.get_volume()) if atoms.pbc.all() else math.nan,
            energy,
            kinetic,
            potential.field(),
        )
    if step % config.sampling.trajectory == 0:
        held = {name: potential.results[name] for name in ("forces", *in_frames(config))}
        simulation.trajectory.append(atoms, energy, held, step, simulation.time_fs)
    if step % config.sampling.log == 0 or step == config.steps:
        logger.info(
            "%s",
            log_line(
                step,
                simulation.time_fs / 1000,
                kelvin,
                energy,
                kinetic,
                conserved,
                conserved - simulation.energies.first,
                seconds_left,
            ),
        )


def keep_state(simulation: Simulation) -> None:
    """Write the state that a resumed run goes on from; what was sampled until now is in its files before."""
    if simulation.currents is not None:
        simulation.currents.flush()
    write_state(
        simulation.folder.state,
        State.of(
            simulation.atoms,
            {
                "step": simulation.step,
                "frames": len(simulation.trajectory),
                "currents": rows(simulation),
                "integrator": simulation.integrator.state(),
                "potential": simulation.potential.state(),
                "energies": simulation.energies.state(),
                "temperatures": simulation.temperatures.state(),
            },
        ),
    )
    simulation.kept = simulation.step


def rows(simulation: Simulation) -> int:
    """Number of currents so far."""
    return 0 if simulation.currents is None else len(simulation.currents)


def finish(simulation: Simulation, made: int, seconds: float) -> Summary:
    """Sum up the run, in results.json and the log.

    Args:
        simulation: At its end.
        made: Steps of this session.
        seconds: What they took.
    """
    energies, conserves = simulation.energies, simulation.integrator.conserves
    summary = Summary(
        steps=simulation.step,
        time_ps=simulation.time_fs / 1000,
        mean_temperature_K=simulation.temperatures.mean,
        drift_ev_per_atom_ps=energies.slope if conserves and math.isfinite(energies.slope) else None,
        largest_deviation_ev_per_atom=energies.largest if conserves else None,
        seconds_per_step=seconds / made if made else None,
        frames=len(simulation.trajectory),
        currents=rows(simulation),
        complete=simulation.step >= simulation.config.steps,
        folder=str(simulation.folder.path),
    )
    simulation.folder.write_results(dataclasses.asdict(summary))
    logger.info("%s", summary.text())
    return summary
