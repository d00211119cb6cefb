"""phonopy's object of a crystal: made from a structure, filled with force constants.

phonopy is an extra of the package and is imported when it is needed. Masses are ASE's, or those of the structure.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import ase.units
import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from bec_mace.errors import PhononError

THZ = 1e3 * ase.units.fs / (2.0 * np.pi)
"""The root of 1 eV/(Å^2 u) as a frequency in THz; phonopy's unit of frequency."""


def phonopy_module(name: str = "phonopy") -> Any:
    """Import a module of phonopy.

    Raises:
        PhononError: phonopy is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise PhononError(
            "phonons need phonopy, which is not installed; run: pip install 'bec_mace[phonons]', or pip install phonopy"
        ) from error


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn whatever phonopy raises into an error of ours that begins with ``what``."""
    try:
        yield
    except PhononError:
        raise
    except Exception as error:  # phonopy raises many kinds, AssertionError among them
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise PhononError(f"{what} ({reason})") from error


def to_phonopy(atoms: Atoms) -> Any:
    """A structure as ``PhonopyAtoms``, with its masses.

    Raises:
        PhononError: It is not periodic in three directions.
    """
    if not atoms.pbc.all():
        raise PhononError(
            f"phonons need a crystal, and the structure is periodic along {atoms.pbc.astype(int).tolist()}; "
            "for a molecule use `bec-mace vibrations`"
        )
    make = phonopy_module("phonopy.structure.atoms").PhonopyAtoms
    return make(
        symbols=atoms.get_chemical_symbols(), cell=atoms.cell.array, positions=atoms.positions, masses=atoms.get_masses()
    )


def to_ase(cell: Any) -> Atoms:
    """A cell of phonopy as ASE atoms, with its masses."""
    return Atoms(symbols=cell.symbols, cell=cell.cell, scaled_positions=cell.scaled_positions, masses=cell.masses, pbc=True)


def make_phonon(
    atoms: Atoms, supercell: Sequence[int] | Sequence[Sequence[int]], primitive: str = "auto", symmetry_tolerance: float = 1e-5
) -> Any:
    """A ``phonopy.Phonopy`` without force constants.

    Args:
        atoms: The unit cell, in the order of the files that are read later.
        supercell: Three numbers of copies, or phonopy's 3x3 matrix.
        primitive: ``"auto"`` or ``"none"``.
        symmetry_tolerance: In Å.

    Raises:
        PhononError: phonopy is missing, the structure is no crystal, or phonopy cannot make cells of it.
    """
    cell = to_phonopy(atoms)
    cells = phonopy_module("phonopy.structure.cells")
    matrix = np.diag(supercell) if np.ndim(supercell) == 1 else np.array(supercell)
    with explained("phonopy cannot make a supercell of this structure; look at `supercell` and `symmetry_tolerance`"):
        axes = cells.guess_primitive_matrix(cell, symprec=symmetry_tolerance) if primitive == "auto" else np.eye(3)
        return phonopy_module().Phonopy(
            cell, supercell_matrix=matrix, primitive_matrix=axes, symprec=symmetry_tolerance, log_level=0
        )


