r"""Raman scattering of vibrations, from the derivatives of a polarizability along them.

With :math:`\alpha' = d\alpha / dQ` of a normal mode, its mean :math:`a' = \operatorname{tr} \alpha' / 3` and its anisotropy

.. math:: \gamma'^2 = \tfrac12 \left[ (\alpha'_{xx} - \alpha'_{yy})^2 + (\alpha'_{yy} - \alpha'_{zz})^2
          + (\alpha'_{zz} - \alpha'_{xx})^2 \right] + 3 (\alpha'^2_{xy} + \alpha'^2_{yz} + \alpha'^2_{zx}) ,

the activity of a gas of molecules is :math:`45 a'^2 + 7 \gamma'^2`, and what is scattered of plane polarized light has the
depolarization ratio :math:`3 \gamma'^2 / (45 a'^2 + 4 \gamma'^2)`: 3/4 where a' vanishes.

Of a crystal :math:`\alpha` is the polarizability of its primitive cell in the absence of a macroscopic field, V / 4 pi times
its susceptibility; the activity is then that of a powder, each grain of it on its own. What a longitudinal mode scatters by
its field (the electro-optical part) is not in it.

Source: D. Porezag and M. R. Pederson, Phys. Rev. B 54, 7830 (1996), equations 9 to 11.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from bec_mace.data.formats.site_symmetry import find_operations
from bec_mace.errors import PhononError
from bec_mace.models import PolarizationModel
from bec_mace.phonons.born import evaluate_cell

RAMAN = "raman_tensors"


def raman_of_crystal(phonon: Any, atoms: Atoms, model: PolarizationModel, source: str) -> np.ndarray:
    """Raman tensors of a primitive cell by a model, averaged over the space group.

    Args:
        phonon: From ``make_phonon``.
        atoms: Its unit cell.
        model: Gives polarizabilities.
        source: Its name.

    Returns:
        Of shape (n_atoms, 3, 3, 3), displacement last, in Å^2, in the order of phonopy's primitive cell.

    Raises:
        PhononError: The model gives no polarizability.
        ModelError: The model does not know an element.
    """
    if RAMAN not in model.provides:
        raise PhononError(
            f"raman: the model {source} gives no polarizability (heads: {', '.join(model.heads)}); name a model with a "
            "polarizability head under charges, or remove raman"
        )
    found = np.array(evaluate_cell(atoms, model, {RAMAN}, source)[RAMAN], dtype=np.float64)
    group = find_operations(atoms, f"{source}: Raman tensors are averaged over the space group", phonon.symmetry.tolerance)
    cell = phonon.supercell
    chosen = [cell.u2u_map[cell.s2u_map[number]] for number in phonon.primitive.p2s_map]
    return group.average(found)[chosen]


def along_modes(tensors: np.ndarray, displacements: np.ndarray) -> np.ndarray:
    """Derivatives of the polarizability along modes, of shape (n_modes, 3, 3), in Å^2/u^(1/2).

    Args:
        tensors: Raman tensors of the atoms, of shape (n_atoms, 3, 3, 3), displacement last, in Å^2.
        displacements: Of the modes, over the roots of the masses, of shape (n_modes, n_atoms, 3), in u^(-1/2).
    """
    return np.asarray(np.einsum("jabc,mjc->mab", tensors, displacements))


def activities(derivatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Raman activities in Å^4/u and depolarization ratios of modes; see the module.

    Args:
        derivatives: Of the polarizability, of shape (n_modes, 3, 3), in Å^2/u^(1/2).
    """
    mean = np.trace(derivatives, axis1=1, axis2=2) / 3
    x, y, z = (derivatives[:, a, a] for a in range(3))
    anisotropy = 0.5 * ((x - y) ** 2 + (y - z) ** 2 + (z - x) ** 2)
    anisotropy = anisotropy + 3 * (derivatives[:, 0, 1] ** 2 + derivatives[:, 1, 2] ** 2 + derivatives[:, 2, 0] ** 2)
    polarized = 45 * mean**2 + 4 * anisotropy
    ratios = np.divide(3 * anisotropy, polarized, out=np.zeros_like(polarized), where=polarized > 0)
    return polarized + 3 * anisotropy, ratios
