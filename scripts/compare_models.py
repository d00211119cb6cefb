"""Kernel models against networks: learning curves for monopoles, dipoles and both, on several data sets.

The frames of a file are split once: some are held out for the test, the training frames of each size and seed are drawn
from the rest. Every model of a size and seed sees the same frames. A kernel model is fitted by one linear solve; a network
takes so many steps of SOAP, whatever the size.

    python scripts/compare_models.py --json models.json --plot models.png
    python scripts/compare_models.py --train my_train.extxyz --test my_test.extxyz --sizes 5 10 --json mine.json

The JSON file is written after every cell, and cells that it holds are not run again.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bec_mace.config.model import KernelModelConfig, ModelConfig
from bec_mace.config.schema import (
    DataConfig,
    FitConfig,
    KernelRunConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    TrainingConfig,
)
from bec_mace.errors import BecMaceError, DataError

Z = "born_effective_charges"


@dataclass(frozen=True)
class DataSet:
    """A file and what suits it."""

    path: str
    r_max: float
    sizes: tuple[int, ...]


DATA_SETS = {
    "water_aptnn": DataSet("data/water_aptnn_train.extxyz", 4.5, (2, 5, 10, 20)),
    "water_rpbe_d3": DataSet("data/water_rpbe_d3.extxyz", 4.5, (5, 10, 20, 40)),
    "quartz": DataSet("data/quartz_pbe.extxyz", 5.0, (5, 10, 20, 40, 80)),
}
OWN = "files"
MODELS = {
    f"{kind} {heads}": (kind, heads.split("+"))
    for kind in ("kernel", "network")
    for heads in ("monopole", "dipole", "monopole+dipole")
}
SETTINGS = (
    "test_fraction",
    "r_max",
    "representatives",
    "num_radial",
    "max_l",
    "smearing",
    "zeta",
    "steps",
    "channels",
    "learning_rate",
    "train",
    "test",
)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="+", help="your frames to draw training sets from, in place of the data sets")
    parser.add_argument("--test", nargs="+", help="your frames to test on; needed with --train")
    for name, data in DATA_SETS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            default=data.path,
            metavar="FILE",
            help=f"frames of {name}; {data.path} by default",
        )
    parser.add_argument("--sizes", nargs="+", type=int, help="numbers of training frames; a list for each data set by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the choice of frames and of the weights")
    parser.add_argument("--test-fraction", type=float, default=0.2, help="share of a data set that is held out; 0.2")
    parser.add_argument("--r-max", type=float, help="cutoff in Å; one for each data set by default, 4.5 for --train")
    kernel, network = KernelModelConfig(kind="kernel", r_max=1.0, heads=["dipole"]), parser.add_argument_group("networks")
    group = parser.add_argument_group("kernel models")
    group.add_argument("--representatives", type=int, default=kernel.num_representatives, help="of each element")
    group.add_argument("--num-radial", type=int, default=kernel.num_radial)
    group.add_argument("--max-l", type=int, default=kernel.max_l)
    group.add_argument("--smearing", type=float, default=kernel.smearing, help="in Å")
    group.add_argument("--zeta", type=int, default=kernel.zeta)
    group.add_argument("--memory-gb", type=float, default=4.0)
    network.add_argument("--steps", type=int, default=400, help="optimizer steps, to the nearest whole epoch; 400")
    network.add_argument("--channels", type=int, default=32)
    network.add_argument("--learning-rate", type=float, default=0.15, help="of SOAP; 0.15")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only-data", nargs="+", choices=list(DATA_SETS), default=list(DATA_SETS), metavar="NAME")
    parser.add_argument(
        "--only-models",
        nargs="+",
        choices=list(MODELS),
        default=list(MODELS),
        metavar="NAME",
        help=f"some of {', '.join(repr(name) for name in MODELS)}",
    )
    parser.add_argument("--json", type=Path, help="file for the numbers; cells in it are kept")
    parser.add_argument("--plot", type=Path, help="picture of the learning curves")
    args = parser.parse_args(arguments)
    if (args.train is None) != (args.test is None):
        parser.error("--train and --test belong together")
    for path in (args.json, args.plot):
        if path is not None and not path.resolve().parent.is_dir():
            parser.error(f"{path}: the folder does not exist")
    if args.sizes is not None and min(args.sizes) < 1:
        parser.error(f"--sizes must be at least 1, got {min(args.sizes)}")
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
        old, cells = found["settings"], found["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{args.json}: not a file of this script ({error!r}); name another one") from error
    if old != settings:
        raise DataError(f"{args.json}: made with {old}, asked for {settings}; name another file")
    return {"settings": settings, "cells": cells}


def read_sets(args: argparse.Namespace, name: str) -> tuple[list[Any], list[Any]]:
    """Frames to draw training sets from, and those to test on."""
    from bec_mace.data import read_frames, split_frames
    from bec_mace.data.splits import check_overlap

    if name == OWN:
        train, test = (read_frames(files, properties=(), require=(Z,)) for files in (args.train, args.test))
        check_overlap({"train": train, "test": test})
        return train, test
    config = DataConfig(train=getattr(args, name), validation=0.0, test=args.test_fraction, seed=0)
    sets = split_frames(config, properties=(Z,))
    return sets["train"], sets["test"]


def draw(frames: Sequence[Any], size: int, seed: int) -> list[Any]:
    """So many frames; those of a smaller size are among them."""
    import numpy as np

    chosen = sorted(np.random.default_rng(seed).permutation(len(frames))[:size].tolist())
    return [frames[number] for number in chosen]


def cutoff(args: argparse.Namespace, name: str) -> float:
    if args.r_max is not None:
        return float(args.r_max)
    return DATA_SETS[name].r_max if name in DATA_SETS else 4.5


def fit_kernel_cell(args: argparse.Namespace, name: str, heads: list[str], seed: int, frames: list[Any]) -> tuple[Any, dict]:
    """Fit a kernel model."""
    from bec_mace.train.kernel_fit import fit_frames

    fitted = fit_frames(
        KernelRunConfig(
            seed=seed,
            device=args.device,
            data=DataConfig(train="drawn"),
            model=KernelModelConfig(
                kind="kernel",
                r_max=cutoff(args, name),
                num_radial=args.num_radial,
                max_l=args.max_l,
                smearing=args.smearing,
                zeta=args.zeta,
                num_representatives=args.representatives,
                heads=heads,
            ),
            fit=FitConfig(memory_gb=args.memory_gb),
        ),
        frames,
        args.device,
    )
    return fitted.model, {"noise": fitted.figures["noise"], "n_weights": fitted.figures["n_weights"]}


def train_network_cell(args: argparse.Namespace, name: str, heads: list[str], seed: int, frames: list[Any]) -> tuple[Any, dict]:
    """Train a network."""
    import torch
    from ase.io import write

    from bec_mace.models import load_model
    from bec_mace.train.loop import train

    epochs = max(1, round(args.steps / len(frames)))
    with tempfile.TemporaryDirectory(prefix="compare_models-") as folder:
        path = Path(folder) / "train.extxyz"
        write(path, [frame.to_atoms() for frame in frames], format="extxyz")
        train(
            RunConfig(
                output=Path(folder) / "run",
                seed=seed,
                device=args.device,
                data=DataConfig(train=str(path), validation=0.0),
                model=ModelConfig(r_max=cutoff(args, name), channels=args.channels, radial_mlp=[32, 32], heads=list(heads)),
                training=TrainingConfig(
                    epochs=epochs,
                    optimizer=OptimizerConfig(name="soap", learning_rate=args.learning_rate),
                    schedule=ScheduleConfig(warmup_epochs=0.1 * epochs),
                    ema_decay=0.95,
                ),
            )
        )
        return load_model(Path(folder) / "run", args.device, torch.float32), {"steps": epochs * len(frames)}


def run_cell(args: argparse.Namespace, name: str, model_name: str, seed: int, train: list[Any], test: list[Any]) -> dict:
    """Fit or train, then test; the times are those of the fit."""
    from bec_mace.evaluate.comparison import compare, summarize_comparison

    kind, heads = MODELS[model_name]
    start, cpu_start = time.monotonic(), time.process_time()
    model, figures = (fit_kernel_cell if kind == "kernel" else train_network_cell)(args, name, heads, seed, train)
    seconds, cpu_seconds = time.monotonic() - start, time.process_time() - cpu_start
    result = summarize_comparison(compare(model, test))
    if kind == "kernel":  # A deviation of Z* costs as much as a frame of the fit.
        result["uncertainty"] = summarize_comparison(compare(model, test[:5], uncertainty=True))["uncertainty"]
        figures.update(within_68=result["uncertainty"]["within_68"], within_95=result["uncertainty"]["within_95"])
    errors = result[Z]
    return {
        "rmse": errors["rmse"],
        "mae": errors["mae"],
        "trivial_rmse": errors["trivial"]["rmse"],
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "atoms_per_second": measure_speed(model, test),
        "n_test_frames": len(test),
        **figures,
    }


def measure_speed(model: Any, frames: list[Any]) -> float:
    """Atoms for which Z* is predicted in a second of processor time, in single precision, neighbour lists included."""
    import torch

    from bec_mace.predict import predict

    model = copy.deepcopy(model).to(torch.float32)
    list(predict(model, frames[:1]))  # The first call is slower.
    start = time.process_time()
    list(predict(model, frames))
    return sum(len(frame) for frame in frames) / (time.process_time() - start)


def cells_to_run(args: argparse.Namespace, n_frames: int, name: str) -> Iterator[tuple[int, int, str]]:
    """Sizes, seeds and models, the small sizes first."""
    for size in sorted(set(args.sizes or DATA_SETS[name].sizes)):
        if size > n_frames:
            raise DataError(f"--sizes {size}: {name} has {n_frames} training frames; ask for fewer")
        for seed in args.seeds:
            for model_name in args.only_models:
                yield size, seed, model_name


def statistics(column: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
    """Mean RMSE over the seeds, and its standard deviation."""
    values = [cell["rmse"] for cell in column.values()]
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))


def table(cells: Mapping[str, Any]) -> str:
    """Markdown: RMSE in e with its spread over the seeds, and processor seconds of the fit."""
    lines = []
    for name, models in cells.items():
        sizes = sorted({int(size) for column in models.values() for size in column})
        lines += [f"| {name}, training frames | " + " | ".join(map(str, sizes)) + " |", "|---|" + "---|" * len(sizes)]
        for model_name, column in models.items():
            row = []
            for size in sizes:
                seeds = column.get(str(size))
                if not seeds:
                    row.append("")
                    continue
                mean, spread = statistics(seeds)
                seconds = sum(cell["cpu_seconds"] for cell in seeds.values()) / len(seeds)
                row.append(f"{mean:.4f}" + (f" ± {spread:.4f}" if len(seeds) > 1 else "") + f" ({seconds:.0f} s)")
            lines.append(f"| {model_name} | " + " | ".join(row) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()


def plot(cells: Mapping[str, Any], path: Path) -> None:
    """One panel for each data set, both axes logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, LogLocator

    figure = Figure(figsize=(4.6 * len(cells), 4.0), layout="constrained")
    for axes, (name, models) in zip(figure.subplots(1, len(cells), squeeze=False)[0], cells.items(), strict=True):
        for model_name, column in models.items():
            sizes = sorted(map(int, column))
            means, spreads = zip(*(statistics(column[str(size)]) for size in sizes), strict=True)
            number = list(MODELS).index(model_name)
            axes.errorbar(
                sizes,
                means,
                yerr=spreads,
                label=model_name,
                capsize=2.0,
                marker="os"[number // 3],
                markersize=4.0,
                linestyle=("-", "--")[number // 3],
                color=f"C{number % 3}",
            )
        axes.set(xscale="log", yscale="log", xlabel="training frames", ylabel=r"RMSE of $Z^*$ (e)", title=name)
        ticks = sorted({int(size) for column in models.values() for size in column})
        axes.set_xticks(ticks, labels=list(map(str, ticks)))
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    handles = {label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(
        [handles[name] for name in MODELS if name in handles],
        [name for name in MODELS if name in handles],
        frameon=False,
        fontsize=8,
        ncols=6,
        loc="outside lower center",
    )
    FigureCanvasAgg(figure).print_figure(path, dpi=150)


def run(args: argparse.Namespace) -> None:
    """All cells that are missing."""
    from bec_mace.cli.console import log_to_stderr
    from bec_mace.storage.files import replace_text

    content = read_cells(args)
    cells = content["cells"]
    log_to_stderr()
    for name in [OWN] if args.train else args.only_data:
        train, test = read_sets(args, name)
        for size, seed, model_name in cells_to_run(args, len(train), name):
            place = cells.setdefault(name, {}).setdefault(model_name, {}).setdefault(str(size), {})
            if str(seed) in place:
                continue
            print(f"{name}, {size} frames, seed {seed}, {model_name}", flush=True)
            place[str(seed)] = cell = run_cell(args, name, model_name, seed, draw(train, size, seed), test)
            print(
                f"{name}, {size} frames, seed {seed}, {model_name}: RMSE {cell['rmse']:.4f} e, {cell['cpu_seconds']:.0f} s",
                flush=True,
            )
            if args.json is not None:
                text = json.dumps(content, indent=2) + "\n"
                replace_text(args.json, text)
    cells = {
        name: {model: {size: seeds for size, seeds in column.items() if seeds} for model, column in models.items()}
        for name, models in cells.items()
    }
    print(table(cells))
    if args.plot is not None:
        plot(cells, args.plot)


def main() -> int:
    args = parse_arguments()
    if args.train and not args.sizes:
        args.sizes = [2, 5, 10]
    try:
        run(args)
    except BecMaceError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
