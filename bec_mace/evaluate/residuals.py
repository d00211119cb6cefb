"""What counts as an error of a property, once: for the loss, for the log and for evaluation.

Errors are made comparable between cells of different size. How is a column of the table of properties, ``Property.error``:

* ``per_atom`` (energy): the error over the number of atoms of the frame;
* ``per_root_atom`` (dipole, polarization): over its square root, because the dipole of a disordered system fluctuates with
  the root of its size;
* ``relative`` (polarizability, dielectric tensor): over a third of the trace of the label;
* ``absolute``: the error itself.

The polarization of a periodic frame is defined modulo the quantum e times a lattice vector. Its error is the difference
reduced by whole numbers of the periodic lattice vectors to fractional coordinates in [-1/2, 1/2].
"""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.properties import PROPERTIES

_UNIT = {"per_atom": "{}/atom", "per_root_atom": "{}/sqrt(atom)", "relative": "relative", "absolute": "{}"}


def reduce_to_quantum(difference: Tensor, cell: Tensor, pbc: Tensor) -> Tensor:
    """Subtract the whole numbers of polarization quanta nearest to a difference of polarizations.

    Args:
        difference: Cell dipoles, of shape (n_frames, 3), in e Å.
        cell: Lattice vectors as rows, of shape (n_frames, 3, 3), in Å.
        pbc: Periodic directions, of shape (n_frames, 3), bool. Only these have a quantum.

    Returns:
        The reduced difference, of shape (n_frames, 3), in e Å.
    """
    lattice = (cell * pbc.unsqueeze(-1)).detach().to(difference.dtype)
    inverse = torch.linalg.pinv(lattice)
    quanta = torch.einsum("fa,fak->fk", difference.detach(), inverse).round()
    return difference - torch.einsum("fk,fka->fa", quanta, lattice)


def residual(name: str, prediction: Tensor, label: Tensor, n_atoms: Tensor, cell: Tensor, pbc: Tensor) -> Tensor:
    """Error of one property in the form that enters the loss; see the module.

    Args:
        name: The property.
        prediction: Of all frames or of all their atoms, of shape (n, ...).
        label: Of the same shape. Where a label is relative and zero there is none, and nothing is divided by it.
        n_atoms: Of each frame, of shape (n_frames,).
        cell: Lattice vectors as rows, of shape (n_frames, 3, 3), in Å.
        pbc: Periodic directions, of shape (n_frames, 3), bool.

    Returns:
        Of shape (n, n_components).
    """
    row = PROPERTIES[name]
    difference = prediction - label
    if row.modulo_quantum:
        difference = reduce_to_quantum(difference, cell, pbc)
    difference = difference.reshape(difference.shape[0], -1)
    if row.error == "per_atom":
        return difference / n_atoms.to(difference.dtype).unsqueeze(-1)
    if row.error == "per_root_atom":
        return difference / n_atoms.to(difference.dtype).sqrt().unsqueeze(-1)
    if row.error == "relative":
        scale = label.diagonal(dim1=1, dim2=2).mean(dim=1, keepdim=True)
        return difference / torch.where(scale == 0, torch.ones_like(scale), scale)
    return difference


def residual_unit(name: str) -> str:
    """Unit of :func:`residual`, as printed."""
    row = PROPERTIES[name]
    return _UNIT[row.error].format(row.unit)
