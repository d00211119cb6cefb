"""How much of Z* comes from charges, from their redistribution, and from dipoles, by element.

    Z*[j, a, b] = q_j delta_ab  (charges)  +  what moves from atom to atom as j moves  (redistribution)  +  dipoles

Kernel models of several head sets are fitted to some frames, once for each seed, which draws other frames; models that are
trained already can be added. The parts are means of tr / 3 over the atoms of an element.

The parts are not unique. Only their sum is trained, and other charges can give the same Z*: a charge q_j + a(env) whose
redistribution takes the same away, or a dipole in its place. What differs between seeds and head sets is no property of the
material; the spread in the table and the picture shows how much that is.

    python scripts/charge_partition.py --train data/water_aptnn_train.extxyz --test data/water_aptnn_test.extxyz \\
        --json partition.json --plot partition.png
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bec_mace.errors import BecMaceError, DataError

Z = "born_effective_charges"
PARTS = ("charges", "redistribution", "dipoles", "total")
HEAD_SETS = {"monopole": ["monopole"], "dipole": ["dipole"], "monopole+dipole": ["monopole", "dipole"]}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test", required=True, nargs="+", help="structures whose Z* is taken apart")
    parser.add_argument("--train", nargs="+", help="labelled frames to fit kernel models to")
    parser.add_argument("--frames", type=int, default=5, help="training frames of each fit; 5")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="each draws other frames")
    parser.add_argument("--only-heads", nargs="+", choices=list(HEAD_SETS), default=list(HEAD_SETS), metavar="HEADS")
    parser.add_argument("--r-max", type=float, default=4.5)
    parser.add_argument("--representatives", type=int, default=200, help="of each element; 200")
    parser.add_argument("--models", nargs="+", default=[], help="models that are trained already: run folders or names")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--plot", type=Path, help="picture")
    args = parser.parse_args(arguments)
    if not args.train and not args.models:
        parser.error("give --train, --models or both")
    for path in (args.json, args.plot):
        if path is not None and not path.resolve().parent.is_dir():
            parser.error(f"{path}: the folder does not exist")
    return args


def partition(model: Any, frames: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Mean of tr / 3 of each part by element, in e."""
    from ase.data import chemical_symbols

    from bec_mace.predict import predict

    if "head_contributions" not in model.provides:
        raise DataError(f"a model with the heads {', '.join(model.heads)} gives no Z*; choose another one")
    names = [name for name in (Z, "charges", "head_contributions") if name in model.provides]
    rows: dict[int, list[dict[str, float]]] = {}
    for frame, out in zip(frames, predict(model, frames, names), strict=True):
        parts = take_apart(out)
        for number, z in enumerate(frame.atomic_numbers):
            rows.setdefault(int(z), []).append({name: float(values[number]) for name, values in parts.items()})
    return {chemical_symbols[z]: {name: float(np.mean([row[name] for row in rows[z]])) for name in PARTS} for z in sorted(rows)}


def take_apart(out: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Isotropic part of Z* of each atom by its origin; charges are those of monopoles, flows and references together."""

    def isotropic(tensors: np.ndarray) -> np.ndarray:
        return np.trace(tensors, axis1=1, axis2=2) / 3.0

    shares = {name: isotropic(tensors) for name, tensors in out["head_contributions"].items()}
    charges = out.get("charges", shares["reference"])
    zero = np.zeros_like(charges)
    moved = shares.get("monopole", zero) + shares.get("charge_transfer", zero) + shares["reference"] - charges
    return {
        "charges": charges,
        "redistribution": moved + shares.get("direct", zero),
        "dipoles": shares.get("dipole", zero),
        "total": isotropic(out[Z]),
    }


def fit(args: argparse.Namespace, heads: list[str], seed: int, frames: Sequence[Any]) -> Any:
    """A kernel model of frames that the seed draws."""
    from bec_mace.config.model import KernelModelConfig
    from bec_mace.config.schema import DataConfig, KernelRunConfig
    from bec_mace.train.kernel_fit import fit_frames

    chosen = sorted(np.random.default_rng(seed).permutation(len(frames))[: args.frames].tolist())
    config = KernelRunConfig(
        seed=seed,
        data=DataConfig(train="drawn"),
        model=KernelModelConfig(
            kind="kernel", r_max=args.r_max, num_representatives=args.representatives, heads=heads, uncertainty=False
        ),
    )
    return fit_frames(config, [frames[number] for number in chosen]).model


def collect(args: argparse.Namespace) -> dict[str, list[dict[str, dict[str, float]]]]:
    """The partition of every model by its label: a head set with one entry for each seed, or a model's name."""
    from bec_mace.data import read_frames
    from bec_mace.models import load_model

    test = read_frames(args.test, properties=())
    found: dict[str, list[dict[str, dict[str, float]]]] = {}
    if args.train:
        train = read_frames(args.train, properties=(), require=(Z,))
        if args.frames > len(train):
            raise DataError(f"--frames {args.frames}: there are {len(train)} training frames; ask for fewer")
        for label in args.only_heads:
            for seed in args.seeds:
                print(f"{label}, seed {seed}", flush=True)
                found.setdefault(label, []).append(partition(fit(args, HEAD_SETS[label], seed, train), test))
    for name in args.models:
        found[str(name)] = [partition(load_model(name), test)]
    return found


def spread(rows: Sequence[Mapping[str, Mapping[str, float]]], element: str, part: str) -> tuple[float, float]:
    """Mean over the seeds and standard deviation."""
    values = [row[element][part] for row in rows]
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))


def table(found: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]]) -> str:
    """Markdown, in e; the spread is over the seeds."""
    lines = ["| element | model | " + " | ".join(PARTS) + " |", "|---|---|" + "---|" * len(PARTS)]
    for element in next(iter(found.values()))[0]:
        for label, rows in found.items():
            cells = [spread(rows, element, part) for part in PARTS]
            lines.append(
                f"| {element} | {label} | "
                + " | ".join(f"{mean:+.3f}" + (f" ± {deviation:.3f}" if len(rows) > 1 else "") for mean, deviation in cells)
                + " |"
            )
    return "\n".join(lines)


def plot(found: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]], path: Path) -> None:
    """One panel for each element, bars for each part, one colour for each model."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    elements = list(next(iter(found.values()))[0])
    figure = Figure(figsize=(4.4 * len(elements), 3.8), layout="constrained")
    width = 0.8 / len(found)
    for axes, element in zip(figure.subplots(1, len(elements), squeeze=False)[0], elements, strict=True):
        for number, (label, rows) in enumerate(found.items()):
            means, errors = zip(*(spread(rows, element, part) for part in PARTS), strict=True)
            places = np.arange(len(PARTS)) + (number - 0.5 * (len(found) - 1)) * width
            axes.bar(places, means, width, yerr=errors, capsize=2.0, label=label, color=f"C{number}")
        axes.axhline(0.0, color="black", linewidth=0.8)
        axes.set_xticks(range(len(PARTS)), labels=list(PARTS))
        axes.set(title=element, ylabel=r"mean of tr $Z^*$ / 3 (e)")
    axes.legend(frameon=False, fontsize=8)
    figure.suptitle("Only the total is trained; the parts are not unique", fontsize=10)
    FigureCanvasAgg(figure).print_figure(path, dpi=150)


def main() -> int:
    args = parse_arguments()
    try:
        found = collect(args)
        if args.json is not None:
            from bec_mace.storage.files import replace_text

            text = json.dumps(found, indent=2) + "\n"
            replace_text(args.json, text)
        print(table(found))
        if args.plot is not None:
            plot(found, args.plot)
    except BecMaceError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
