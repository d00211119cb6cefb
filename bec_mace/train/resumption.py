"""What must be as it was for a run to go on exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bec_mace.config.schema import RunConfig
from bec_mace.config.section import Section
from bec_mace.data import Frame, data_fingerprint
from bec_mace.errors import TrainingError

# Where and how long a run computes; more epochs are checked beside.
_FREE = {
    *("output", "device", "num_processes", "training.epochs", "training.time_limit_minutes"),
    *("logging.tensorboard", "logging.wandb"),
}
_ADVICE = "restore it or choose another `output`"


def settings_of(config: RunConfig) -> dict[str, Any]:
    """What last.pt keeps of a configuration: plain values by their full key."""
    return _flat(config, config.model_dump(mode="json"))


def _flat(section: Section, values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by their full key. Those that are mappings, such as weights, stay whole: all of their keys are the user's."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = getattr(section, name)
        flat.update(_flat(inner, value, f"{prefix}{name}.") if isinstance(inner, Section) else {prefix + name: value})
    return flat


def fingerprints(train: Sequence[Frame], validation: Sequence[Frame]) -> dict[str, str]:
    """What last.pt keeps of the frames, labels included."""
    return {"data": data_fingerprint(train), "validation data": data_fingerprint(validation)}


def check_settings(path: Path, stored: Mapping[str, Any] | None, config: RunConfig) -> None:
    """Refuse to resume with other settings.

    Args:
        path: last.pt, for the message.
        stored: What :func:`settings_of` gave when the run was started; None for a run of an earlier version.
        config: As it is now.

    Raises:
        TrainingError: Something is not as it was. All of it is named.
    """
    if stored is None:
        return
    now = settings_of(config)
    # Keys that this version has and that of the run had not stand at their defaults there.
    changed = sorted(key for key in stored.keys() & now.keys() if stored[key] != now[key] and key not in _FREE)
    changed += sorted(key for key in stored.keys() - now.keys() if key not in _FREE)
    words = [f"{key} = {stored[key]}, now {now.get(key)}" for key in changed]
    if now["training.epochs"] < stored["training.epochs"]:
        words.append(
            f"training.epochs = {stored['training.epochs']}, now {now['training.epochs']}; more are possible, not fewer"
        )
    if words:
        raise TrainingError(f"{path}: cannot resume, the run in this folder had {'; '.join(words)}: {_ADVICE}")


def check_frames(path: Path, stored: Mapping[str, Any], now: Mapping[str, str]) -> None:
    """Refuse to resume with other frames or labels.

    Raises:
        TrainingError: They are not as they were.
    """
    for name, value in now.items():
        if stored.get(name, value) != value:
            raise TrainingError(f"{path}: cannot resume, the run in this folder had another {name}: {_ADVICE}")
