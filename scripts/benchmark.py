"""One program for all figures of speed and memory: one table, one file, one plot.

    OMP_NUM_THREADS=1 python scripts/benchmark.py --json docs/figures/benchmark_cpu.json --plot docs/figures/benchmark_cpu.png
    python scripts/benchmark.py --device cuda --only ratios mace training gpu --json docs/figures/benchmark_gpu.json

192 atoms of water, 2 layers, 64x0e + 64x1o, r_max 5 Å, one thread. On the CPU time is processor time, in turns and as medians,
so that other programs on the machine disturb little. Parts of one file are measured when they are asked for (``--only``).

    ratios    Z* of each head set, forces of a field, and the phase form, over energy and forces of the same backbone
              (phase: P = sum q exp(2 pi i x / L) through plain autograd, six backward passes)
    mace      energy and forces of a mace model by mace and by this package
    training  optimizer steps with labels of Z* over those with energies and forces
    sizes     atoms/s and peak memory from 100 atoms on, each size in its own process, in blocks where needed
    predict   share of the model in a stream of frames; memory for N and 4 N frames
    gpu       sizes and 192 atoms on a GPU, beside one CPU thread and beside the device's own limits
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from benchmarking import cost, report, scale
from benchmarking.systems import Sizes

PARTS = ("ratios", "mace", "training", "sizes", "predict", "gpu")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help="parts to measure; all that the machine can")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results here, over those of the same parts")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw all results of the file, or of this run")
    parser.add_argument("--markdown", action="store_true", help="measure nothing; print the tables of --json FILE")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; of ratios, mace, training and predict")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--sizes", type=int, nargs="+", metavar="ATOMS", help="100 to 100,000; to 1,000,000 on a GPU")
    parser.add_argument("--max-atoms", type=int, default=10**9, help="leave out larger sizes")
    parser.add_argument("--memory", type=float, default=8.0, metavar="GB", help="what an evaluation on the CPU may take; 8")
    parser.add_argument("--frames", type=int, default=24, help="N of predict; 24")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--max-l", type=int, default=3)
    parser.add_argument("--correlation", type=int, default=3)
    parser.add_argument("--data", default="bec_mace:water_revpbe_d3.extxyz.gz", help="frames with labels; the first is timed")
    parser.add_argument("--quick", action="store_true", help="a small network, few repeats: does it run at all?")
    parser.add_argument("--one", nargs=2, metavar=("PART", "N"), help=argparse.SUPPRESS)  # What this program starts itself.
    args = parser.parse_args()
    if args.quick:
        args.channels, args.max_l, args.correlation, args.repeats = 4, 1, 2, 1
        args.sizes, args.frames = args.sizes or [100, 200], min(args.frames, 2)
    if args.markdown and (args.json is None or not args.json.exists()):
        parser.error("--markdown needs --json FILE, and the file")
    if args.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device {args.device}: torch finds no GPU; leave it out")
    return args


def systems(args: argparse.Namespace, device: str, defaults: list[int], memory: float) -> list[dict[str, Any]]:
    rows = []
    for n_atoms in args.sizes or defaults:
        if n_atoms <= args.max_atoms:
            rows.append(
                scale.in_process(["--one", "sizes", str(n_atoms), "--device", device, "--memory", str(memory), *network(args)])
            )
            print(
                f"  {device}, {rows[-1]['n_atoms']} atoms: {rows[-1]['atoms_per_second']:.0f} atoms/s, "
                f"{rows[-1]['peak_memory_gb']:.2f} GB",
                file=sys.stderr,
                flush=True,
            )
    return rows


def network(args: argparse.Namespace) -> list[str]:
    """The arguments that a process for one measurement needs."""
    return [
        "--channels",
        str(args.channels),
        "--max-l",
        str(args.max_l),
        "--correlation",
        str(args.correlation),
        "--repeats",
        str(args.repeats),
        "--data",
        args.data,
    ]


def run_predict(args: argparse.Namespace) -> dict[str, Any]:
    rows = [
        scale.in_process(["--one", "predict", str(count), "--device", args.device, *network(args)])
        for count in (args.frames, 4 * args.frames)
    ]
    return {"runs": rows, "memory_ratio": rows[1]["peak_memory_gb"] / rows[0]["peak_memory_gb"]}


def run_gpu(args: argparse.Namespace, sizes: Sizes) -> dict[str, Any]:
    rows = systems(args, "cuda", [100, 1000, 10_000, 100_000, 1_000_000], 1e6)
    thread = systems(args, "cpu", [2000], args.memory)[-1]["atoms_per_second"]
    largest = rows[-1]
    model = scale.build(["monopole"], sizes)
    found = scale.floor(sizes, model, largest["n_atoms"], largest["n_edges"])
    return {
        "small": scale.small(sizes),
        "systems": rows,
        "one_thread_atoms_per_second": thread,
        "over_one_thread": max(row["atoms_per_second"] for row in rows) / thread,
        "share_of_floor": found["floor_seconds"] / largest["seconds"],
        **found,
    }


def run_part(name: str, args: argparse.Namespace, sizes: Sizes) -> dict[str, Any]:
    """The results of one part, by their keys in the file."""
    if name == "ratios":
        return cost.ratios(sizes)
    if name == "sizes":
        return {"sizes": {"systems": systems(args, "cpu", [100, 500, 2000, 5000, 20_000, 100_000], args.memory)}}
    if name == "predict":
        return {"predict": run_predict(args)}
    if name == "training":  # In a process of its own: it sets the allocator.
        return {name: scale.in_process(["--one", name, "0", "--device", args.device, *network(args)])}
    if name == "gpu":
        return {"gpu": run_gpu(args, Sizes(**{**vars(sizes), "device": "cuda"}))}
    return {"mace": cost.mace(sizes)}


def main() -> int:
    args = parse_arguments()
    torch.set_num_threads(1)
    sizes = Sizes(args.channels, args.max_l, args.correlation, args.repeats, args.device, args.data)
    if args.one:
        part, count = args.one[0], int(args.one[1])
        jobs = {
            "sizes": lambda: scale.one_size(sizes, count, args.memory),
            "predict": lambda: scale.predict(sizes, count),
            "training": lambda: cost.training(sizes),
        }
        print(json.dumps(jobs[part]()))
        return 0
    figures: dict[str, Any] = json.loads(args.json.read_text(encoding="utf-8")) if args.markdown else {}
    if args.markdown:
        print(report.markdown(figures))
    else:
        for name in args.only or [part for part in PARTS if part != "gpu" or torch.cuda.is_available()]:
            print(f"{name} ...", file=sys.stderr, flush=True)
            device = "cuda" if name == "gpu" else args.device
            part = {**run_part(name, args, sizes), "machines": {name: report.machine(device)}}
            figures = report.merge(args.json, part) if args.json else {**figures, **part}
        print(report.table(figures))
    if args.plot:
        report.plot(figures, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
