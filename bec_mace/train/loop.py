"""A training run from configuration to results: plain, explicit, exactly resumable."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning_fabric import Fabric

from bec_mace.config.schema import RunConfig
from bec_mace.data import compute_statistics
from bec_mace.data.graph import Graph
from bec_mace.data.statistics import structures_by_element
from bec_mace.devices import DTYPES
from bec_mace.errors import TrainingError
from bec_mace.evaluate.residuals import residual_unit
from bec_mace.models import build_model, save_model
from bec_mace.models.own_energies import own_reference_names
from bec_mace.properties import PROPERTIES
from bec_mace.train.epoch_line import EPOCH_HEADER, EPOCH_HEADER_ALONE, epoch_line
from bec_mace.train.first_energies import beside_coulomb
from bec_mace.train.loss import Loss
from bec_mace.train.prepare import (
    FrameSets,
    build_graphs,
    element_weights,
    elements_of,
    read_frame_sets,
    symbols,
)
from bec_mace.train.processes import copy_from_first, launch
from bec_mace.train.results import write_report
from bec_mace.train.resumption import check_frames, check_settings, fingerprints, settings_of
from bec_mace.train.run_folder import UNIMPORTANT, RunFolder, metric_units
from bec_mace.train.steps import TrainingState, new_state, run_epoch, validate, warm_up
from bec_mace.train.trackers import Trackers, check_trackers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """The fixed parts of a run."""

    config: RunConfig
    fabric: Fabric
    folder: RunFolder
    sets: FrameSets
    loss: Loss
    train: list[Graph]
    validation: list[Graph]
    identity: dict[str, Any]


def train(config: RunConfig, resume: bool = False) -> dict[str, Any]:
    """Train a model as a configuration says.

    With ``resume``, a run that was killed or stopped by its time limit goes on from the end of its last epoch and ends
    with the weights it would have had without the stop. On the CPU they are the same to the last bit.

    Args:
        config: The configuration; ``load_config`` reads it from YAML.
        resume: Go on with the run in ``config.output``. Starts one where there is none.

    Returns:
        The contents of results.json; see ``bec_mace.train.results``.

    Raises:
        TrainingError: If the folder holds a run and ``resume`` is false, it holds a different run, or the loss
            is not finite.
        DataError: If the data cannot be used.
    """
    start = time.monotonic()
    folder = RunFolder(config.output)
    folder.check_free(resume)
    check_trackers(config.logging)
    last = folder.load_last()
    if last is not None:
        check_settings(folder.last, last["identity"].get("settings"), config)
    fabric = launch(config.device, config.precision, config.num_processes)
    fabric.barrier()
    with ExitStack() as log:
        log.enter_context(nullcontext() if fabric.is_global_zero else quiet())
        if fabric.is_global_zero:
            log.enter_context(folder.held())
        if fabric.is_global_zero and last is None:
            folder.create(config)
            log.enter_context(folder.logging_to_file())
        sets, identity = read_data(config)
        if last is not None:
            check_frames(folder.last, last["identity"], identity)
            if fabric.is_global_zero:  # Nothing of a run is touched before it is clear that it goes on.
                folder.create(config)
                log.enter_context(folder.logging_to_file())
        with logging_what_stops():
            run, state = set_up(config, fabric, folder, sets, identity)
            take_up(run, state, last)
            trackers = log.enter_context(closing(open_trackers(run, state)))
            fit(run, state, start, trackers)
            return finish(run, state)


@contextmanager
def logging_what_stops() -> Iterator[None]:
    """Put an error that ends a run into its log."""
    try:
        yield
    except Exception:
        logger.exception("the run stopped")
        raise


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the log of processes other than the first off the screen for the time of a ``with`` block."""
    package = logging.getLogger("bec_mace")
    level = package.level
    package.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        package.setLevel(level)


def read_data(config: RunConfig) -> tuple[FrameSets, dict[str, str]]:
    """Read all frames; and what tells them from others."""
    with logging_what_stops():
        sets = read_frame_sets(config.data, build_loss(config).properties)
        return sets, fingerprints(sets.train, sets.validation)


