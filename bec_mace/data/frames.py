"""A frame: one structure with the labels that a file gives for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bec_mace.data.labels import TOTAL_CHARGE, carried_along, extract_labels, give_back, metadata, unread_keys
from bec_mace.errors import DataError
from bec_mace.properties import PROPERTIES

if TYPE_CHECKING:
    from ase import Atoms

# Periodic lattice vectors that enclose less than this share of the box spanned by their lengths are linearly dependent.
_FLAT = 1e-6


@dataclass(frozen=True)
class Frame:
    """One structure and its labels. Checked when it is made, so that nothing downstream has to check again.

    Attributes:
        atomic_numbers: Of shape (n_atoms,), int64.
        positions: Of shape (n_atoms, 3), float64, in Å.
        cell: Lattice vectors as rows, of shape (3, 3), float64, in Å. Zero rows where there is none.
        pbc: Periodic directions, of shape (3,), bool.
        labels: By property name, float64, of shape (n_atoms, ...) or (...), in the units of ``PROPERTIES``.
        source: Where it comes from, for messages: ``"water.extxyz, frame 3"``, counted from 0.
        info: Other scalar metadata of the file, such as ``config_type``; ``total_charge`` among them is the charge of the
            structure, in e.
        reference: Name of what its energy is counted from; empty for the references of the model.
        weights: Factors of its labels in the loss, by property; 1 where not given.
        unread: Keys of the file that hold numbers which are no label.
        carried: All else that the structure came with, where it is to be written again: ``arrays``, ``info``, ``results``.

    Raises:
        DataError: No atoms, positions that are not finite, an unknown element, a periodic cell without volume, or a
            label of the wrong shape.
    """

    atomic_numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    source: str = "frame"
    info: dict[str, Any] = field(default_factory=dict)
    reference: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    carried: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n_atoms = len(self.atomic_numbers)
        if n_atoms == 0:
            raise DataError(f"{self.source}: no atoms. Leave the empty frame out.")
        if self.positions.shape != (n_atoms, 3):
            raise DataError(f"{self.source}: positions must have shape {(n_atoms, 3)}, got {self.positions.shape}.")
        if not np.isfinite(self.positions).all():
            atom = int(np.argmin(np.isfinite(self.positions).all(axis=1)))
            raise DataError(f"{self.source}: the position of atom {atom} is not finite. Repair the frame or leave it out.")
        unknown = (self.atomic_numbers < 1) | (self.atomic_numbers > 118)
        if unknown.any():
            atom = int(np.argmax(unknown))
            raise DataError(
                f"{self.source}: atom {atom} has atomic number {self.atomic_numbers[atom]}, "
                "which is no element. Remove dummy atoms."
            )
        self._check_cell()
        self._check_labels()
        self._check_total_charge()

    def _check_cell(self) -> None:
        if not np.isfinite(self.cell).all():
            raise DataError(f"{self.source}: the cell is not finite. Repair the frame or leave it out.")
        if not self.pbc.any():
            return
        rows = self.cell[self.pbc]
        # The Gram determinant is the squared length, area or volume that the periodic vectors span.
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # of vectors beyond all sizes, which are refused
            lengths = np.linalg.norm(rows, axis=1)
            flat = not np.linalg.det(rows @ rows.T) > (_FLAT * lengths.prod()) ** 2
        if lengths.min() == 0 or flat:
            raise DataError(
                f"{self.source}: periodic along {self.pbc.astype(int).tolist()}, but the lattice vectors "
                f"{rows.tolist()} enclose no volume. Give a cell, or set pbc to F."
            )

    def _check_labels(self) -> None:
        for name, value in self.labels.items():
            row = PROPERTIES[name]
            expected = (len(self.atomic_numbers), *row.shape) if row.per == "atom" else row.shape
            if value.shape != expected:
                raise DataError(f"{self.source}: {name} must have shape {expected}, got {value.shape}.")
            if not np.isfinite(value).all():
                raise DataError(f"{self.source}: {name} holds a value that is not finite. Repair the frame or leave it out.")

    def _check_total_charge(self) -> None:
        value = self.info.get(TOTAL_CHARGE, 0.0)
        number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not number or not np.isfinite(value):
            raise DataError(f"{self.source}: {TOTAL_CHARGE} must be a number of elementary charges, got {value!r}.")

    @property
    def total_charge(self) -> float:
        """Charge of the structure, in e; zero where the file says nothing."""
        return float(self.info.get(TOTAL_CHARGE, 0.0))

    def __len__(self) -> int:
        return len(self.atomic_numbers)

    @classmethod
    def from_atoms(
        cls,
        atoms: Atoms,
        *,
        keys: Mapping[str, str] | None = None,
        index_order: str = "polarization_first",
        properties: Collection[str] | None = None,
        source: str = "atoms",
        carry: bool = False,
        left_out: MutableMapping[str, str] | None = None,
        needed: Collection[str] = (),
    ) -> Frame:
        """Make a frame from ASE atoms.

        Args:
            atoms: Structure; labels are looked for in its arrays, its info and its calculator results.
            keys: Key of a property in the file, by property name; replaces the known aliases.
            index_order: Order of the two indices of Born effective charges in ``atoms``: ``"polarization_first"`` or
                ``"displacement_first"``.
            properties: Labels to read; all that are known when None.
            source: How messages name this frame.
            carry: Whether to keep what else the atoms have, for :meth:`to_atoms`.
            left_out: As for :func:`~bec_mace.data.labels.extract_labels`.
            needed: As there.

        Raises:
            DataError: As the class, or labels that are ambiguous, not numbers, not finite, or wrongly shaped.
        """
        return cls(
            atomic_numbers=atoms.numbers.astype(np.int64),
            positions=np.array(atoms.positions, dtype=np.float64),
            cell=np.array(atoms.cell.array, dtype=np.float64),
            pbc=np.array(atoms.pbc, dtype=bool),
            labels=extract_labels(
                atoms, source, keys=keys, index_order=index_order, properties=properties, left_out=left_out, needed=needed
            ),
            source=source,
            info=metadata(atoms, keys),
            unread=unread_keys(atoms, keys) if properties is None else (),
            carried=carried_along(atoms) if carry else {},
        )

    def to_atoms(self) -> Atoms:
        """Make ASE atoms that hold the labels under the ``REF_`` names, tensors as 9 numbers in row-major order."""
        from ase import Atoms

        atoms = Atoms(numbers=self.atomic_numbers, positions=self.positions, cell=self.cell, pbc=self.pbc)
        atoms.info.update(self.info)
        for name, value in self.labels.items():
            row = PROPERTIES[name]
            if row.per == "atom":
                flat = value.reshape(len(self), -1) if row.shape else value
                atoms.set_array(row.keys[0], flat)
            else:
                atoms.info[row.keys[0]] = value.reshape(-1).copy() if row.shape else float(value)
        if self.carried:
            give_back(atoms, self.carried)
        return atoms
