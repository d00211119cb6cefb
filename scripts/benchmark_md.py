"""Extra cost of Z* per step of molecular dynamics, over the same potential without it: same backbone, one pass, one thread.

192 atoms of water, 2 layers, 64x0e + 64x1o, r_max 5 Å, as in benchmark.py. The potential is a model with an energy
head alone; beside it stand models with an energy head and heads for Z*, which give energy, forces and either the whole Z* or
the forces of a field from one pass. A step is one call of the calculator at new positions, neighbour list and copies included.

    OMP_NUM_THREADS=1 python scripts/benchmark_md.py --json md.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from bec_mace import BECCalculator
from bec_mace.config.model import ModelConfig
from bec_mace.data import Frame, compute_statistics, read_frames
from bec_mace.models import PolarizationModel, build_model

HEAD_SETS = {
    "monopole": ["monopole", "energy"],
    "charge_transfer": ["charge_transfer", "energy"],
    "dipole": ["dipole", "energy"],
    "charge_transfer+dipole": ["charge_transfer", "dipole", "energy"],
}
LIMITS = {"monopole": 0.9, "monopole, field forces only": 0.6}
FIELD = (0.03, -0.05, 0.08)
WARM_UP = 3  # The first calls allocate and compile.


def build(heads: list[str], frame: Frame, args: argparse.Namespace) -> PolarizationModel:
    config = ModelConfig(
        r_max=5.0,
        channels=64,
        max_l=args.max_l,
        hidden_max_l=1,
        correlation=args.correlation,
        num_interactions=2,
        radial_mlp=[64, 64, 64],
        heads=heads,
    )
    torch.manual_seed(0)
    return build_model(config, [1, 8], compute_statistics([frame], 5.0), torch.float32).eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="bec_mace:water_revpbe_d3.extxyz.gz", help="frames; the first is used")
    parser.add_argument("--heads", nargs="+", choices=list(HEAD_SETS), default=["monopole", "charge_transfer+dipole"])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--max-l", type=int, default=3)
    parser.add_argument("--correlation", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    frame = read_frames(args.data, properties=())[0]
    atoms = frame.to_atoms()
    jobs = {"energy+forces": BECCalculator(build(["energy"], frame, args), device=args.device)}
    for name in args.heads:
        model = build(HEAD_SETS[name], frame, args)
        jobs[name] = BECCalculator(model, device=args.device, always=["born_effective_charges"])
        jobs[f"{name}, field forces only"] = BECCalculator(model, device=args.device, electric_field=FIELD)

    times: dict[str, list[float]] = {name: [] for name in jobs}
    rng = np.random.default_rng(0)
    # Work on the CPU is counted in processor time, which other programs do not disturb.
    clock = time.process_time if args.device == "cpu" else time.perf_counter
    for number in range(args.repeats + WARM_UP):
        atoms.positions += rng.normal(scale=0.005, size=atoms.positions.shape)
        for name, calc in jobs.items():
            start = clock()
            calc.get_forces(atoms)
            if number >= WARM_UP:
                times[name].append(clock() - start)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    extra = {
        name: statistics.median(a / b for a, b in zip(times[name], times["energy+forces"], strict=True)) - 1
        for name in jobs
        if name != "energy+forces"
    }
    print(f"{len(atoms)} atoms, correlation {args.correlation}, max_l {args.max_l}, {args.device}")
    print(f"{'':40s} {'seconds':>9s} {'extra cost':>11s} {'bar':>6s}")
    for name in jobs:
        print(f"{name:40s} {seconds[name]:9.4f} {extra.get(name, 0.0):11.2f} {LIMITS.get(name, ''):>6}")
    if args.json:
        args.json.write_text(json.dumps({"extra_cost": extra, "seconds": seconds, "limits": LIMITS}, indent=2) + "\n")


if __name__ == "__main__":
    main()
