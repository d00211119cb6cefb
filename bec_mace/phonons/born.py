"""Born effective charges and the dielectric tensor of a crystal: from a model or a BORN file, made symmetric, written as BORN.

phonopy averages both over the space group and takes the mean tensor of the cell away, so that the acoustic sum rule holds.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from bec_mace.data import Frame, build_graph
from bec_mace.errors import PhononError
from bec_mace.models import PolarizationModel
from bec_mace.models.familiarity import Familiarity
from bec_mace.phonons.lattice import explained, phonopy_module
from bec_mace.predict.work_units import check_finite, split_outputs
from bec_mace.storage.files import replace_text
from bec_mace.units import COULOMB_CONSTANT

logger = logging.getLogger(__name__)

Z, EPSILON = "born_effective_charges", "dielectric_tensor"
_LARGE = 0.1
_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class BornCharges:
    """Z* and dielectric tensor of a primitive cell, symmetric.

    Attributes:
        charges: Of shape (n_atoms, 3, 3), Z[atom, polarization, displacement], in e, in the order of phonopy's primitive cell.
        epsilon: Dielectric tensor at clamped nuclei, of shape (3, 3).
        source: Where they come from.
        change: Largest change of a component of Z* by symmetry and sum rule, in e.
        change_epsilon: The same of the dielectric tensor.
        sum_before: Largest component of the sum of Z* over the unit cell, divided by its number of atoms, before; in e.
        ewald: ``G_cutoff`` and ``Lambda`` of a BORN file that gives them, for phonopy.
    """

    charges: np.ndarray
    epsilon: np.ndarray
    source: str
    change: float
    change_epsilon: float
    sum_before: float
    ewald: dict[str, float]

    def apply(self, phonon: Any) -> None:
        """Let phonopy correct its dynamical matrix by the macroscopic field, by the method of Gonze and Lee (1997)."""
        phonon.nac_params = {
            "born": self.charges.copy(),
            "dielectric": self.epsilon.copy(),
            "factor": COULOMB_CONSTANT,
            **self.ewald,
        }


def symmetrise(
    phonon: Any, charges: np.ndarray, epsilon: np.ndarray, source: str, of_primitive: bool = False, **ewald: float
) -> BornCharges:
    """Average Z* and dielectric tensor over the space group and take those of the primitive cell.

    The dielectric tensor is made equal to its transpose, as that of a crystal at rest without a magnetic field is.

    Args:
        phonon: From ``make_phonon``.
        charges: Of shape (n_atoms, 3, 3), in e.
        epsilon: Of shape (3, 3).
        source: Where they come from.
        of_primitive: Whether the charges are of phonopy's primitive cell; of the unit cell otherwise.
        **ewald: ``G_cutoff`` and ``Lambda`` for phonopy.

    Raises:
        PhononError: phonopy cannot do it, or the dielectric tensor is not positive definite.
    """
    average = phonopy_module("phonopy.structure.symmetry").symmetrize_borns_and_epsilon
    cell, options = phonon.primitive if of_primitive else phonon.unitcell, {"symprec": phonon.symmetry.tolerance}
    with explained(f"{source}: phonopy cannot make Z* symmetric"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of large changes, which are reported below
        whole, tensor = average(charges, epsilon, cell, **options)
        primitive = whole if of_primitive else average(charges, epsilon, cell, primitive=phonon.primitive, **options)[0]
    tensor = 0.5 * (tensor + tensor.T)
    if np.linalg.eigvalsh(tensor)[0] <= 0:
        raise PhononError(f"{source}: the dielectric tensor {np.round(tensor, 4).tolist()} is not positive definite")
    change = float(np.abs(whole - charges).max())
    if change > _LARGE:
        logger.warning(
            "%s: symmetry and sum rule change Z* by up to %.2f e; is it of this structure, and is the structure relaxed?",
            source,
            change,
        )
    return BornCharges(
        charges=primitive,
        epsilon=tensor,
        source=source,
        change=change,
        change_epsilon=float(np.abs(tensor - epsilon).max()),
        sum_before=float(np.abs(charges.mean(axis=0)).max()),
        ewald=ewald,
    )


def from_model(
    phonon: Any, atoms: Atoms, model: PolarizationModel, source: str, epsilon_infinity: float | np.ndarray | None = None
) -> BornCharges:
    """Z* and dielectric tensor by a model.

    Args:
        phonon: From ``make_phonon``.
        atoms: Its unit cell.
        model: Gives Z*, and the dielectric tensor unless it is given here.
        source: Its name.
        epsilon_infinity: Dielectric constant, or tensor of shape (3, 3).

    Raises:
        PhononError: The model gives no Z*, or there is no dielectric tensor.
        ModelError: The model does not know an element.
    """
    if Z not in model.provides:
        raise PhononError(f"charges: the model {source} gives no Z* (heads: {', '.join(model.heads)}); name one that does")
    if epsilon_infinity is None and EPSILON not in model.provides:
        raise PhononError(
            f"charges: the model {source} gives no dielectric tensor (heads: {', '.join(model.heads)}); "
            "give charges.epsilon_infinity, or name a model with a polarizability head such as crystals"
        )
    found = evaluate_cell(atoms, model, {Z} if epsilon_infinity is not None else {Z, EPSILON}, source)
    given = found[EPSILON] if epsilon_infinity is None else epsilon_infinity
    tensor = np.eye(3) * given if np.ndim(given) == 0 else np.array(given, dtype=np.float64)
    return symmetrise(phonon, np.array(found[Z], dtype=np.float64), tensor, source)


def evaluate_cell(atoms: Atoms, model: PolarizationModel, names: Set[str], source: str) -> dict[str, np.ndarray]:
    """Properties of one structure by a model, which warns of what it does not know well.

    Args:
        atoms: The structure.
        model: Gives the properties.
        names: Of the properties.
        source: Name of the model.

    Raises:
        ModelError: The model does not know an element.
    """
    frame = Frame.from_atoms(atoms, properties=())
    weights = model.reference_charges
    graph = build_graph(frame, model.r_max, weights.dtype).to(device=weights.device)
    familiarity = Familiarity(model)
    found = next(split_outputs(model(graph, properties=tuple(familiarity.asked(names))), [len(frame)]))
    check_finite(found, source, atoms.pbc)
    familiarity.note(frame.atomic_numbers, found, source)
    return found


def from_file(phonon: Any, path: str | Path) -> BornCharges:
    """Z* and dielectric tensor of a BORN file, which phonopy reads and expands by symmetry.

    Args:
        phonon: From ``make_phonon``.
        path: The file, with the atoms that no symmetry of the primitive cell relates.

    Raises:
        PhononError: The file cannot be read, does not fit to the structure, or is in other units than e and eV Å.
    """
    parse = phonopy_module("phonopy.file_IO").parse_BORN
    tolerance = phonon.symmetry.tolerance
    with explained(f"{path}: cannot be read as BORN of phonopy for this structure"):
        found = parse(phonon.primitive, symprec=tolerance, filename=str(path))
    factor = found.get("factor", COULOMB_CONSTANT)
    if abs(factor / COULOMB_CONSTANT - 1.0) > _UNIT_TOLERANCE:
        raise PhononError(
            f"{path}: begins with the factor {factor:g}, so it belongs to other units than eV and Å, in which e^2/(4 pi eps0) "
            "is 14.3996; bring structure and forces to eV and Å and the factor to 14.4"
        )
    ewald = {name: float(found[name]) for name in ("G_cutoff", "Lambda") if name in found}
    return symmetrise(phonon, np.array(found["born"]), np.array(found["dielectric"]), str(path), of_primitive=True, **ewald)


def write_born(phonon: Any, born: BornCharges, path: str | Path) -> None:
    """Write phonopy's BORN file of the primitive cell: dielectric tensor, then Z* of independent atoms, to 8 decimals.

    Args:
        phonon: From ``make_phonon``.
        born: Of its primitive cell.
        path: The file, complete or not written at all.
    """
    lines = phonopy_module("phonopy.file_IO").get_BORN_lines(
        phonon.primitive, born.charges, born.epsilon, symprec=phonon.symmetry.tolerance
    )
    replace_text(Path(path), "\n".join(lines) + "\n")