def build_loss(config: RunConfig) -> Loss:
    """The loss of a configuration; properties without weight are left out."""
    return Loss(
        weights={name: weight for name, weight in config.training.loss.weights.items() if weight > 0.0},
        element_weights=element_weights(config.training.loss.element_weights),
        huber=config.training.loss.huber,
    )


def check_element_weights(loss: Loss, elements: Sequence[int]) -> None:
    """Refuse weights under which no atom counts.

    Raises:
        TrainingError: The weight of every element of the training frames is zero.
    """
    of_atoms = [name for name in loss.properties if PROPERTIES[name].per == "atom"]
    if of_atoms and not any(loss.element_weights.get(z, 1.0) for z in elements):
        raise TrainingError(
            f"training.loss.element_weights: all elements of the training frames ({symbols(elements)}) have weight zero, so "
            f"that {', '.join(of_atoms)} would not be trained; give one of them a positive weight"
        )


def set_up(
    config: RunConfig, fabric: Fabric, folder: RunFolder, sets: FrameSets, identity: dict[str, str]
) -> tuple[Run, TrainingState]:
    """Build the model and the graphs."""
    loss = build_loss(config)
    elements = elements_of(sets.train)
    check_element_weights(loss, elements)
    dtype = DTYPES[config.precision]
    torch.manual_seed(config.seed)
    statistics = compute_statistics(sets.train, config.model.r_max)
    if "born_effective_charges" not in loss.properties:  # What is not trained must not be known from the start either.
        statistics = replace(statistics, reference_charges={})
    statistics = beside_coulomb(statistics, sets.train, config.model)
    model = build_model(config.model, elements, statistics, dtype)
    model.to(fabric.device)
    copy_from_first(fabric, model)
    n_weights = sum(p.numel() for p in model.parameters() if p.requires_grad)
    logger.info(
        "frames: %d train, %d validation, %d test; elements %s; %d parameters; device %s, %s, %d process%s",
        len(sets.train),
        len(sets.validation),
        len(sets.test),
        symbols(elements),
        n_weights,
        fabric.device,
        config.precision,
        fabric.world_size,
        "" if fabric.world_size == 1 else "es",
    )
    references = own_reference_names(model)
    run = Run(
        config,
        fabric,
        folder,
        sets,
        loss,
        train=build_graphs(sets.train, model.r_max, dtype, loss.properties, references),
        validation=build_graphs(sets.validation, model.r_max, dtype, loss.properties, references),
        identity={
            "model": json.dumps(config.model.model_dump(mode="json"), sort_keys=True),
            "seed": config.seed,
            "batch_size": config.training.batch_size,
            "settings": settings_of(config),
            **identity,
        },
    )
    return run, new_state(model, config.training, len(sets.train))


def take_up(run: Run, state: TrainingState, last: dict[str, Any] | None) -> None:
    """Go on from last.pt where there is one.

    Raises:
        TrainingError: If it is of another model, seed or batch size.
    """
    done = 0
    if last is not None:
        for name in ("model", "seed", "batch_size"):  # All that runs of earlier versions tell of their settings.
            if last["identity"][name] != run.identity[name]:
                raise TrainingError(
                    f"{run.folder.last}: cannot resume, the run in this folder had another {name}: "
                    "restore it or choose another `output`"
                )
        state.load_state_dict(last["state"])
        done = state.progress.epoch
        logger.info("resumed after epoch %d", done)
    if run.fabric.is_global_zero:
        run.folder.cut_metrics(done)


def open_trackers(run: Run, state: TrainingState) -> Trackers:
    """What takes the numbers of each epoch beside metrics.csv; the first process alone has any."""
    config = run.config
    if not run.fabric.is_global_zero:
        return Trackers([])
    values = config.model_dump(mode="json")
    return Trackers.open(config.logging, run.folder.path, values, state.progress.epoch)


