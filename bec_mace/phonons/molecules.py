r"""Harmonic vibrations of molecules with their infrared and Raman intensities, from one calculator.

The Hessian :math:`H = -\partial F / \partial r` comes from central differences of forces; Z* at rest is one evaluation. With
eigenvectors :math:`e_m` of :math:`H_{ij} / \sqrt{M_i M_j}` and :math:`U_{m,j} = e_{m,j} / \sqrt{M_j}`,

.. math:: \frac{d\mu_a}{dQ_m} = \sum_{j,b} Z_{j,a,b} U_{m,jb}, \qquad
          A_m = \frac{N_A}{12 \epsilon_0 c^2} \left| \frac{d\mu}{dQ_m} \right|^2 ,

the integrated Napierian absorption coefficient: 974.9 km/mol for 1 e^2/u, 42.26 km/mol for 1 D^2/(Å^2 u). Translations and
rotations are projected out of the Hessian, so the vibrations of a molecule that is not quite at rest are orthogonal to them.

Sources: E. B. Wilson, J. C. Decius, P. C. Cross, Molecular Vibrations (1955), chapters 2 and 7; D. Porezag and M. R. Pederson,
Phys. Rev. B 54, 7830 (1996).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ase.units
import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.optimize import BFGS

from bec_mace.errors import PhononError
from bec_mace.phonons.lattice import THZ
from bec_mace.phonons.optics import CM_PER_THZ
from bec_mace.phonons.scattering import activities, along_modes
from bec_mace.phonons.tables import write_rows

logger = logging.getLogger(__name__)

Z = "born_effective_charges"
KM_MOL = ase.units._Nav * ase.units._e**2 / (12.0 * ase.units._eps0 * ase.units._c**2 * ase.units._amu) * 1e-3
"""Intensity in km/mol of (d mu / dQ)^2 = 1 e^2/u."""
DEBYE2 = 1.0 / ase.units.Debye**2
"""D^2/(Å^2 u) of 1 e^2/u."""
_MOST_STEPS = 1000
_LINEAR = 1e-3
_AT_REST = 0.01


@dataclass(frozen=True)
class Vibrations:
    """Vibrations of a molecule, in the order of frequencies.

    Attributes:
        atoms: The molecule, as it was displaced from.
        eigenvalues: Of the vibrations, of shape (n_modes,), in eV/(Å^2 u).
        eigenvectors: Of shape (n_modes, n_atoms, 3), orthonormal.
        charges: Z* at rest, of shape (n_atoms, 3, 3), in e.
        dipole: Dipole at rest, of shape (3,), in e Å; None where the calculator gives none.
        largest_force: At rest, in eV/Å.
        raman_tensors: Derivatives of the polarizability, of shape (n_atoms, 3, 3, 3), in Å^2; None where there is none.
    """

    atoms: Atoms
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray
    charges: np.ndarray
    dipole: np.ndarray | None
    largest_force: float
    raman_tensors: np.ndarray | None = None

    @cached_property
    def wavenumbers(self) -> np.ndarray:
        """Of shape (n_modes,), in cm^-1; imaginary ones are negative."""
        return np.asarray(np.sign(self.eigenvalues) * np.sqrt(np.abs(self.eigenvalues)) * THZ * CM_PER_THZ)

    @cached_property
    def displacements(self) -> np.ndarray:
        """Eigenvectors over the roots of the masses, of shape (n_modes, n_atoms, 3), in u^(-1/2)."""
        return np.asarray(self.eigenvectors / np.sqrt(self.atoms.get_masses())[None, :, None])

    @cached_property
    def polarities(self) -> np.ndarray:
        """D mu / dQ, of shape (n_modes, 3), in e/u^(1/2); the sign of a mode is arbitrary."""
        return np.asarray(np.einsum("jab,mjb->ma", self.charges, self.displacements))

    @cached_property
    def raman(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Raman activities in Å^4/u and depolarization ratios of all modes; None without a polarizability."""
        if self.raman_tensors is None:
            return None
        return activities(along_modes(self.raman_tensors, self.displacements))

    @cached_property
    def intensities_km_mol(self) -> np.ndarray:
        """Of shape (n_modes,), in km/mol."""
        return np.asarray(KM_MOL * np.sum(self.polarities**2, axis=1))

    @cached_property
    def intensities_debye(self) -> np.ndarray:
        """Of shape (n_modes,), in D^2/(Å^2 u)."""
        return np.asarray(DEBYE2 * np.sum(self.polarities**2, axis=1))

    @property
    def dipole_debye(self) -> float | None:
        """Length of the dipole at rest, in D; None where the calculator gives none."""
        return None if self.dipole is None else float(np.linalg.norm(self.dipole) / ase.units.Debye)

    @property
    def zero_point_energy(self) -> float:
        """Half the sum of the real frequencies, in eV."""
        return float(0.5 * ase.units.invcm * self.wavenumbers[self.wavenumbers > 0].sum())


