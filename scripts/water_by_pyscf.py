"""Vibrations of the water molecule by PySCF, RPBE/def2-SVPD with density fitting, beside those of a model. In three minutes.

    pip install pyscf
    python scripts/water_by_pyscf.py --model runs/water_clusters --json water_molecule.json

Relaxed with its forces; Hessian by differences of forces; polarizabilities by differences of the dipole in fields of 0.002
atomic units; derivatives of both along each coordinate: infrared intensities and Raman activities by the theory of the
labels in `water_clusters_rpbe_d3`, without its dispersion, which one molecule hardly feels.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import ase.units
import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import BFGS

from bec_mace import BECCalculator
from bec_mace.errors import BecMaceError
from bec_mace.phonons import Vibrations, relax_molecule, vibrations
from bec_mace.storage.files import replace_text

FIELD = 0.002
"""In atomic units."""


def solve(positions: np.ndarray, field: np.ndarray | None = None) -> Any:
    """The electrons of water at positions in Å, in a field in atomic units."""
    from pyscf import dft, gto

    water = gto.M(atom=list(zip("OHH", positions, strict=True)), basis="def2-svpd", unit="Angstrom", verbose=0)
    electrons = dft.RKS(water, xc="rpbe").density_fit()
    electrons.grids.level, electrons.conv_tol = 4, 1e-11
    if field is not None:
        with water.with_common_orig((0, 0, 0)):
            places = water.intor_symmetric("int1e_r", comp=3)
        hamiltonian = electrons.get_hcore() + np.einsum("a,aij->ij", field, places)
        electrons.get_hcore = lambda *_: hamiltonian
    electrons.kernel()
    return electrons


def polarizability(positions: np.ndarray) -> np.ndarray:
    """In Å^3, of shape (3, 3)."""
    ends = [[solve(positions, sign * FIELD * axis).dip_moment(unit="AU", verbose=0) for sign in (1, -1)] for axis in np.eye(3)]
    return np.array([(first - second) / (2 * FIELD) for first, second in ends]) * ase.units.Bohr**3


class Pyscf(Calculator):
    """Energy, forces, dipole."""

    implemented_properties = ["energy", "forces", "dipole"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        electrons = solve(self.atoms.positions)
        gradient = electrons.nuc_grad_method().kernel() * ase.units.Hartree / ase.units.Bohr
        dipole = electrons.dip_moment(unit="Debye", verbose=0) * ase.units.Debye
        self.results = {"energy": electrons.e_tot * ase.units.Hartree, "forces": -gradient, "dipole": dipole}


def reference(displacement: float = 0.01) -> Vibrations:
    """The relaxed molecule and its modes."""
    water = molecule("H2O")
    water.calc = Pyscf()
    BFGS(water, logfile=None).run(fmax=5e-4, steps=30)
    hessian, charges, raman = np.zeros((9, 9)), np.zeros((3, 3, 3)), np.zeros((3, 3, 3, 3))
    for atom, axis in np.ndindex(3, 3):
        forces, dipoles, tensors = [], [], []
        for sign in (1, -1):
            moved = Atoms(water.numbers, water.positions, calculator=Pyscf())
            moved.positions[atom, axis] += sign * displacement
            forces.append(moved.get_forces().ravel())
            dipoles.append(moved.get_dipole_moment())
            tensors.append(polarizability(moved.positions))
        hessian[3 * atom + axis] = (forces[1] - forces[0]) / (2 * displacement)
        charges[atom, :, axis] = (dipoles[0] - dipoles[1]) / (2 * displacement)
        raman[atom, :, :, axis] = (tensors[0] - tensors[1]) / (2 * displacement)
    roots = np.repeat(np.sqrt(water.get_masses()), 3)
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T) / np.outer(roots, roots))
    modes, force = vectors.T.reshape(9, 3, 3), float(np.abs(water.get_forces()).max())
    return Vibrations(water, values[6:], modes[6:], charges, water.get_dipole_moment(), force, raman)


def figures(found: Vibrations) -> dict[str, Any]:
    activities, ratios = found.raman or (np.zeros(0), np.zeros(0))
    return {
        "wavenumbers_cm-1": found.wavenumbers.tolist(),
        "intensities_km/mol": found.intensities_km_mol.tolist(),
        "raman_activities_Å4/u": activities.tolist(),
        "depolarization_ratios": ratios.tolist(),
        "dipole_D": found.dipole_debye,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="with energies, Z* and polarizabilities")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    try:
        calculator = BECCalculator(args.model, dtype="float64")
        water = relax_molecule(molecule("H2O"), calculator)
        results = {"model": figures(vibrations(water, calculator)), "pyscf": figures(reference())}
    except BecMaceError as error:
        print(f"water_by_pyscf: {error}", file=sys.stderr)
        return 2
    for name, found in results.items():
        print(name, *(f"{key} {np.round(value, 3).tolist()}" for key, value in found.items()), sep="\n  ")
    if args.json is not None:
        replace_text(args.json, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
