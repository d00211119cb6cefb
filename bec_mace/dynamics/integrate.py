"""The course of a molecular dynamics run."""

from __future__ import annotations

import dataclasses
import logging
import math
import sys
import time
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
from ase import Atoms
from tqdm import tqdm

from bec_mace.config.dynamics import MDConfig
from bec_mace.config.ensembles import ENSEMBLES
from bec_mace.dynamics.ensembles import (
    Integrator,
    build_integrator,
    draw_momenta,
    pressure,
    stop_centre_of_mass,
    temperature,
)
from bec_mace.dynamics.ensembles.targets import TargetTemperature
from bec_mace.dynamics.folder import MDFolder, State, write_state
from bec_mace.dynamics.guards import check, naming_the_step
from bec_mace.dynamics.observables import CurrentByElement
from bec_mace.dynamics.potential import Potential, Z, build_potential
from bec_mace.dynamics.run_report import Moment, Summary, describe, header, log_line
from bec_mace.dynamics.simulation import Simulation
from bec_mace.dynamics.structure import read_structure
from bec_mace.dynamics.trajectory_file import TrajectoryFile
from bec_mace.errors import DynamicsError, ModelError
from bec_mace.spectra.currents import CurrentsWriter

logger = logging.getLogger(__name__)


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
    if potential.with_stress:
        check_pressure(config, atoms, potential)
    integrator = build_integrator(atoms, config.ensemble, config.time_step, rng, config.steps)
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
        wanted = TargetTemperature(config.ensemble.temperature, config.steps)(0)
        if math.isnan(wanted):
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


def check_pressure(config: MDConfig, atoms: Atoms, potential: Potential) -> None:
    """Refuse constant pressure where there is none.

    Raises:
        DynamicsError: The structure is not periodic in three directions, or the potential gives no stress.
    """
    name = config.ensemble.name
    if not atoms.pbc.all():
        axes = " and ".join(axis for axis, periodic in zip("abc", atoms.pbc, strict=True) if periodic)
        raise DynamicsError(
            f"{config.structure}: is {f'periodic along {axes} only' if axes else 'not periodic'}, and {name} changes a cell "
            "that is periodic in three directions; choose an ensemble of constant volume"
        )
    if not potential.gives_stress:
        raise DynamicsError(
            f"potential: gives no stress, and {name} needs one; choose another potential, or an ensemble of constant volume"
        )


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
                temperature_K=math.nan if integrator.target.changes else integrator.target(0),
                resume=state is not None,
            )
        )
        currents.truncate(values["currents"])
    simulation = Simulation(config, folder, atoms, potential, integrator, trajectory, currents, current_of, values["step"])
    logger.info("%s", describe(config, atoms, potential, integrator.target))
    logger.info("%s", header(integrator.target.changes, potential.with_stress))
    if state is None:
        observe(simulation, math.nan)
        keep_state(simulation)
    else:
        simulation.kept = simulation.step
        integrator.set_state(values["integrator"])
        potential.set_state(values["potential"])
        simulation.set_means(values)
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
                simulation.integrator.aim(step)
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


def observe(simulation: Simulation, seconds_left: float) -> None:
    """Take note of the present step, and write what is due."""
    config, atoms, potential, step = simulation.config, simulation.atoms, simulation.potential, simulation.step
    moment = measure(simulation)
    simulation.note(moment)
    if simulation.currents is not None and simulation.samples(step):
        simulation.currents.append(
            simulation.time_fs,
            simulation.current_of(potential.results[Z], atoms.get_velocities()),
            moment.kelvin,
            float(atoms.get_volume()) if atoms.pbc.all() else math.nan,
            moment.potential,
            moment.kinetic,
            potential.field(),
        )
    if step % config.sampling.trajectory == 0:
        stress = ("stress",) if potential.with_stress else ()
        held = {name: potential.results[name] for name in ("forces", *stress, *in_frames(config))}
        simulation.trajectory.append(atoms, moment.potential, held, step, simulation.time_fs)
    if step % config.sampling.log == 0 or step == config.steps:
        logger.info("%s", log_line(step, simulation.time_fs / 1000, moment, simulation.energies.first, seconds_left))


def measure(simulation: Simulation) -> Moment:
    """What the log tells of the present step."""
    atoms, potential, integrator = simulation.atoms, simulation.potential, simulation.integrator
    kinetic, conserved = float(atoms.get_kinetic_energy()), math.nan
    if integrator.conserves:
        conserved = (kinetic + potential.conserved_potential() + integrator.outside_energy()) / len(atoms)
    return Moment(
        kelvin=temperature(atoms),
        potential=float(potential.results["energy"]),
        kinetic=kinetic,
        conserved=conserved,
        target=integrator.kelvin if integrator.target.changes else None,
        pressure=pressure(atoms) if potential.with_stress else None,
        volume=float(atoms.get_volume()) if potential.with_stress else None,
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
                "currents": simulation.rows,
                "integrator": simulation.integrator.state(),
                "potential": simulation.potential.state(),
                **simulation.means_state(),
            },
        ),
    )
    simulation.kept = simulation.step


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
        mean_potential_energy_ev=simulation.mean_of(simulation.potentials),
        mean_pressure_GPa=simulation.mean_of(simulation.pressures),
        mean_volume_A3=simulation.mean_of(simulation.volumes),
        drift_ev_per_atom_ps=energies.slope if conserves and math.isfinite(energies.slope) else None,
        largest_deviation_ev_per_atom=energies.largest if conserves else None,
        seconds_per_step=seconds / made if made else None,
        frames=len(simulation.trajectory),
        currents=simulation.rows,
        complete=simulation.step >= simulation.config.steps,
        folder=str(simulation.folder.path),
    )
    simulation.folder.write_results(dataclasses.asdict(summary))
    logger.info("%s", summary.text())
    return summary
