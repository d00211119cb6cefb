"""Programs that show the course of a run: TensorBoard and Weights & Biases. Neither is imported unless it is asked for."""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bec_mace.config.schema import LoggingConfig
from bec_mace.errors import TrainingError
from bec_mace.storage.files import replace_text


class Tracker(Protocol):
    """What takes the numbers of each epoch."""

    def write(self, values: Mapping[str, float], epoch: int) -> None:
        """Take the numbers of an epoch."""

    def close(self) -> None:
        """Write what is not written yet."""


def check_trackers(config: LoggingConfig) -> None:
    """Refuse to begin a run whose trackers are not installed.

    Raises:
        TrainingError: A package is missing.
    """
    for key, package in wanted(config):
        if importlib.util.find_spec(package) is None:
            raise TrainingError(
                f"logging.{key}: the package {package} is not installed; `pip install {package}`, or leave the key out"
            )


def wanted(config: LoggingConfig) -> Iterator[tuple[str, str]]:
    """Keys that are set, and the package of each."""
    if config.tensorboard:
        yield "tensorboard", "tensorboard"
    if config.wandb is not None:
        yield "wandb", "wandb"


class Trackers:
    """All trackers of a run.

    Args:
        trackers: They.
    """

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = list(trackers)

    @classmethod
    def open(cls, config: LoggingConfig, folder: Path, values: Mapping[str, Any], epoch: int) -> Trackers:
        """Open what a configuration asks for.

        Args:
            config: Which.
            folder: The run folder.
            values: The whole configuration, which is shown beside the numbers.
            epoch: The last epoch that is done; 0 for a run that starts.

        Raises:
            TrainingError: One cannot be opened.
        """
        opened: list[Tracker] = []
        for key, _ in wanted(config):
            try:
                opened.append(
                    TensorBoard(folder, epoch)
                    if key == "tensorboard"
                    else WeightsAndBiases(folder, str(config.wandb), values, resumed=epoch > 0)
                )
            except Exception as error:  # whatever another package raises: no account, no network, a version that does not fit
                for tracker in opened:
                    tracker.close()
                reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
                raise TrainingError(f"logging.{key}: cannot be opened ({reason}); mend it, or leave the key out") from error
        return cls(opened)

    def write(self, row: Mapping[str, float | int | None]) -> None:
        """Take a row of metrics.csv; ``train_forces_rmse`` becomes ``train/forces_rmse``."""
        values = {_grouped(name): float(value) for name, value in row.items() if value is not None and name != "epoch"}
        for tracker in self._trackers:
            tracker.write(values, int(row["epoch"] or 0))

    def close(self) -> None:
        """Close all."""
        for tracker in self._trackers:
            tracker.close()


def _grouped(name: str) -> str:
    part = name.partition("_")[0]
    return f"{part}/{name[len(part) + 1 :]}" if part in ("train", "validation") else name


class TensorBoard:
    """Files of TensorBoard in the folder ``tensorboard`` of the run.

    Args:
        folder: The run folder.
        epoch: The last epoch that is done; what was written of later ones is replaced.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=epoch + 1)

    def write(self, values: Mapping[str, float], epoch: int) -> None:
        """Take the numbers of an epoch."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases; a resumed run goes on with the same one, whose name is in ``wandb_id.txt``.

    Args:
        folder: The run folder; its name is that of the run.
        project: Where the run belongs.
        values: The configuration.
        resumed: Whether epochs are there already.
    """

    def __init__(self, folder: Path, project: str, values: Mapping[str, Any], resumed: bool) -> None:
        import wandb

        known = folder / "wandb_id.txt"
        if not (resumed and known.is_file()):
            replace_text(known, secrets.token_hex(8) + "\n")
        self._run = wandb.init(
            project=project,
            name=folder.name,
            id=known.read_text(encoding="utf-8").strip(),
            dir=str(folder),
            config=dict(values),
            resume="allow",
        )

    def write(self, values: Mapping[str, float], epoch: int) -> None:
        """Take the numbers of an epoch."""
        self._run.log(dict(values), step=epoch)

    def close(self) -> None:
        """End the run."""
        self._run.finish()
