"""The folder of a training run.

    config.yaml             the resolved configuration
    train.log               what was logged, with units
    metrics.csv             a header row, one row per epoch
    metrics_units.json      the unit of each of its columns
    best.safetensors        the model with the lowest validation loss (averaged weights)
    last.pt                 everything needed to go on exactly: tensors and plain containers only
    results.json            errors of the best model on the validation and test frames
    *.png                   parity plots and the learning curve

Files that a resumed run reads are written under a temporary name and then renamed, so a kill never leaves half a file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch

from bec_mace.config.schema import CommonConfig, save_config
from bec_mace.errors import TrainingError
from bec_mace.storage.files import RESUME, check_free, logging_to, replace_file, replace_text
from bec_mace.storage.locks import alone_in

UNIMPORTANT: Any = {"output": True, "training": {"time_limit_minutes"}, "device": True, "logging": True}
"""Keys of a configuration that say where and how long a run computes, and not what; a model does not keep them."""


class RunFolder:
    """Paths and files of one run.

    Args:
        path: The folder; made by ``create``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.log = self.path / "train.log"
        self.metrics = self.path / "metrics.csv"
        self.units = self.path / "metrics_units.json"
        self.best = self.path / "best"
        self.best_file = self.path / "best.safetensors"
        self.last = self.path / "last.pt"
        self.results = self.path / "results.json"

    def check_free(self, resume: bool, advice: str = RESUME) -> None:
        """Refuse to overwrite a run; see :func:`~bec_mace.storage.files.check_free`.

        Raises:
            TrainingError: If the folder holds a run and ``resume`` is false, or is a file.
        """
        # A configuration and a log alone are of a run that stopped at its data: the user has mended them and tries again.
        traces = (self.metrics, self.last, self.best_file)
        check_free(self.path, traces, resume, TrainingError, advice)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and hold it for the time of a ``with`` block.

        Raises:
            TrainingError: Another run is at work in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with alone_in(self.path, TrainingError):
            yield

    def create(self, config: CommonConfig) -> None:
        """Make the folder and write the resolved configuration."""
        self.path.mkdir(parents=True, exist_ok=True)
        replace_file(self.config, lambda path: save_config(config, path))

    def logging_to_file(self) -> AbstractContextManager[None]:
        """Append the package's log to train.log for the time of a ``with`` block."""
        return logging_to(self.log, "%(asctime)s %(levelname)s %(message)s")

    def save_last(self, state: Mapping[str, Any]) -> None:
        """Write last.pt."""
        replace_file(self.last, lambda path: torch.save(dict(state), path))

    def load_last(self) -> dict[str, Any] | None:
        """Read last.pt, on the CPU; None where there is none.

        Raises:
            TrainingError: If the file cannot be read.
        """
        if not self.last.exists():
            return None
        try:
            result: dict[str, Any] | None = torch.load(self.last, map_location="cpu", weights_only=True)
            return result
        except Exception as error:  # torch raises many kinds for a broken file
            raise TrainingError(
                f"{self.last}: cannot be read as a checkpoint; restore it, or choose another `output`"
            ) from error

    def append_metrics(self, row: Mapping[str, float | int | None], units: Mapping[str, str]) -> None:
        """Add one row to metrics.csv; the first call writes the header, and the units beside it."""
        new = not self.metrics.exists()
        if new:
            self._write_units(units)
        with self.metrics.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(list(units))
            writer.writerow([_cell(row.get(name)) for name in units])

    def cut_metrics(self, epochs: int) -> None:
        """Drop the rows after epoch ``epochs``, which a resumed run writes again."""
        if not self.metrics.exists():
            return
        with self.metrics.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        if epochs == 0:
            self.metrics.unlink()
            return
        if _has_units(rows):  # of an earlier version
            self._write_units(dict(zip(*rows[:2], strict=True)))
        kept = [*rows[:1], *(row for row in rows[1:] if row and row[0] and int(row[0]) <= epochs)]

        def write(path: Path) -> None:
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows(kept)

        replace_file(self.metrics, write)

    def _write_units(self, units: Mapping[str, str]) -> None:
        replace_text(self.units, json.dumps(dict(units), indent=2, ensure_ascii=False) + "\n")

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write results.json."""
        replace_text(self.results, json.dumps(results, indent=2) + "\n")


def read_metrics(path: str | Path) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Columns and units of a metrics.csv; an empty cell is NaN. Units are those of metrics_units.json beside it.

    Raises:
        TrainingError: If the file is not a metrics.csv.
    """
    path = Path(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if not rows or rows[0][:1] != ["epoch"]:
        raise TrainingError(f"{path}: not a metrics.csv of a run: it must start with a header row, epoch first")
    header, body = rows[0], rows[1:]
    beside = path.with_name("metrics_units.json")
    if _has_units(rows):  # of an earlier version
        units, body = dict(zip(header, rows[1], strict=True)), rows[2:]
    else:
        units = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    columns = {name: [float(row[i]) if row[i] else float("nan") for row in body] for i, name in enumerate(header)}
    return columns, {name: units.get(name, "") for name in header}


def _has_units(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the second row holds units, where an epoch would stand."""
    return len(rows) > 1 and rows[1][:1] == [""]


def _cell(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.8g}"


def metric_units(names: Sequence[str], unit_of: Callable[[str], str]) -> dict[str, str]:
    """Columns of metrics.csv and their units for the trained properties."""
    units = {"epoch": "", "step": "", "learning_rate": "", "seconds": "s", "train_loss": "", "validation_loss": ""}
    for name in names:
        for part in ("train", "validation"):
            for kind in ("rmse", "mae"):
                units[f"{part}_{name}_{kind}"] = unit_of(name)
    return units
