"""Committees of the networks of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bec_mace.config.checks import outside_heads
from bec_mace.config.document import read_document
from bec_mace.config.schema import RunConfig, load_config
from bec_mace.devices import DTYPES
from bec_mace.errors import TrainingError
from bec_mace.models import CommitteeModel, PolarizationModel, load_model, save_model
from bec_mace.models.checkpoint_file import read_checkpoint
from bec_mace.outside import check_trusted
from bec_mace.storage.files import check_free
from bec_mace.train.prepare import read_frame_sets
from bec_mace.train.results import evaluate_sets
from bec_mace.train.run_folder import RunFolder


def combine_runs(runs: Sequence[str | Path], output: str | Path, device: str = "cpu") -> dict[str, Any]:
    """Write a committee of the best models of several runs, and evaluate it on the frames that they held out.

    Args:
        runs: Their folders. They share their data section, so that a frame that one held out no other was trained on.
        output: Folder of the committee: best.safetensors, results.json and parity plots.
        device: Where to evaluate it.

    Returns:
        The contents of results.json; see :func:`~bec_mace.train.results.evaluate_sets`.

    Raises:
        TrainingError: The folder holds a model already, a run is missing or named twice, or the runs have other data.
        ModelError: Their models cannot stand beside each other.
    """
    folder = RunFolder(output)
    _check_free(folder)
    if len({Path(run).resolve() for run in runs}) < len(runs):
        raise TrainingError(
            f"{', '.join(map(str, runs))}: a folder is named more than once; every member must be a run of its own."
        )
    configs = [_read_config(Path(run)) for run in runs]
    for run, config in zip(runs, configs, strict=True):
        if config.data != configs[0].data:
            raise TrainingError(
                f"{run}: has another data section than {runs[0]}; frames that one held out may be training "
                "frames of the other. Train all members with the same `data`."
            )
    dtype = DTYPES[configs[0].precision]
    members = [load_model(run, dtype=dtype) for run in runs]
    committee = CommitteeModel(members)
    _check_training_data(runs, members)
    sets = read_frame_sets(configs[0].data, tuple(configs[0].training.loss.weights))
    metadata = {
        "training_config": members[0].metadata["training_config"],
        "data_fingerprint": members[0].metadata["data_fingerprint"],
        "structures_by_element": members[0].metadata.get("structures_by_element", {}),
        "metrics": {},
        "members": [{name: member.metadata[name] for name in ("training_config", "metrics")} for member in members],
        "index_order": "polarization_first",
    }
    with folder.held(), folder.logging_to_file():
        save_model(committee, folder.best, metadata)
        return evaluate_sets(load_model(folder.best, device, dtype), folder, sets, f"committee of {len(members)}", {})


def _check_free(folder: RunFolder) -> None:
    """A committee without results is what a killed start has left; it is made again."""
    committee = folder.best_file.is_file() and read_checkpoint(folder.best_file)[0]["config"].get("kind") == "committee"
    traces = [folder.metrics, folder.last, folder.results, *([] if committee else [folder.best_file])]
    check_free(folder.path, traces, False, TrainingError, "choose another folder")


def _read_config(run: Path) -> RunConfig:
    path = RunFolder(run).config
    if not path.is_file():
        raise TrainingError(f"{run}: there is no config.yaml in it; give folders of runs of `bec-mace train`.")
    for name in outside_heads(read_document(path).values):
        check_trusted(name, str(path), TrainingError)
    config = load_config(path)
    if not isinstance(config, RunConfig):
        raise TrainingError(f"{run}: is a run of a kernel model; a committee is made of networks.")
    return config


def _check_training_data(runs: Sequence[str | Path], members: Sequence[PolarizationModel]) -> None:
    for run, member in zip(runs, members, strict=True):
        if member.metadata["data_fingerprint"] != members[0].metadata["data_fingerprint"]:
            raise TrainingError(
                f"{run}: was trained on other frames than {runs[0]}; the file of the data has changed since. Train it again."
            )
