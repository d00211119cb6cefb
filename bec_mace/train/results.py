"""What a run leaves behind when it ends: results.json, pictures, tables in the log."""

from __future__ import annotations

import logging
import math
from typing import Any

from bec_mace.config.schema import RunConfig
from bec_mace.devices import DTYPES
from bec_mace.errors import TrainingError
from bec_mace.evaluate.comparison import Comparison, compare, compared, format_table, summarize_comparison
from bec_mace.evaluate.plots import plot_parity
from bec_mace.models import PolarizationModel, load_model, update_metadata
from bec_mace.properties import DEVIATION
from bec_mace.train.plots import plot_learning_curve
from bec_mace.train.prepare import FrameSets
from bec_mace.train.run_folder import RunFolder
from bec_mace.train.steps import Progress

logger = logging.getLogger(__name__)


def write_report(config: RunConfig, folder: RunFolder, sets: FrameSets, progress: Progress, device: str) -> dict[str, Any]:
    """Evaluate the best model on the validation and test frames, write results.json and the pictures.

    Args:
        config: The configuration of the run.
        folder: Where the best model is and the results go.
        sets: The frames.
        progress: How the run ended.
        device: Where to compute.

    Returns:
        The contents of results.json: ``epochs``, ``best_epoch``, ``best_loss``, ``seconds`` and, for each set that has
        frames, ``validation`` and ``test`` as ``evaluate`` gives them.

    Raises:
        TrainingError: If there is no best model.
    """
    results: dict[str, Any] = {
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "best_loss": progress.best_loss if math.isfinite(progress.best_loss) else None,
        "seconds": progress.seconds,
    }
    if progress.best_epoch == 0:
        raise TrainingError(
            f"{folder.path}: no validation gave a finite loss, so there is no best model; lower the "
            "learning rate and look at the validation frames"
        )
    model = load_model(folder.best, device, DTYPES[config.precision])
    evaluated = evaluate_sets(model, folder, sets, f"model of epoch {progress.best_epoch}", results)
    trivial = next(
        (
            metrics["born_effective_charges"]["trivial"]["rmse"]
            for metrics in evaluated.values()
            if "born_effective_charges" in metrics
        ),
        None,
    )
    plot_learning_curve(folder.metrics, folder.path / "learning_curve.png", trivial)
    return {**results, **evaluated}


def evaluate_sets(
    model: PolarizationModel, folder: RunFolder, sets: FrameSets, label: str, figures: dict[str, Any]
) -> dict[str, Any]:
    """Evaluate a model on the validation and test frames, write results.json and parity plots, note errors in the checkpoint.

    Args:
        model: The best model of the run.
        folder: Where it is and the results go.
        sets: The frames.
        label: What the log calls the model.
        figures: What else results.json holds.

    Returns:
        ``validation`` and ``test``, for each set that has frames, as ``evaluate`` gives them; ``egg_box`` where labels were
        freed of one, and then ``rmse_without_egg_box`` among the errors of the test frames.
    """
    results: dict[str, Any] = {}
    if sets.egg_box is not None:
        results["egg_box"] = sets.egg_box.to_dict()
    for name, frames in (("validation", sets.validation), ("test", sets.test)):
        if not frames:
            continue
        comparison = compare(model, frames, uncertainty=DEVIATION in model.provides)
        results[name] = summarize_comparison(comparison)
        logger.info("%s frames, %s\n%s", name, label, format_table(results[name]))
        if any(comparison.pairs(label) for label in compared()):
            plot_parity(comparison, folder.path / f"parity_{name}.png")
        if name == "test" and sets.egg_box is not None and "born_effective_charges" in results[name]:
            clean = summarize_comparison(Comparison(sets.egg_box.remove(frames), comparison.predicted))
            error = clean["born_effective_charges"]["rmse"]
            results[name]["born_effective_charges"]["rmse_without_egg_box"] = error
            logger.info("test frames, labels without their egg-box error: Z* RMSE %.4f e", error)
    errors = {
        f"{name}_born_effective_charges_{kind}": results[name]["born_effective_charges"][kind]
        for name in ("validation", "test")
        if "born_effective_charges" in results.get(name, {})
        for kind in ("rmse", "mae")
    }
    known: dict[str, Any] = {"metrics": {**model.metadata["metrics"], **errors}}
    charges = [results[name]["static_charges"] for name in ("test", "validation") if "static_charges" in results.get(name, {})]
    update_metadata(folder.best, {**known, "static_charges": charges[0]} if charges else known)
    folder.write_results({**figures, **results})  # last: who finds it finds the rest
    return results
