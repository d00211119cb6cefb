"""How exact are Coulomb sums, and the networks that use them? Largest errors, in float64, in a few minutes.

python scripts/check_electrostatics.py --json electrostatics.json

reference_energies  three charges, alone and in a triclinic cell, against another program, in eV
reference_multipoles  the same with dipoles, quadrupoles, and what they induce, against two other programs, in eV
madelung            constants of NaCl, CsCl and zincblende, relative to the distance of neighbours
forces, stress      of networks with each kind of screening against finite differences, in eV/Å and eV/Å^3
supercell           energy (eV per cell), forces (eV/Å) and Z* (e) of supercells and of atoms put elsewhere
enthalpy_derivatives  Z* and the polarizability of networks that yield: derivatives of E - F·P - F·alpha·F/2 by positions
                    (eV/Å in 1 V/Å) and, of the sums, by the field
displacement_waves  Z* of charges that atoms exchange with the whole, against waves over 8, 16 and 32 cells, in e
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
from bec_mace.electrostatics import ChargedFrames, Coulomb, Multipoles
from bec_mace.electrostatics.response import Edges, Susceptibilities, polarizability_of, respond
from bec_mace.models import PolarizationModel
from bec_mace.testing import coulomb_references as known
from bec_mace.testing.displacement_waves import exchange_at_long_waves, exchange_part
from bec_mace.testing.physics import move, repeat
from bec_mace.testing.small_models import copy_model, make_static_model
from bec_mace.testing.structures import triclinic
from bec_mace.units import COULOMB_CONSTANT

MULTIPOLES = ("charge_transfer", "dipole", "quadrupole", "energy")
LIMITS = {
    "reference_energies": 1e-7,
    "reference_multipoles": 1e-7,
    "madelung": 1e-6,
    "forces": 1e-6,
    "stress": 1e-6,
    "supercell": 1e-10,
    "enthalpy_derivatives": 1e-6,
    "displacement_waves": 1e-5,
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


def reference_multipoles() -> float:
    """All twelve energies of charges, dipoles, quadrupoles, capacities and polarizabilities."""
    sources = [tensor(values) for values in (known.CHARGES, known.DIPOLES, known.QUADRUPOLES)]
    places = torch.zeros(3, dtype=torch.int64)
    errors = []
    for crystal in (False, True):
        frames = ChargedFrames(tensor(known.POSITIONS), places, tensor(known.CELL)[None], torch.full((1, 3), crystal))
        for name in known.NAMES:
            yielding = Susceptibilities(
                tensor(known.POLARIZABILITIES) if "alpha" in name else None,
                capacities=tensor(known.CAPACITIES) if "kappa" in name else None,
                floats=False,
            )
            multipoles = Multipoles(*sources[: len([letter for letter in "quQ" if letter in name.split()])])
            for method in ("reciprocal", "mesh") if crystal else ("auto",):
                found = respond(Coulomb(method=method, tolerance=1e-10), multipoles, frames, yielding).energies.detach()
                errors.append(float(found) - known.reference_energy(name, crystal))
    return max(map(abs, errors))


def enthalpy_derivatives(model: PolarizationModel, frame: Frame, step: float = 3e-5) -> float:
    """Forces in a field against differences; first and second derivatives by the field of the sums."""
    field = np.array([0.4, -0.7, 0.6])

    def enthalpy(positions: np.ndarray) -> float:
        out = of(model, move(frame, positions), "energy", "polarization", "polarizability")
        alpha = out["polarizability"][0].numpy() / COULOMB_CONSTANT
        return float(out["energy"]) - float(field @ out["polarization"][0].numpy()) - 0.5 * float(field @ alpha @ field)

    graph = build_graph(frame, model.r_max)
    found = model(graph, ("forces", "field_forces"), electric_field=tensor(field), field_order=2)
    total, errors = found["forces"] + found["field_forces"], []
    for atom in range(len(frame)):
        for axis in range(3):
            shift = np.zeros_like(frame.positions)
            shift[atom, axis] = step
            slope = (enthalpy(frame.positions + shift) - enthalpy(frame.positions - shift)) / (2 * step)
            errors.append(float(total[atom, axis]) + slope)
    return max(max(map(abs, errors)), by_field())


def by_field() -> float:
    """-dH/dF against the polarization and -d2H/dF2 against the polarizability, of three atoms with edges and dipoles."""
    places = tensor(known.POSITIONS)
    edges = Edges(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0]), places - places[[1, 2, 0]])
    yielding = Susceptibilities(tensor(known.POLARIZABILITIES), tensor([0.02, 0.01, 0.03]), edges)
    sources = Multipoles(tensor(known.CHARGES), tensor(known.DIPOLES), tensor(known.QUADRUPOLES))
    frames = ChargedFrames(
        places, torch.zeros(3, dtype=torch.int64), tensor(known.CELL)[None], torch.ones(1, 3, dtype=torch.bool)
    )

    def enthalpy(field: Tensor) -> Tensor:
        return respond(Coulomb(), sources, frames, yielding, uniform=field[None]).energies.sum()

    made, zero = respond(Coulomb(), sources, frames, yielding), torch.zeros(3, dtype=torch.float64)
    polarization = made.dipoles.sum(dim=0) + (made.flow.unsqueeze(1) * edges.vectors).sum(dim=0)
    alpha = polarizability_of(yielding, 3, places).sum(dim=0)
    first = torch.autograd.functional.jacobian(enthalpy, zero) + polarization
    second = torch.autograd.functional.hessian(enthalpy, zero) + alpha
    return max(largest(first.detach()), largest(second))


def displacement_waves() -> float:
    errors, frame = [], triclinic()
    for heads, screening in ((MULTIPOLES, "fixed"), (("monopole", "quadrupole", "energy"), "local")):
        model = copy_model(make_static_model(heads, screening, heads[:-1], {"charges": "atoms"}, acoustic_sum_rule="none"))
        part = exchange_part(model, frame)
        for atom, axis in ((0, 0), (1, 2), (2, 1)):
            expected, along = exchange_at_long_waves(model, frame, atom, axis)
            errors.append(along @ part[atom, :, axis] - expected)
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


def derivatives(model: PolarizationModel, frame: Frame, step: float = 3e-5) -> tuple[float, float]:
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
    figures = {
        "reference_energies": reference_energies(),
        "reference_multipoles": reference_multipoles(),
        "madelung": madelung(),
        "dipole_in_a_cell": dipole_in_a_cell(),
        "displacement_waves": displacement_waves(),
    }
    frame, models = triclinic(), []
    for response in (None, {"dipoles": "anisotropic"}, {"dipoles": "isotropic", "charges": "edges"}):
        models.append(make_static_model(MULTIPOLES, "global", MULTIPOLES[:3], response))
        if response is not None:
            figures["enthalpy_derivatives"] = max(
                figures.get("enthalpy_derivatives", 0.0), enthalpy_derivatives(models[-1], frame)
            )
    for screening in ("independent", "fixed", "global", "local"):
        source = "static_charges" if screening == "independent" else "charge_transfer"
        for heads in {(source, "dipole", "energy"), (source.replace("charge_transfer", "monopole"), "dipole", "energy")}:
            models.append(make_static_model(heads, screening, acoustic_sum_rule="project"))
    for model in models:
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
