"""Which heads win: five head sets on four data sets, the same network and number of steps each.

Every fifth frame or so is held out, the same for all head sets. One cell is one short training run from the same seed,
so the table ranks heads at a small budget; it does not show the best that each can reach.

    python scripts/compare_heads.py --json heads.json

The JSON file is written after every cell, and cells that it holds are not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bec_mace.config.model import ModelConfig
from bec_mace.config.schema import DataConfig, OptimizerConfig, RunConfig, ScheduleConfig, TrainingConfig
from bec_mace.errors import BecMaceError, DataError

Z = "born_effective_charges"


@dataclass(frozen=True)
class DataSet:
    """A file and what suits it: atoms in a step are about the same number in all sets."""

    path: str
    r_max: float
    batch_size: int
    element_correlation: float = 0.0


DATA_SETS = {
    "water_aptnn": DataSet("data/water_aptnn_train.extxyz", 4.5, 1),
    "water_rpbe_d3": DataSet("data/water_rpbe_d3.extxyz", 4.5, 1),
    "quartz": DataSet("data/quartz_pbe.extxyz", 5.0, 2),
    "crystals": DataSet("bec_mace:crystals_dfpt.extxyz.gz", 5.0, 16, element_correlation=0.9),
}
HEAD_SETS = {
    "monopole": ["monopole"],
    "charge_transfer": ["charge_transfer"],
    "dipole": ["dipole"],
    "monopole+dipole": ["monopole", "dipole"],
    "direct": ["direct"],
}
SETTINGS = ("steps", "channels", "learning_rate", "test_fraction", "seed")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, data in DATA_SETS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            default=data.path,
            metavar="FILE",
            help=f"frames of {name}; {data.path} by default",
        )
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps, to the nearest whole epoch; 200")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=0.15, help="of SOAP; 0.15")
    parser.add_argument("--test-fraction", type=float, default=0.2, help="share of the frames that is held out; 0.2")
    parser.add_argument("--seed", type=int, default=0, help="of the weights; the held-out frames do not depend on it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only-data", nargs="+", choices=list(DATA_SETS), default=list(DATA_SETS), metavar="NAME")
    parser.add_argument("--only-heads", nargs="+", choices=list(HEAD_SETS), default=list(HEAD_SETS), metavar="NAME")
    parser.add_argument("--json", type=Path, help="file for the numbers; cells in it are kept")
    args = parser.parse_args()
    if args.json is not None and not args.json.resolve().parent.is_dir():
        parser.error(f"--json {args.json}: the folder does not exist")
    return args


def read_cells(args: argparse.Namespace) -> dict[str, Any]:
    """What an earlier call has left in the JSON file.

    Raises:
        DataError: The file was made with other settings.
    """
    settings = {name: getattr(args, name) for name in SETTINGS}
    if args.json is None or not args.json.exists():
        return {"settings": settings, "cells": {}}
    try:
        found: dict[str, Any] = json.loads(args.json.read_text(encoding="utf-8"))
        old = found["settings"]
        cells = found["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{args.json}: not a file of this script ({error!r}); name another one") from error
    if old != settings:
        raise DataError(f"{args.json}: made with {old}, asked for {settings}; name another file")
    return {"settings": settings, "cells": cells}


def cell_config(args: argparse.Namespace, name: str, heads: list[str], epochs: int, output: Path) -> RunConfig:
    """The run of one cell."""
    data = DATA_SETS[name]
    return RunConfig(
        output=output,
        seed=args.seed,
        device=args.device,
        data=DataConfig(train=getattr(args, name), validation=0.0, test=args.test_fraction, seed=0),
        model=ModelConfig(
            r_max=data.r_max,
            channels=args.channels,
            radial_mlp=[32, 32],
            heads=list(heads),
            element_correlation=data.element_correlation,
        ),
        training=TrainingConfig(
            epochs=epochs,
            batch_size=data.batch_size,
            optimizer=OptimizerConfig(name="soap", learning_rate=args.learning_rate),
            schedule=ScheduleConfig(warmup_epochs=0.1 * epochs),
            ema_decay=0.95,
        ),
    )


def count_train_frames(args: argparse.Namespace, name: str) -> int:
    """How many frames the held-out ones leave."""
    from bec_mace.data import split_frames

    config = DataConfig(train=getattr(args, name), validation=0.0, test=args.test_fraction, seed=0)
    return len(split_frames(config, properties=(Z,))["train"])


def run_cell(args: argparse.Namespace, name: str, heads: list[str]) -> dict[str, Any]:
    """Train and test; processor time is that of the whole run, reading and testing included."""
    from bec_mace.train.loop import train

    steps_per_epoch = -(-count_train_frames(args, name) // DATA_SETS[name].batch_size)
    epochs = max(1, round(args.steps / steps_per_epoch))
    with tempfile.TemporaryDirectory(prefix="compare_heads-") as folder:
        start, cpu_start = time.monotonic(), time.process_time()
        results = train(cell_config(args, name, heads, epochs, Path(folder) / "run"))
        cpu_seconds, seconds = time.process_time() - cpu_start, time.monotonic() - start
    errors = results["test"][Z]
    return {
        "rmse": errors["rmse"],
        "mae": errors["mae"],
        "trivial_rmse": errors["trivial"]["rmse"],
        "steps": epochs * steps_per_epoch,
        "cpu_seconds": cpu_seconds,
        "seconds": seconds,
        "n_test_frames": errors["n_frames"],
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file whole or not at all."""
    from bec_mace.storage.files import replace_text

    text = json.dumps(content, indent=2) + "\n"
    replace_text(path, text)


def table(cells: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: RMSE in e and processor seconds, one row per head set; the best of each column in bold."""
    names = [name for name in DATA_SETS if cells.get(name)]
    lines = ["| heads | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for heads in HEAD_SETS:
        row = [_entry(cells[name], heads) for name in names]
        lines.append(f"| {heads} | " + " | ".join(row) + " |")
    trivial = [f"{next(iter(cells[name].values()))['trivial_rmse']:.4f}" for name in names]
    return "\n".join([*lines, "| trivial model | " + " | ".join(trivial) + " |"])


def _entry(column: Mapping[str, Any], heads: str) -> str:
    if heads not in column:
        return ""
    value = f"{column[heads]['rmse']:.4f}"
    if column[heads]["rmse"] == min(cell["rmse"] for cell in column.values()):
        value = f"**{value}**"
    return f"{value} ({column[heads]['cpu_seconds']:.0f} s)"


def run(args: argparse.Namespace) -> None:
    """All cells that are missing."""
    content = read_cells(args)

    from bec_mace.cli.console import log_to_stderr

    log_to_stderr()
    cells = content["cells"]
    for name in args.only_data:
        for heads in args.only_heads:
            if heads in cells.get(name, {}):
                print(f"{name}, {heads}: in {args.json} already", flush=True)
                continue
            print(f"{name}, {heads}", flush=True)
            cells.setdefault(name, {})[heads] = cell = run_cell(args, name, HEAD_SETS[heads])
            print(f"{name}, {heads}: RMSE {cell['rmse']:.4f} e, {cell['cpu_seconds']:.0f} s", flush=True)
            if args.json is not None:
                write_json(args.json, content)
    print(table(cells))


def main() -> int:
    try:
        run(parse_arguments())
    except BecMaceError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
