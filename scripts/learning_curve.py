"""Test error against the number of training frames.

A model is trained for each size on a random subset of the training frames, smaller subsets being part of larger ones,
and tested on frames of its own. The epochs of the configuration belong to the largest size N. A size n gets

    steps(n) = steps(N) (n / N)^x,      x = --step-exponent

so that fewer frames are seen more often. What the configuration says of training, validation and test files does not
count; keys and index order do, for both files.

    python scripts/learning_curve.py --train train.extxyz --test test.extxyz --sizes 5 10 20 29 \\
        --config configs/water_aptnn.yaml --json curve.json

The JSON file is written after every size, errors in e and times in s:
{"10": {"rmse": .., "mae": .., "epochs": .., "seconds": .., ..}, ..}
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bec_mace.config.schema import DataConfig, RunConfig, load_config
from bec_mace.errors import BecMaceError, ConfigError, DataError

Z = "born_effective_charges"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, nargs="+", help="frames to choose the training sets from")
    parser.add_argument("--test", required=True, nargs="+", help="frames to test on; none may be a training frame")
    parser.add_argument("--sizes", required=True, nargs="+", type=int, help="numbers of training frames")
    parser.add_argument("--config", required=True, help="YAML file with the model and how to train it")
    parser.add_argument("--json", required=True, type=Path, help="file for the errors")
    parser.add_argument("--output", type=Path, help="keep the run folders here; not kept by default")
    parser.add_argument("--resume", action="store_true", help="go on with the runs in --output")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of frames; the YAML has that of the weights")
    parser.add_argument("--step-exponent", type=float, default=0.5, help="x above; 0.5 by default")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key of the configuration; can be given several times",
    )
    args = parser.parse_args(arguments)
    if min(args.sizes) < 1:
        parser.error(f"--sizes must be at least 1, got {min(args.sizes)}")
    if args.seed < 0:
        parser.error(f"--seed must not be negative, got {args.seed}")
    if args.resume and args.output is None:
        parser.error("--resume needs --output, where the runs are")
    if args.json.is_dir() or not args.json.resolve().parent.is_dir():
        parser.error(f"--json {args.json}: name a file in a folder that exists")
    return args


def read_sets(args: argparse.Namespace, config: RunConfig) -> tuple[list[Any], list[Any]]:
    """Training and test frames, checked against each other.

    Raises:
        DataError: Labels are missing, a size is larger than the file, or a frame is in both sets.
    """
    from bec_mace.data import read_frames
    from bec_mace.data.splits import check_overlap

    data = config.data
    trained = [name for name, weight in config.training.loss.weights.items() if weight > 0]
    train = read_frames(
        args.train,
        keys=data.keys,
        index_order=data.index_order,
        properties=(),
        require=[*dict.fromkeys([Z, *trained])],
        allow_missing=data.allow_missing,
    )
    test = read_frames(
        args.test,
        keys={name: key for name, key in data.keys.items() if name == Z},
        index_order=data.index_order,
        properties=(),
        require=(Z,),
    )
    if max(args.sizes) > len(train):
        raise DataError(f"--sizes {max(args.sizes)}: {', '.join(args.train)} holds {len(train)} frames; ask for fewer")
    check_overlap({"train": train, "test": test})
    return train, test


def choose(n_frames: int, size: int, seed: int) -> list[int]:
    """Numbers of ``size`` of ``n_frames`` frames, ascending; those of a smaller size are among them."""
    import numpy as np

    return sorted(np.random.default_rng(seed).permutation(n_frames)[:size].tolist())


def schedule(config: RunConfig, size: int, largest: int, exponent: float) -> dict[str, float]:
    """Epochs of one size, and of them the warm-up, which keeps its share."""
    training = config.training
    steps = training.epochs * math.ceil(largest / training.batch_size) * (size / largest) ** exponent
    epochs = max(1, round(steps / math.ceil(size / training.batch_size)))
    return {"epochs": epochs, "warmup_epochs": training.schedule.warmup_epochs * epochs / training.epochs}


def config_of_size(config: RunConfig, size: int, args: argparse.Namespace, folder: Path) -> RunConfig:
    """The configuration for one size; its training frames are in ``folder/train_SIZE.extxyz``."""
    plan = schedule(config, size, max(args.sizes), args.step_exponent)
    warmup = config.training.schedule.model_copy(update={"warmup_epochs": plan["warmup_epochs"]})
    training = config.training.model_copy(
        update={"epochs": plan["epochs"], "schedule": warmup, "early_stopping_patience": None, "time_limit_minutes": None}
    )
    data = DataConfig(
        train=str(folder / f"train_{size}.extxyz"),
        validation=0.0,
        test=None,
        allow_missing=config.data.allow_missing,
        egg_box=config.data.egg_box,
    )
    return config.model_copy(update={"output": folder / f"n{size}", "num_processes": 1, "data": data, "training": training})


def run_size(config: RunConfig, train_frames: Sequence[Any], test_frames: Sequence[Any], resume: bool) -> dict[str, Any]:
    """Train on some frames, test on others."""
    import torch
    from ase.io import write

    from bec_mace.devices import DTYPES
    from bec_mace.evaluate.comparison import evaluate
    from bec_mace.models import load_model
    from bec_mace.train.loop import train

    # As the package writes them: usual keys, polarization first.
    write(str(config.data.train), [frame.to_atoms() for frame in train_frames], format="extxyz")
    results = train(config, resume=resume)
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    errors = evaluate(load_model(config.output, device, DTYPES[config.precision]), test_frames)[Z]
    steps = results["epochs"] * math.ceil(len(train_frames) / config.training.batch_size)
    return {
        "rmse": errors["rmse"],
        "mae": errors["mae"],
        "epochs": results["epochs"],
        "steps": steps,
        "seconds": results["seconds"],
        "diagonal_rmse": errors["diagonal_rmse"],
        "off_diagonal_rmse": errors["off_diagonal_rmse"],
        "trivial_rmse": errors["trivial"]["rmse"],
        "n_test_frames": len(test_frames),
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file whole or not at all."""
    from bec_mace.storage.files import replace_text

    text = json.dumps(content, indent=2) + "\n"
    replace_text(path, text)


