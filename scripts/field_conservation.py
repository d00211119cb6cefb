"""Is energy conserved in an electric field? Two figures, in float64.

1. NVE of 64 waters in a field of 0.1 V/Å, after a short Langevin run in the same field: the drift of kinetic + potential
   energy, that of the field included, by a linear fit. The energy of the field is -E·P for models without a monopole or
   direct head. For the others it is minus the work that the field has done, which velocity Verlet balances whatever the
   force: their drift tests the integrator alone, and the second figure is the one that counts.
2. The work of the field's forces around a closed path of all atoms, a loop in a random plane of configuration space. The
   integrand is periodic, so equal steps converge faster than any Gauss rule; half of the points give the error.

    python scripts/field_conservation.py --json conservation.json
    python scripts/field_conservation.py --monopole-model runs/monopole --json conservation.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from tqdm import tqdm

from bec_mace import BECCalculator
from bec_mace.data import read_frames
from bec_mace.errors import BecMaceError

LIMITS = {"drift_ev_per_atom_ps": 1e-5, "loop_work_ev": 1e-8}
DIRECTION = np.array([1.0, 2.0, 2.0]) / 3.0
LONGEST_BOND = 1.25
HOTTEST = 2000.0
SHORTEST = 20


def quietest_frame(source: str) -> Atoms:
    """The frame with the smallest forces among those without a stretched O-H bond; the first where no forces are known."""
    quietest: tuple[float, Atoms] | None = None
    for frame in read_frames(source, properties=("forces",)):
        atoms = frame.to_atoms()
        distances = atoms.get_all_distances(mic=True)
        to_oxygen = distances[np.ix_(atoms.numbers == 1, atoms.numbers == 8)]
        strongest = float(np.abs(frame.labels["forces"]).max()) if "forces" in frame.labels else np.inf
        if to_oxygen.min(axis=1).max() < LONGEST_BOND and (quietest is None or strongest < quietest[0]):
            quietest = strongest, Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    if quietest is None:
        raise SystemExit(f"{source}: an O-H bond is longer than {LONGEST_BOND} Å in every frame; give other --data.")
    return quietest[1]


def make_calculator(model: str, options: argparse.Namespace) -> BECCalculator:
    return BECCalculator(model, electric_field=options.field * DIRECTION, device=options.device, dtype=options.dtype)


def run(dynamics: Any, steps: int, label: str) -> np.ndarray:
    """Go some steps; time in ps, conserved energy in eV and temperature in K before and after each."""
    atoms = dynamics.atoms
    rows = []
    for number in tqdm(range(steps + 1), desc=label, disable=None, leave=False):
        if number:
            dynamics.step()
        rows.append((number * dynamics.dt / units.fs / 1000, atoms.get_total_energy(), atoms.get_temperature()))
        if not rows[-1][2] < HOTTEST:
            raise SystemExit(
                f"{label}: {rows[-1][2]:.0f} K after {number} steps; the model does not hold the structure "
                "together. Train it on more frames, or take a shorter --time-step."
            )
    return np.array(rows)


def drift(rows: np.ndarray, n_atoms: int) -> dict[str, float]:
    """Slope of the energy and its standard error from ten blocks, in eV/atom/ps."""
    slope, offset = np.polyfit(rows[:, 0], rows[:, 1], 1)
    residuals = rows[:, 1] - slope * rows[:, 0] - offset
    blocks = [block.mean() for block in np.array_split(residuals, 10)]
    middles = np.array([block.mean() for block in np.array_split(rows[:, 0], 10)])
    error = np.std(blocks, ddof=2) / np.sqrt(np.sum((middles - middles.mean()) ** 2))
    return {
        "drift_ev_per_atom_ps": abs(float(slope)) / n_atoms,
        "drift_standard_error": float(error) / n_atoms,
        "fluctuation_ev_per_atom": float(residuals.std()) / n_atoms,
        "temperature_K": float(rows[:, 2].mean()),
    }


def dynamics_figures(model: str, atoms: Atoms, options: argparse.Namespace) -> dict[str, float]:
    atoms.calc = make_calculator(model, options)
    rng = np.random.default_rng(options.seed)
    masses = atoms.get_masses()[:, None]
    atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * np.sqrt(masses * units.kB * options.temperature))
    step = options.time_step * units.fs
    warm = Langevin(atoms, step, temperature_K=options.temperature, friction=0.02 / units.fs, fixcm=False, rng=rng)
    run(warm, options.equilibration, "equilibration")
    velocity = atoms.get_momenta().sum(axis=0) / masses.sum()
    atoms.set_momenta(atoms.get_momenta() - masses * velocity)
    atoms.calc.reset_field_work()
    return drift(run(VelocityVerlet(atoms, step), options.steps, "NVE"), len(atoms))


def loop_figures(model: str, atoms: Atoms, options: argparse.Namespace) -> dict[str, float]:
    """Work around r(s) = r0 + u (cos s - 1) + v sin s with random u and v."""
    calc = make_calculator(model, options)
    u, v = np.random.default_rng(options.seed).normal(scale=options.loop_size, size=(2, len(atoms), 3))
    start, angles = atoms.positions.copy(), 2 * np.pi * np.arange(options.loop_points) / options.loop_points
    power = []
    for angle in tqdm(angles, desc="closed path", disable=None, leave=False):
        atoms.positions = start + u * (np.cos(angle) - 1) + v * np.sin(angle)
        power.append(np.sum(calc.get_property("field_forces", atoms) * (v * np.cos(angle) - u * np.sin(angle))))
    atoms.positions = start
    work, half = 2 * np.pi * np.mean(power), 2 * np.pi * np.mean(power[::2])
    return {
        "loop_work_ev": abs(float(work)),
        "loop_error_ev": abs(float(work - half)),
        "loop_absolute_work_ev": float(2 * np.pi * np.mean(np.abs(power))),
    }


def figures(model: str, options: argparse.Namespace) -> dict[str, float]:
    atoms = quietest_frame(options.data)
    found = dynamics_figures(model, atoms, options) if options.steps else {}
    found |= loop_figures(model, atoms, options)
    return found


def print_table(results: dict[str, dict[str, float]]) -> None:
    names = list(results)
    print(f"| figure | {' | '.join(names)} | bar |\n|{'---|' * (len(names) + 2)}")
    for key in results[names[0]]:
        cells = " | ".join(f"{results[name][key]:.1f}" if key.endswith("_K") else f"{results[name][key]:.1e}" for name in names)
        print(f"| {key} | {cells} | {LIMITS.get(key, '')} |")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="water", help="charge_transfer, dipole or both, with an energy head")
    parser.add_argument("--monopole-model", metavar="PATH", help="a model with monopole and energy heads, to compare")
    parser.add_argument("--data", default="bec_mace:water_revpbe_d3.extxyz.gz", help="the frame with the smallest forces")
    parser.add_argument("--steps", type=int, default=10_000, help="0 leaves the dynamics out")
    parser.add_argument("--equilibration", type=int, default=1000, help="steps of Langevin dynamics before")
    parser.add_argument("--time-step", type=float, default=0.5, help="fs")
    parser.add_argument("--temperature", type=float, default=320.0, help="K")
    parser.add_argument("--field", type=float, default=0.1, help="V/Å")
    parser.add_argument("--loop-points", type=int, default=256, help="an even number")
    parser.add_argument("--loop-size", type=float, default=0.05, help="size of the displacements, Å")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    options = parser.parse_args()
    if options.loop_points < 2 or options.loop_points % 2:
        parser.error("--loop-points must be even")
    if 0 < options.steps < SHORTEST:
        parser.error(f"--steps must be 0, or at least {SHORTEST} for a fit")
    return options


def main() -> int:
    options = parse()
    torch.set_num_threads(options.threads)
    results = {"model": figures(options.model, options)}
    if options.monopole_model:
        results["monopole"] = figures(options.monopole_model, options)
    print_table(results)
    settings = {name: value for name, value in vars(options).items() if name != "json"}
    if options.json is not None:
        content = {**results["model"], "limits": LIMITS, "settings": settings}
        if "monopole" in results:
            content["monopole"] = results["monopole"]
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0 if all(results["model"].get(name, 0.0) < limit for name, limit in LIMITS.items()) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BecMaceError as error:
        sys.exit(f"error: {error}")
