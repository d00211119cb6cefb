"""How exact are Coulomb sums, and the networks that use them? Largest errors, in float64, in under a minute.

python scripts/check_electrostatics.py --json electrostatics.json

reference_energies  three charges, alone and in a triclinic cell, against another program, in eV
madelung            constants of NaCl, CsCl and zincblende, relative to the distance of neighbours
forces, stress      of networks with each kind of screening against finite differences, in eV/Å and eV/Å^3
supercell           energy (eV per cell), forces (eV/Å) and Z* (e) of supercells and of atoms put elsewhere
dipole_in_a_cell    a water molecule in 50 Å against none: the relative error of -2 pi k_e mu^2 / 3 V
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bec_mace.data import Frame, build_graph
from bec_mace.electrostatics import ChargedFrames, Coulomb
from bec_mace.models import PolarizationModel
from bec_mace.testing import coulomb_references as known
from bec_mace.testing.physics import move, repeat
from bec_mace.testing.small_models import make_static_model
from bec_mace.testing.structures import triclinic
from bec_mace.units import COULOMB_CONSTANT

LIMITS = {
    "reference_energies": 1e-7,
    "madelung": 1e-6,
    "forces": 1e-6,
    "stress": 1e-6,
    "supercell": 1e-10,
    "dipole_in_a_cell": 1e-2,
}


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def energy(coulomb: Coulomb, charges: object, positions: object, cell: object = None) -> float:
    """Of one structure, in eV."""
    lattice = torch.zeros(3, 3, dtype=torch.float64) if cell is None else tensor(cell)
    periodic = torch.full((1, 3), cell is not None)
    places = tensor(positions)
    frames = ChargedFrames(places, torch.zeros(len(places), dtype=torch.int64), lattice[None], periodic)
    return float(coulomb.energies(tensor(charges), frames))


def reference_energies() -> float:
    alone, cell = (known.CHARGES, known.POSITIONS), (known.CHARGES, known.POSITIONS, known.CELL)
    errors = [energy(Coulomb(), *alone) - known.MOLECULE]
    errors += [energy(Coulomb(method=name, tolerance=1e-8), *cell) - known.CRYSTAL for name in ("reciprocal", "mesh")]
    return max(map(abs, errors))


def madelung() -> float:
    errors, size = [], 5.4
    for fractions, distance, constant in known.CRYSTALS.values():
        half = len(fractions) // 2
        charges = [1.0] * half + [-1.0] * half
        value = energy(Coulomb(smearing=0.25, tolerance=1e-10), charges, size * np.array(fractions), size * np.eye(3))
        errors.append(-value / half * distance * size / COULOMB_CONSTANT - constant)
    return max(map(abs, errors))


def dipole_in_a_cell() -> float:
    positions, charges, size = [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0.1]], [-0.8, 0.4, 0.4], 50.0
    difference = energy(Coulomb(), charges, positions, size * np.eye(3)) - energy(Coulomb(), charges, positions)
    dipole = np.array(charges) @ np.array(positions)
    return abs(difference / (-2 * math.pi * COULOMB_CONSTANT * dipole @ dipole / (3 * size**3)) - 1)


def of(model: PolarizationModel, frame: Frame, *names: str) -> dict[str, Tensor]:
    return model(build_graph(frame, model.r_max), names)


def derivatives(model: PolarizationModel, frame: Frame, step: float = 1e-4) -> tuple[float, float]:
    """Errors of forces and stress."""
    found = of(model, frame, "forces", "stress")
    forces, stress = np.zeros((len(frame), 3)), np.zeros((3, 3))
    for atom in range(len(frame)):
        for axis in range(3):
            shift = np.zeros_like(frame.positions)
            shift[atom, axis] = step
            up, down = (float(of(model, move(frame, frame.positions + s * shift), "energy")["energy"]) for s in (1, -1))
            forces[atom, axis] = -(up - down) / (2 * step)
    for a in range(3):
        for b in range(3):
            strain = np.zeros((3, 3))
            strain[a, b] += step / 2
            strain[b, a] += step / 2
            maps = [np.eye(3) + sign * strain for sign in (1, -1)]
            up, down = (float(of(model, move(frame, frame.positions @ m, frame.cell @ m), "energy")["energy"]) for m in maps)
            stress[a, b] = (up - down) / (2 * step) / abs(np.linalg.det(frame.cell))
    return largest(found["forces"] - tensor(forces)), largest(found["stress"][0] - tensor(stress))


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())


def supercell(model: PolarizationModel, frame: Frame) -> float:
    names = ("energy", "forces", "born_effective_charges")
    one, shifts = of(model, frame, *names), np.random.default_rng(2).integers(-3, 4, (len(frame), 3))
    errors = []
    for counts in ((1, 1, 1), (2, 1, 1), (1, 2, 3)):
        number = math.prod(counts)
        other = repeat(frame, counts) if number > 1 else move(frame, frame.positions + shifts @ frame.cell + 0.3)
        two = of(model, other, *names)
        errors.append(abs(float(two["energy"]) / number - float(one["energy"])))
        errors += [largest(two[name] - one[name].repeat(number, *[1] * (one[name].dim() - 1))) for name in names[1:]]
    return max(errors)


def check() -> dict[str, float]:
    figures = {"reference_energies": reference_energies(), "madelung": madelung(), "dipole_in_a_cell": dipole_in_a_cell()}
    frame = triclinic()
    for screening in ("independent", "fixed", "global", "local"):
        source = "static_charges" if screening == "independent" else "charge_transfer"
        for heads in {(source, "dipole", "energy"), (source.replace("charge_transfer", "monopole"), "dipole", "energy")}:
            model = make_static_model(heads, screening, acoustic_sum_rule="project")
            forces, stress = derivatives(model, frame)
            for name, error in (("forces", forces), ("stress", stress), ("supercell", supercell(model, frame))):
                figures[name] = max(error, figures.get(name, 0.0))
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = check()
    print("| figure | largest error | limit |\n|---|---|---|")
    for name, value in figures.items():
        print(f"| {name} | {value:.1e} | {LIMITS[name]:.0e} |")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if all(value < LIMITS[name] for name, value in figures.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
