r"""Derivative databases of Abinit (DDB): one structure, Born effective charges and dielectric tensor.

A DDB holds second derivatives of the energy by reduced displacements of atoms and by reduced fields, at one or more wave
vectors. With lattice vectors as rows of R, reciprocal ones as rows of G (R G^T = 1) and the volume V, in atomic units,

.. math::

    Z_{j,ab} = z_j \delta_{ab} + \frac{1}{2\pi} \sum_{kl} R_{ka} \, G_{lb} \, E_{k,jl}, \qquad
    \varepsilon_{ab} = \delta_{ab} - \frac{4\pi}{V (2\pi)^2} \sum_{kl} R_{ka} \, R_{lb} \, E_{kl}

with the charge z of an ion without its valence electrons (Gonze and Lee, Phys. Rev. B 55, 10355). Both orders of the
mixed derivative may be there, from the response to a field and from that to displacements; their mean is taken, as anaddb does.
No sum rule is applied.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bec_mace.data.formats.parsing import Lines, attach, attach_dielectric, numbers, read_lines
from bec_mace.errors import DataError
from bec_mace.units import BOHR

if TYPE_CHECKING:
    from ase import Atoms

logger = logging.getLogger(__name__)

DIFFERENT = 0.05
"""How far the two derivatives may be from each other before a remark says so, in e."""
_NEEDED = {"natom": 1, "acell": 3, "rprim": 9, "typat": None, "xred": None, "znucl": None, "zion": None}
_WORD = re.compile(r"^\s*([A-Za-z_]\w*)\s+(?=[-+\d.])(.*)")
_BLOCK = re.compile(r"^\s*2nd (?:derivatives|r?deriv\.?\w*)\s*\((?:non-stat\.|stationary)\)\s*-\s*# elements\s*:\s*(\d+)")


def recognises(head: str) -> bool:
    """Whether a file that begins like this is a derivative database."""
    return "**** DERIVATIVE DATABASE ****" in head


def read(path: Path) -> Iterator[Atoms]:
    """Yield the structure of a DDB, with Born effective charges and dielectric tensor where it has them.

    Raises:
        DataError: A header or a block that is cut off, atoms that are no elements, or charges of some atoms alone.
    """
    lines = read_lines(path)
    header = _header(lines, path)
    atoms = structure_of(header, str(path))
    block = _gamma_block(lines, path)
    if block:
        _attach(atoms, block, header, path)
    yield atoms


def structure_of(values: dict[str, list[float]], where: str) -> Atoms:
    """The structure that Abinit's variables describe: ``acell``, ``rprim``, ``xred``, ``typat`` and ``znucl``.

    Raises:
        DataError: Lists of the wrong length, or a type that is no element.
    """
    from ase import Atoms

    types, places, charges = values["typat"], np.array(values["xred"]).reshape(-1, 3), values["znucl"]
    n_atoms = int(values["natom"][0])
    if len(types) != n_atoms or len(places) != n_atoms:
        raise DataError(
            f"{where}: natom is {n_atoms}, but typat has {len(types)} and xred {len(places)} atoms; the file is damaged "
            "or cut off: leave it out."
        )
    elements = []
    for kind in types:
        nucleus = charges[int(kind) - 1] if 0 < kind <= len(charges) else 0.0
        if nucleus < 1 or nucleus != int(nucleus):
            raise DataError(f"{where}: znucl of the type of atoms {int(kind)} is {nucleus:g}, which is no element.")
        elements.append(int(nucleus))
    cell = np.array(values["rprim"]).reshape(3, 3) * np.array(values["acell"])[:, None] * BOHR
    return Atoms(numbers=elements, cell=cell, scaled_positions=places, pbc=True)


def mean_of_both(found: list[np.ndarray], path: Path) -> np.ndarray:
    """The mean of the mixed derivatives that are there, of shape (n_atoms, 3, 3); a remark where they differ."""
    if len(found) == 2 and (gap := float(np.abs(found[0] - found[1]).max())) > DIFFERENT:
        logger.warning(
            "%s: Born effective charges from the response to a field and to displacements differ by up to %.4f e, and their "
            "mean is taken; the calculation is not converged",
            path,
            gap,
        )
    result: np.ndarray = np.mean(found, axis=0)
    return result


def _header(lines: Lines, path: Path) -> dict[str, list[float]]:
    """Variables of the header that matter, by name."""
    values: dict[str, list[float]] = {}
    name = ""
    for number, line in lines:
        if "Description of the potentials" in line:
            break
        match = _WORD.match(line)
        if match:
            name, rest = match[1], match[2]
        elif re.match(r"^\s*[-+]?[\d.]", line):
            rest = line
        else:
            name, rest = "", ""
        if name in _NEEDED:
            words = rest.replace("D", "E").split()
            values.setdefault(name, []).extend(numbers(" ".join(words), len(words), f"{path}, line {number}"))
    for needed, count in _NEEDED.items():
        if needed not in values or count not in (None, len(values[needed])):
            raise DataError(f"{path}: no complete {needed} in the header of this DDB. It is cut off or damaged: leave it out.")
    return values


def _gamma_block(lines: Lines, path: Path) -> dict[tuple[int, ...], float]:
    """Real parts of the derivatives at zero wave vector by (direction, perturbation) twice; blocks there are put together."""
    found: dict[tuple[int, ...], float] = {}
    for number, line in lines:
        if "List of bloks" in line:
            break
        match = _BLOCK.match(line)
        if match is None:
            continue
        _, line = next(lines, (0, ""))
        words = line.replace("D", "E").split()
        if not words or words[0] != "qpt":
            raise DataError(f"{path}, line {number + 1}: expected the wave vector 'qpt' of a block. The file is damaged.")
        is_gamma = not any(numbers(" ".join(words[1:4]), 3, f"{path}, line {number + 1}"))
        for _ in range(int(match[1])):
            number, line = next(lines, (number, ""))
            entry = numbers(line.replace("D", "E"), 6, f"{path}, line {number}")
            if is_gamma:
                found[tuple(int(one) for one in entry[:4])] = entry[4]
    return found


def _attach(atoms: Atoms, block: dict[tuple[int, ...], float], header: dict[str, list[float]], path: Path) -> None:
    n_atoms, rows = len(atoms), atoms.cell.array / BOHR
    # The perturbation behind the atoms is the derivative by k, then comes the field.
    field, reciprocal = n_atoms + 2, np.linalg.inv(rows).T
    charges = np.array([header["zion"][int(kind) - 1] for kind in header["typat"]])
    sides: list[np.ndarray] = []
    any_mixed = False
    for field_first in (True, False):
        keys = [
            [[(k, field, axis, atom) if field_first else (axis, atom, k, field) for axis in (1, 2, 3)] for k in (1, 2, 3)]
            for atom in range(1, n_atoms + 1)
        ]
        held = [key in block for tensor in keys for row in tensor for key in row]
        any_mixed |= any(held)
        if all(held):
            reduced = np.array([[[block[key] for key in row] for row in tensor] for tensor in keys])
            mixed = np.einsum("ka,lb,jkl->jab", rows, reciprocal, reduced) / (2 * np.pi)
            sides.append(mixed + charges[:, None, None] * np.eye(3))
    if any_mixed and not sides:
        raise DataError(
            f"{path}: Born effective charges of some atoms or directions alone. Merge the DDB files of all perturbations with "
            "mrgddb, or compute all of them (rfatpol, rfdir)."
        )
    if sides:
        attach(atoms, mean_of_both(sides, path), str(path))
    _attach_dielectric(atoms, block, field, rows)


def _attach_dielectric(atoms: Atoms, block: dict[tuple[int, ...], float], field: int, rows: np.ndarray) -> None:
    keys: Any = [[(k, field, m, field) for m in (1, 2, 3)] for k in (1, 2, 3)]
    if all(key in block for row in keys for key in row):
        reduced = np.array([[block[key] for key in row] for row in keys])
        second = np.einsum("ka,lb,kl->ab", rows, rows, reduced) / (2 * np.pi) ** 2
        attach_dielectric(atoms, np.eye(3) - 4 * np.pi * second / abs(np.linalg.det(rows)))
