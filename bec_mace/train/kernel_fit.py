"""The fit of a kernel model from configuration to results: one linear solve in place of epochs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bec_mace.config.schema import KernelRunConfig
from bec_mace.data import Frame, compute_statistics, data_fingerprint
from bec_mace.data.groups import group_frames
from bec_mace.data.statistics import structures_by_element
from bec_mace.devices import DTYPES
from bec_mace.errors import TrainingError
from bec_mace.models import load_model, save_model
from bec_mace.models.kernel_regression import KernelModel, build_kernel_model
from bec_mace.models.kernel_regression.calibration import calibrate
from bec_mace.models.kernel_regression.evidence import Solution, maximize_evidence
from bec_mace.models.kernel_regression.kernel_model import sizes_of
from bec_mace.models.kernel_regression.normal_equations import Z, gather
from bec_mace.models.kernel_regression.representatives import CANDIDATES, choose, collect_candidates, install, resolve_sizes
from bec_mace.models.kernel_regression.whitening import Whitening, whiten
from bec_mace.train.prepare import elements_of, read_frame_sets, symbols
from bec_mace.train.processes import launch
from bec_mace.train.results import evaluate_sets
from bec_mace.train.run_folder import UNIMPORTANT, RunFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """A fitted model and how it went.

    Attributes:
        model: In float64.
        figures: Plain numbers: seconds, training error, noise, priors by name, effective number of weights.
    """

    model: KernelModel
    figures: dict[str, Any]


def fit_kernel(config: KernelRunConfig, resume: bool = False) -> dict[str, Any]:
    """Fit a kernel model as a configuration says.

    Args:
        config: The configuration; ``load_config`` reads it from YAML.
        resume: Use a folder that holds a run already; the fit starts anew.

    Returns:
        The contents of results.json: ``fit``, the figures of the fit, and for each set that has frames ``validation`` and
        ``test`` as ``evaluate`` gives them.

    Raises:
        TrainingError: If the folder holds a run and ``resume`` is false, or the memory is too small.
        DataError: If the data cannot be used.
    """
    folder = RunFolder(config.output)
    folder.check_free(resume)
    device = launch(config.device, "float64").device
    fresh = not folder.best_file.exists()
    with folder.held(), folder.logging_to_file():
        if fresh:
            folder.create(config)
        try:
            sets = read_frame_sets(config.data, (Z,))
            fitted = fit_frames(config, sets.train, device)
            if not fresh:  # The folder holds a model and its configuration until there is another.
                folder.create(config)
            save_model(
                fitted.model,
                folder.best,
                {
                    "training_config": config.model_dump(mode="json", exclude=UNIMPORTANT),
                    "data_fingerprint": data_fingerprint(sets.train),
                    "structures_by_element": structures_by_element(sets.train),
                    "metrics": {"train_born_effective_charges_rmse": fitted.figures["train_rmse"]},
                    "fit": {name: value for name, value in fitted.figures.items() if not name.endswith("seconds")},
                    "index_order": "polarization_first",
                },
            )
            model = load_model(folder.best, device, DTYPES[config.precision])
            figures = {"fit": fitted.figures}
            results = {**figures, **evaluate_sets(model, folder, sets, "kernel model", figures)}
        except Exception:
            logger.exception("the run stopped")
            raise
    return results


def fit_frames(config: KernelRunConfig, frames: Sequence[Frame], device: torch.device | str = "cpu") -> Fit:
    """Fit a model to labelled frames; nothing is written.

    Args:
        config: The configuration; of its data section only ``group`` is read, for the folds of the calibration.
        frames: Training frames; those without Z* are left out.
        device: Where to compute.

    Raises:
        TrainingError: If no frame holds Z*, or the memory is too small.
    """
    start, cpu_start = time.monotonic(), time.process_time()
    frames = [frame for frame in frames if Z in frame.labels]
    if not frames:
        raise TrainingError("a kernel model is fitted to Born effective charges, and no training frame holds them")
    model = _with_representatives(config, frames, device)
    whitening = whiten(model)
    logger.info(
        "kernel model: %d training frames, elements %s, %d weights (%d in use), %d invariants and %d vectors per atom",
        len(frames),
        symbols(model.elements),
        model.n_weights,
        len(whitening.groups),
        model.descriptors.n_invariants,
        model.descriptors.n_vectors,
    )
    model.requires_grad_(False)
    gathered = gather(
        model,
        whitening,
        frames,
        config.fit.calibration_folds if config.model.uncertainty else 0,
        1e9 * config.fit.memory_gb,
        config.seed,
        None if config.data.group is None else group_frames(frames, config.data.group),
    )
    solution = maximize_evidence(gathered.total, whitening.groups, config.fit.noise, config.fit.prior)
    model.set_weights(model.weights() + whitening.weights(solution.weights))
    figures = {
        "seconds": 0.0,
        "cpu_seconds": 0.0,
        "n_frames": len(frames),
        "n_weights": model.n_weights,
        "effective_weights": solution.effective,
        "iterations": solution.iterations,
        "train_rmse": (gathered.total.residual(solution.weights) / gathered.total.count) ** 0.5,
        "noise": solution.hyperparameters.noise**-0.5,
        "priors": dict(zip(whitening.names, (solution.hyperparameters.priors**-0.5).tolist(), strict=True)),
    }
    if config.model.uncertainty:
        _keep_posterior(model, whitening, solution)
        model.calibration.copy_(calibrate(gathered, whitening.groups, solution.hyperparameters, len(model.elements)))
        figures["calibration"] = model.calibration.tolist()
    figures.update(seconds=time.monotonic() - start, cpu_seconds=time.process_time() - cpu_start)
    logger.info(
        "fitted in %.0f s: RMSE on training frames %.4f e, noise %.4f e, %.0f effective weights",
        figures["seconds"],
        figures["train_rmse"],
        figures["noise"],
        solution.effective,
    )
    return Fit(model, figures)


def _with_representatives(config: KernelRunConfig, frames: Sequence[Frame], device: torch.device | str) -> KernelModel:
    """A model in float64 with representatives of the training frames and zero weights."""
    elements = elements_of(frames)
    statistics = compute_statistics(frames, config.model.r_max)
    sizes = dict(zip(elements, sizes_of(config.model, elements), strict=True))
    one_each = config.model.model_copy(update={"num_representatives": 1, "uncertainty": False})
    probe = build_kernel_model(one_each, elements, statistics, torch.float64).to(device)
    limit = -(-CANDIDATES * max(sizes.values()) // len(frames))
    candidates = collect_candidates(probe, frames, limit, config.seed)
    chosen = choose(dict(zip(probe.elements, candidates, strict=True)), sizes)
    resolved = resolve_sizes(config.model, chosen)
    model = build_kernel_model(resolved, elements, statistics, torch.float64).to(device)
    install(model, chosen)
    return model


def _keep_posterior(model: KernelModel, whitening: Whitening, solution: Solution) -> None:
    """Put a factor of the covariance of the weights, and the noise, into the model."""
    identity = torch.eye(len(solution.weights)).to(solution.factor)
    inverse = torch.linalg.solve_triangular(solution.factor, identity, upper=False)
    factor = whitening.weights(inverse.T)
    model.posterior.zero_()
    model.posterior[:, : factor.shape[1]] = factor
    model.noise.fill_(solution.hyperparameters.noise**-0.5)
