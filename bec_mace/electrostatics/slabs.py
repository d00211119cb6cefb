r"""Slabs: periodic in two directions, as crystals with a wide vacuum and without the field that their dipoles would make there.

.. math:: E = E_{crystal} + \frac{2 \pi k_e}{V} M_n^2, \qquad M_n = \sum_i n \cdot (q_i r_i + u_i)

(Yeh and Berkowitz, J. Chem. Phys. 111, 3155, 1999.) What is left of the images falls off as exp(-G gap), with G the shortest
reciprocal vector of the plane; the gap follows from the tolerance.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bec_mace.electrostatics.multipoles import Multipoles
from bec_mace.units import COULOMB_CONSTANT

_STEP = 2.0
"""The height is a multiple of this, in Å, so that it stays the same while atoms move a little."""


def enclosing_cells(cell: Tensor, pbc: Tensor, positions: Tensor, there: Tensor, smearing: float, tolerance: float) -> Tensor:
    """Cells of slabs with a vacuum that is wide enough, of shape (n_frames, 3, 3); the third vector is along the normal.

    Args:
        cell: Lattice vectors as rows; that of the direction that is not periodic is not looked at.
        pbc: Two periodic directions each, of shape (n_frames, 3).
        positions: Of shape (n_frames, n, 3), in Å.
        there: Which places hold an atom, of shape (n_frames, n).
        smearing: In Å.
        tolerance: What is left of the images.
    """
    plane = cell[pbc].view(-1, 2, 3)
    normal = torch.linalg.cross(plane[:, 0], plane[:, 1])
    area = torch.linalg.vector_norm(normal, dim=1)
    normal = normal / area.unsqueeze(1)
    height = (positions @ normal.unsqueeze(2)).squeeze(2)
    top = height.where(there, torch.full_like(height, -math.inf)).max(dim=1).values
    bottom = height.where(there, torch.full_like(height, math.inf)).min(dim=1).values
    # The shortest reciprocal vector is 2 pi over the largest distance of two lattice rows.
    rows = area / torch.linalg.vector_norm(plane, dim=2).min(dim=1).values
    gap = -math.log(tolerance) * rows / (2 * math.pi) + 2 * smearing * math.sqrt(-2 * math.log(tolerance))
    total = torch.ceil((top - bottom + gap) / _STEP) * _STEP
    return torch.cat([plane, (total.unsqueeze(1) * normal).unsqueeze(1)], dim=1)


def dipole_energies(sources: Multipoles, positions: Tensor, cell: Tensor) -> Tensor:
    """What takes the field across the vacuum away, of shape (n_frames,), in eV.

    Args:
        sources: Of n places in each frame; their charges sum to zero.
        positions: Of shape (n_frames, n, 3), in Å.
        cell: As :func:`enclosing_cells` makes them.
    """
    normal = torch.nn.functional.normalize(cell[:, 2], dim=1)
    along = (positions @ normal.unsqueeze(2)).squeeze(2)
    moment = (sources.charges * (along - along.mean(dim=1, keepdim=True).detach())).sum(dim=1)
    if sources.dipoles is not None:
        moment = moment + (sources.dipoles @ normal.unsqueeze(2)).sum(dim=(1, 2))
    energies: Tensor = 2 * math.pi * COULOMB_CONSTANT * moment.square() / torch.linalg.det(cell).abs()
    return energies
