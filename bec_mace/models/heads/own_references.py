"""Energies of other programs: where they are counted from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class OwnReferences(torch.nn.Module):
    r"""Reference energies of data from elsewhere, over those that a model predicts with.

    .. math:: E_{elsewhere} = E + \sum_i (e_{z_i} + \delta_{z_i})

    e is fitted to the data before training, in float64, and :math:`\delta` is learned with the model, so that what binds
    atoms in one set is not taken for a difference of programs.

    Args:
        energies: By name of the reference, e of each element, in eV.
    """

    def __init__(self, energies: Mapping[str, Sequence[float]]) -> None:
        super().__init__()
        self.energies = tuple(tuple(row) for row in energies.values())
        self.shifts = torch.nn.Parameter(torch.zeros(len(self.energies), len(self.energies[0])))

    def forward(self, reference: Tensor, species: Tensor, frame_index: Tensor) -> Tensor:
        """What the energies of frames have beside those that the model predicts, of shape (n_frames,), float64, in eV.

        Args:
            reference: Number of the reference of each frame, from 1; 0 for those of the model.
            species: Element of each atom.
            frame_index: Frame of each atom.
        """
        fixed = torch.tensor(self.energies, dtype=torch.float64, device=species.device)
        table = torch.cat([torch.zeros_like(fixed[:1]), fixed + self.shifts.double()])
        atoms = table[reference[frame_index], species]
        return atoms.new_zeros(len(reference)).index_add(0, frame_index, atoms)
