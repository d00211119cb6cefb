"""The frames of a batch, side by side: what all sums work on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bec_mace.errors import ModelError


@dataclass(frozen=True)
class ChargedFrames:
    """Structures of a batch, atoms in any order.

    Attributes:
        positions: Of shape (n_atoms, 3), in Å.
        frame_index: The frame of each atom, of shape (n_atoms,).
        cell: Lattice vectors as rows, of shape (n_frames, 3, 3), in Å.
        pbc: Periodic directions, of shape (n_frames, 3), bool.
        precision: Of sums over wavevectors, of which the phases are as exact as the positions; theirs by default.
    """

    positions: Tensor
    frame_index: Tensor
    cell: Tensor
    pbc: Tensor
    precision: torch.dtype | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.cell.shape[0]

    @cached_property
    def numbers(self) -> dict[str, list[int]]:
        """The frames that are crystals, slabs and molecules.

        Raises:
            ModelError: A frame is periodic in one direction.
        """
        kinds: dict[str, list[int]] = {"crystal": [], "slab": [], "molecule": []}
        for number, directions in enumerate(self.pbc.sum(dim=1).tolist()):
            if directions == 1:
                raise ModelError(
                    f"frame {number} of the batch is periodic in one direction (pbc "
                    f"{' '.join('T' if one else 'F' for one in self.pbc[number].tolist())}); Coulomb sums of wires are not "
                    "implemented. Give it a wide cell and pbc T T T."
                )
            kinds[{3: "crystal", 2: "slab", 0: "molecule"}[directions]].append(number)
        return kinds

    def rows(self, frames: list[int]) -> tuple[Tensor, Tensor]:
        """Atoms of some frames, one frame in each row.

        Returns:
            Places of the atoms, of shape (len(frames), most atoms), 0 where a frame has fewer, and which of them are there.
        """
        device = self.positions.device
        counts = torch.bincount(self.frame_index, minlength=self.n_frames)
        order = torch.argsort(self.frame_index, stable=True)
        first = (torch.cumsum(counts, 0) - counts)[torch.tensor(frames, device=device)].unsqueeze(1)
        chosen = counts[torch.tensor(frames, device=device)].unsqueeze(1)
        slot = torch.arange(int(chosen.max()), device=device)
        there = slot < chosen
        return order[(first + slot).where(there, 0)].where(there, 0), there