def vibrations(
    atoms: Atoms,
    calculator: BaseCalculator,
    displacement: float = 0.01,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Vibrations:
    """Frequencies and infrared intensities of a molecule.

    Args:
        atoms: A molecule at rest; it stays as it is.
        calculator: Gives forces and ``born_effective_charges``: a ``BECCalculator``, with or without a base.
        displacement: Of each atom along each axis in both directions, in Å.
        progress: Wraps the atoms.

    Raises:
        PhononError: The structure is periodic, has one atom, or the calculator gives no forces or Z*.
    """
    if atoms.pbc.any():
        raise PhononError(
            "vibrations are those of a molecule, and the structure is periodic; for a crystal use `bec-mace phonons`, "
            "for a molecule set pbc to false"
        )
    if len(atoms) < 2:
        raise PhononError("a single atom has no vibrations; give a molecule")
    known = getattr(calculator, "implemented_properties", [])
    for name in ("forces", Z):
        if name not in known:
            raise PhononError(
                f"the calculator gives no {name}; vibrations need a model with Z*, and with an energy head or a base"
            )
    moved = atoms.copy()
    moved.set_constraint()
    force = float(np.linalg.norm(calculator.get_property("forces", moved), axis=1).max())
    if force > _AT_REST:
        logger.warning("the largest force is %.3g eV/Å: vibrations are those of a molecule at rest; relax it first", force)
    charges = np.array(calculator.get_property(Z, moved), dtype=np.float64)
    dipole = np.array(calculator.get_property("dipole", moved)) if "dipole" in known else None
    raman = np.array(calculator.get_property("raman_tensors", moved)) if "raman_tensors" in known else None
    hessian = _hessian(moved, calculator, displacement, progress)
    roots = np.repeat(np.sqrt(atoms.get_masses()), 3)
    weighted = hessian / np.outer(roots, roots)
    basis = _internal_motions(atoms)
    eigenvalues, vectors = np.linalg.eigh(basis.T @ weighted @ basis)
    return Vibrations(
        atoms=atoms.copy(),
        eigenvalues=eigenvalues,
        eigenvectors=(basis @ vectors).T.reshape(-1, len(atoms), 3),
        charges=charges,
        dipole=dipole,
        largest_force=force,
        raman_tensors=raman,
    )


def relax_molecule(atoms: Atoms, calculator: BaseCalculator, max_force: float = 1e-3) -> Atoms:
    """Minimise the energy of a molecule; the one that is given stays as it is.

    Args:
        atoms: The molecule.
        calculator: Gives forces.
        max_force: Where it ends, in eV/Å.

    Raises:
        PhononError: It has not converged.
    """
    moved: Atoms = atoms.copy()
    moved.set_constraint()
    moved.calc = calculator
    optimizer = BFGS(moved, logfile=None)
    if not optimizer.run(fmax=max_force, steps=_MOST_STEPS):
        raise PhononError(f"the forces are still above {max_force:g} eV/Å after {_MOST_STEPS} steps; raise --max-force")
    moved.calc = None
    logger.info("relaxed in %d steps", optimizer.nsteps)
    return moved


def write_csv(found: Vibrations, path: str | Path) -> None:
    """Write a table of lines, complete or not at all; imaginary frequencies are negative."""
    names = ["mode", "wavenumber_cm-1", "intensity_km/mol", "intensity_D2/(A2 u)"]
    columns = [found.wavenumbers, found.intensities_km_mol, found.intensities_debye]
    if found.raman is not None:
        names += ["raman_activity_A4/u", "depolarization_ratio"]
        columns += list(found.raman)
    write_rows(Path(path), names, zip(range(1, len(found.wavenumbers) + 1), *columns, strict=True))


def to_dict(found: Vibrations) -> dict[str, Any]:
    """Everything as what JSON can hold: lines with their displacements, Z*, dipole."""
    lines = zip(
        found.wavenumbers,
        found.intensities_km_mol,
        found.intensities_debye,
        found.polarities,
        found.displacements,
        _raman_lines(found),
        strict=True,
    )
    return {
        "symbols": found.atoms.get_chemical_symbols(),
        "positions_Å": found.atoms.positions.tolist(),
        "born_effective_charges_e": found.charges.tolist(),
        "dipole_D": found.dipole_debye,
        "zero_point_energy_eV": found.zero_point_energy,
        "largest_force_eV/Å": found.largest_force,
        "lines": [
            {
                "wavenumber_cm-1": float(wavenumber),
                "intensity_km/mol": float(absolute),
                "intensity_D2/(Å2 u)": float(debye),
                "dipole_derivative_e/u^(1/2)": polarity.tolist(),
                "displacements_u^(-1/2)": displacements.tolist(),
                **scattered,
            }
            for wavenumber, absolute, debye, polarity, displacements, scattered in lines
        ],
    }


def _raman_lines(found: Vibrations) -> list[dict[str, float]]:
    """What the lines scatter; nothing without a polarizability."""
    if found.raman is None:
        return [{}] * len(found.wavenumbers)
    return [
        {"raman_activity_Å4/u": float(activity), "depolarization_ratio": float(ratio)}
        for activity, ratio in zip(*found.raman, strict=True)
    ]


def _hessian(
    atoms: Atoms, calculator: BaseCalculator, displacement: float, progress: Callable[[Iterable[Any]], Iterable[Any]]
) -> np.ndarray:
    """Second derivatives of the energy, of shape (3 n_atoms, 3 n_atoms), in eV/Å^2, symmetric."""
    at_rest = atoms.positions.copy()
    rows = []
    for atom in progress(range(len(atoms))):
        for axis in range(3):
            forces = []
            for sign in (1.0, -1.0):
                atoms.positions[atom, axis] = at_rest[atom, axis] + sign * displacement
                forces.append(np.array(calculator.get_property("forces", atoms), dtype=np.float64))
                atoms.positions[atom, axis] = at_rest[atom, axis]
            rows.append((forces[1] - forces[0]).ravel() / (2.0 * displacement))
    hessian = np.array(rows)
    if not np.isfinite(hessian).all():
        raise PhononError("a force is not finite; look at the structure and the potential")
    return np.asarray(0.5 * (hessian + hessian.T))


def _internal_motions(atoms: Atoms) -> np.ndarray:
    """Mass-weighted motions that neither shift nor turn the molecule, of shape (3 n_atoms, n_modes), orthonormal."""
    roots = np.sqrt(atoms.get_masses())
    arms = atoms.positions - atoms.get_center_of_mass()
    rigid = [np.einsum("j,b->jb", roots, axis).ravel() for axis in np.eye(3)]
    rigid += [(roots[:, None] * np.cross(axis, arms)).ravel() for axis in np.eye(3)]
    vectors, sizes, _ = np.linalg.svd(np.array(rigid).T, full_matrices=True)
    # A linear molecule turns about two axes only: the third is an empty motion.
    return np.asarray(vectors[:, int(np.sum(sizes > _LINEAR * sizes[0])) :])