def add_forces(
    phonon: Any,
    calculator: BaseCalculator,
    displacement: float = 0.01,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> int:
    """Compute force constants from forces of displaced supercells.

    Args:
        phonon: From :func:`make_phonon`.
        calculator: Any ASE calculator that gives forces.
        displacement: Of one atom, in Å. phonopy leaves out what symmetry tells, and takes both signs where it does not.
        progress: Wraps the supercells, for a progress bar.

    Returns:
        The number of supercells.

    Raises:
        PhononError: A force is not finite.
    """
    phonon.generate_displacements(distance=displacement)
    forces = []
    for number, cell in enumerate(progress(phonon.supercells_with_displacements)):
        found = np.array(calculator.get_property("forces", to_ase(cell)), dtype=np.float64)
        if not np.isfinite(found).all():
            raise PhononError(f"a force in displaced supercell {number} is not finite; look at the structure and the potential")
        forces.append(found)
    phonon.forces = np.array(forces)
    _produce(phonon)
    return len(forces)


def add_force_sets(phonon: Any, path: str | Path) -> int:
    """Compute force constants from a FORCE_SETS file, in eV/Å.

    Args:
        phonon: From :func:`make_phonon`, with the unit cell and supercell that the file belongs to.
        path: The file.

    Returns:
        The number of supercells.

    Raises:
        PhononError: The file cannot be read, or belongs to another number of atoms.
    """
    parse = phonopy_module("phonopy.file_IO").parse_FORCE_SETS
    with explained(f"{path}: cannot be read as FORCE_SETS of phonopy"):
        dataset = parse(filename=str(path))
    n_atoms = len(phonon.supercell)
    if "first_atoms" in dataset:
        number = len(dataset["first_atoms"])
        _check_number(path, dataset["natom"], phonon)
    else:
        # Displacements of all atoms at once: lines of numbers, which the supercell makes into structures.
        number, rest = divmod(len(dataset["forces"]), n_atoms)
        if rest:
            raise PhononError(f"{path}: {len(dataset['forces'])} lines are no multiple of the {n_atoms} atoms of the supercell")
        dataset = {name: np.reshape(values, (number, n_atoms, 3)) for name, values in dataset.items()}
    with explained(f"{path}: phonopy cannot make force constants of it; does it belong to this structure and supercell?"):
        phonon.dataset = dataset
        _produce(phonon)
    return number


def add_force_constants(phonon: Any, path: str | Path) -> None:
    """Take force constants from FORCE_CONSTANTS or an HDF5 file of phonopy, in eV/Å^2, as they are.

    Args:
        phonon: From :func:`make_phonon`, with the unit cell and supercell that the file belongs to.
        path: The file.

    Raises:
        PhononError: The file cannot be read, or belongs to another number of atoms.
    """
    files = phonopy_module("phonopy.file_IO")
    with explained(f"{path}: cannot be read as force constants of phonopy"):
        if Path(path).suffix.lower() in (".hdf5", ".h5"):
            constants = files.read_force_constants_hdf5(str(path), p2s_map=phonon.primitive.p2s_map)
        else:
            constants = files.parse_FORCE_CONSTANTS(str(path), p2s_map=phonon.primitive.p2s_map)
    _check_number(path, constants.shape[1], phonon)
    phonon.force_constants = constants


def _check_number(path: str | Path, number: int, phonon: Any) -> None:
    if number != len(phonon.supercell):
        raise PhononError(
            f"{path}: is of a supercell of {number} atoms, and the supercell of this structure has {len(phonon.supercell)}; "
            "give the structure and the `supercell` that the file was made with"
        )


def _produce(phonon: Any) -> None:
    """Force constants with translational and permutation symmetry, as phonopy makes them by default."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # Displacements of all atoms at once are fitted, which phonopy's own finite differences cannot do.
        fit = "symfc" if "displacements" in phonon.dataset else None
        phonon.produce_force_constants(calculate_full_force_constants=False, show_drift=False, fc_calculator=fit)
        phonon.symmetrize_force_constants(show_drift=False)


def dynamical_matrix(phonon: Any, direction: np.ndarray | None = None) -> np.ndarray:
    """The dynamical matrix at Gamma, without the macroscopic field or with that of a wavevector that goes to zero.

    Args:
        phonon: With force constants; with ``nac_params`` for a direction.
        direction: Cartesian, of shape (3,), of any length; None for none.

    Returns:
        Of shape (3 n_atoms, 3 n_atoms), real and symmetric, in eV/(Å^2 u).
    """
    matrix = phonon.dynamical_matrix
    if direction is None:
        matrix.run(np.zeros(3))
    else:
        # phonopy takes coefficients of reciprocal vectors: q = sum_i x_i b_i, so x_i = q . a_i.
        matrix.run(np.zeros(3), q_direction=phonon.primitive.cell @ np.asarray(direction, dtype=np.float64))
    return np.array(matrix.dynamical_matrix.real)