def fit(run: Run, state: TrainingState, start: float, trackers: Trackers) -> None:
    """Train until the last epoch, the time limit, or the early stop."""
    training = run.config.training
    units = metric_units(run.loss.properties, residual_unit)
    warm_up(state, run.loss, run.train, run.fabric.device)
    logger.info("%s", EPOCH_HEADER if run.validation else EPOCH_HEADER_ALONE)
    while state.progress.epoch < training.epochs and not out_of_patience(run, state):
        epoch_start = time.monotonic()
        row: dict[str, float | int | None] = {"learning_rate": state.schedule.learning_rate()}
        metrics = run_epoch(state, run.loss, run.train, run.fabric, training, run.config.seed)
        row.update({f"train_{name}": value for name, value in metrics.items()})
        state.progress.epoch += 1
        epoch = state.progress.epoch
        improved = not run.validation
        if improved:  # Without a validation set the last weights are the best that is known.
            state.progress.best_epoch = epoch
        elif epoch % training.validate_every == 0 or epoch == training.epochs:
            metrics = validate(state, run.loss, run.validation, run.fabric, training.batch_size)
            row.update({f"validation_{name}": value for name, value in metrics.items()})
            improved = judge(state, metrics["loss"])
        seconds = time.monotonic() - epoch_start
        state.progress.seconds += seconds
        row.update(epoch=epoch, step=state.schedule.step_count, seconds=seconds)
        if run.fabric.is_global_zero:
            store(run, state, row, units, improved)
            trackers.write(row)
        logger.info("%s", epoch_line(row, training.epochs, run.loss.properties, improved))
        if out_of_time(run, start, seconds):
            logger.info("time limit of %g minutes reached after epoch %d; resume to go on", training.time_limit_minutes, epoch)
            break


def judge(state: TrainingState, loss: float) -> bool:
    """Take note of a validation; true if it is the best so far."""
    state.schedule.observe(loss)
    progress = state.progress
    if not loss < progress.best_loss:
        progress.waited += 1
        return False
    progress.best_loss, progress.best_epoch, progress.waited = loss, progress.epoch, 0
    return True


def out_of_patience(run: Run, state: TrainingState) -> bool:
    """Whether early stopping ends the run here."""
    patience = run.config.training.early_stopping_patience
    if patience is None or state.progress.waited < patience:
        return False
    logger.info("stopped early after epoch %d: no better validation loss for %d validations", state.progress.epoch, patience)
    return True


def out_of_time(run: Run, start: float, epoch_seconds: float) -> bool:
    """Whether another epoch as long as the last would pass the time limit; the first process decides."""
    limit = run.config.training.time_limit_minutes
    if limit is None:
        return False
    passed = time.monotonic() - start + epoch_seconds > 60.0 * limit
    return bool(run.fabric.broadcast(passed, src=0))


def store(run: Run, state: TrainingState, row: dict[str, Any], units: dict[str, str], improved: bool) -> None:
    """Write the epoch to the run folder: the best model first, so that last.pt never promises one that is not there."""
    if improved:
        metadata = {
            "training_config": run.config.model_dump(mode="json", exclude=UNIMPORTANT),
            "data_fingerprint": run.identity["data"],
            "structures_by_element": structures_by_element(run.sets.train),
            "metrics": {name: value for name, value in row.items() if value is not None and name != "seconds"},
            "index_order": "polarization_first",
        }
        with state.averaged():
            save_model(state.model, run.folder.best, metadata)
    run.folder.append_metrics(row, units)
    run.folder.save_last({"identity": run.identity, "state": state.state_dict()})


def finish(run: Run, state: TrainingState) -> dict[str, Any]:
    """Evaluate the best model, write results.json and the pictures; the other processes wait."""
    results: dict[str, Any] = {}
    if run.fabric.is_global_zero:
        results = write_report(run.config, run.folder, run.sets, state.progress, str(run.fabric.device))
    run.fabric.barrier()
    return dict(run.fabric.broadcast(results, src=0))