def table(curve: Mapping[str, Mapping[str, Any]]) -> str:
    """The errors by size."""
    lines = ["frames   RMSE (e)    MAE (e)   epochs    steps   time (s)"]
    for size, row in curve.items():
        lines.append(
            f"{size:>6s} {row['rmse']:10.5f} {row['mae']:10.5f} {row['epochs']:8d} {row['steps']:8d} {row['seconds']:10.1f}"
        )
    return "\n".join(lines)


def run(args: argparse.Namespace, folder: Path) -> None:
    """All sizes, the smallest first."""
    config = load_config(args.config, args.overrides)
    if not isinstance(config, RunConfig):
        raise ConfigError(f"{args.config}: is for a kernel model, which has no steps; use scripts/compare_models.py")
    if config.training.schedule.name == "plateau":
        raise ConfigError(
            f"{args.config}: the plateau schedule needs validation frames, and there are none here; choose cosine or constant"
        )

    from bec_mace.cli.console import log_to_stderr
    from bec_mace.train.prepare import check_elements, elements_of

    train_frames, test_frames = read_sets(args, config)
    sizes = sorted(set(args.sizes))
    subsets = {size: [train_frames[i] for i in choose(len(train_frames), size, args.seed)] for size in sizes}
    for subset in subsets.values():
        check_elements(test_frames, elements_of(subset), "test")
    folder.mkdir(parents=True, exist_ok=True)
    log_to_stderr()
    curve: dict[str, Any] = {}
    for size, subset in subsets.items():
        part = config_of_size(config, size, args, folder)
        print(f"{size} of {len(train_frames)} frames, {part.training.epochs} epochs", flush=True)
        curve[str(size)] = run_size(part, subset, test_frames, args.resume)
        write_json(args.json, curve)
        print(f"{size} frames: RMSE {curve[str(size)]['rmse']:.5f} e on {len(test_frames)} test frames", flush=True)
    print(table(curve))


def main() -> int:
    args = parse_arguments()
    try:
        if args.output is not None:
            run(args, args.output)
        else:
            with tempfile.TemporaryDirectory(prefix="learning_curve-") as folder:
                run(args, Path(folder))
    except BecMaceError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
