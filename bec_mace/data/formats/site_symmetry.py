r"""Tensors of all atoms from those of the atoms that no symmetry relates.

.. math:: Z_{j} = R \, Z_{i} \, R^T

where the operation of the space group with the rotation R takes atom i to atom j.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bec_mace.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

TOLERANCE = 1e-4
"""How far positions may be from their symmetry, in Å."""
_CONSISTENT = 0.05
"""How much a tensor may break the symmetry of its site, in e."""


@dataclass(frozen=True)
class Operations:
    """The operations of the space group of a crystal.

    Attributes:
        rotations: In Cartesian coordinates, of shape (n_operations, 3, 3).
        images: Which atom each takes each atom to, of shape (n_operations, n_atoms).
        equivalent: The first atom of the set that an atom belongs to, of shape (n_atoms,).
        international: Symbol of the space group.
    """

    rotations: np.ndarray
    images: np.ndarray
    equivalent: np.ndarray
    international: str

    def average(self, tensors: np.ndarray) -> np.ndarray:
        """Tensors averaged over all operations, which then have the symmetry of the crystal.

        Args:
            tensors: Of shape (n_atoms, 3, ..., 3), of any rank.
        """
        out = np.zeros_like(tensors)
        for rotation, image in zip(self.rotations, self.images, strict=True):
            turned = tensors
            for axis in range(1, tensors.ndim):
                turned = np.moveaxis(np.tensordot(rotation, turned, axes=(1, axis)), 0, axis)
            out[image] += turned
        return out / len(self.rotations)


class NoSpglibError(DataError):
    """The package that finds space groups is not installed."""


def find_operations(atoms: Atoms, where: str, tolerance: float = TOLERANCE) -> Operations:
    """The operations of the space group that spglib finds.

    Args:
        atoms: A crystal.
        where: File, and what symmetry is needed for there, for messages.
        tolerance: How far positions may be from their symmetry, in Å.

    Raises:
        NoSpglibError: spglib is not installed.
        DataError: It finds no symmetry.
    """
    try:
        import spglib
    except ImportError:
        raise NoSpglibError(f"{where}, and the symmetry that this takes is found by spglib: pip install spglib") from None
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how it reports errors
        dataset = spglib.get_symmetry_dataset(cell, symprec=tolerance)
    if dataset is None:
        raise DataError(f"{where}, but spglib finds no symmetry in the structure; atoms may lie on each other.")
    to_cartesian = atoms.cell.array.T
    rotations = np.array([to_cartesian @ rotation @ np.linalg.inv(to_cartesian) for rotation in dataset.rotations])
    return Operations(rotations, _images(atoms, dataset), np.asarray(dataset.equivalent_atoms), str(dataset.international))


def expand(atoms: Atoms, tensors: np.ndarray, listed: list[int] | None, where: str) -> np.ndarray:
    """Born effective charges of all atoms.

    Args:
        atoms: A crystal.
        tensors: Of the first atom of each set of equivalent ones, in their order, of shape (n_independent, 3, 3), in e.
        listed: Which atoms they are of, counted from 1, where the file says it.
        where: File, for messages.

    Returns:
        Of shape (n_atoms, 3, 3), in e.

    Raises:
        DataError: spglib is not installed, the numbers of tensors and of independent atoms differ, or a tensor does not have
            the symmetry of its site.
    """
    found = find_operations(atoms, f"{where}: lists {len(tensors)} of {len(atoms)} atoms")
    independent = list(dict.fromkeys(int(atom) for atom in found.equivalent))
    if len(independent) != len(tensors) or listed not in (None, [atom + 1 for atom in independent]):
        named = f" (atoms {', '.join(map(str, listed))})" if listed else ""
        raise DataError(
            f"{where}: holds Born effective charges of {len(tensors)} atoms{named}, but the independent atoms of the structure "
            f"beside it, {found.international}, are {', '.join(str(atom + 1) for atom in independent)} of {len(atoms)}; "
            "the two do not belong together. Give the structure that the file was made for, or the output of the calculation."
        )
    out = np.zeros((len(atoms), 3, 3))
    for tensor, source in zip(tensors, independent, strict=True):
        _check_site(tensor, source, found, where)
        for atom in np.flatnonzero(found.equivalent == source):
            rotation = found.rotations[int(np.flatnonzero(found.images[:, source] == atom)[0])]
            out[atom] = rotation @ tensor @ rotation.T
    return out


def _images(atoms: Atoms, dataset: Any) -> np.ndarray:
    """Where each operation takes each atom, of shape (n_operations, n_atoms)."""
    places = atoms.get_scaled_positions()
    rows = []
    for rotation, translation in zip(dataset.rotations, dataset.translations, strict=True):
        moved = places @ np.asarray(rotation).T + translation
        difference = moved[:, None] - places[None]
        difference -= np.round(difference)
        distance = np.linalg.norm(difference @ atoms.cell.array, axis=2)
        distance[atoms.numbers[:, None] != atoms.numbers[None]] = np.inf
        rows.append(distance.argmin(axis=1))
    return np.array(rows)


def _check_site(tensor: np.ndarray, atom: int, operations: Operations, where: str) -> None:
    kept = operations.rotations[operations.images[:, atom] == atom]
    worst = max(float(np.abs(rotation @ tensor @ rotation.T - tensor).max()) for rotation in kept)
    if worst > _CONSISTENT:
        raise DataError(
            f"{where}: the tensor of atom {atom + 1} breaks the symmetry of its site by {worst:.3f} e; the file and the "
            "structure beside it do not belong together, or stand in another orientation."
        )
