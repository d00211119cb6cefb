"""Properties of cells, from their volume or from what their atoms have of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bec_mace.data.graph import Graph
from bec_mace.engine.environments import SortedAtoms
from bec_mace.errors import ModelError
from bec_mace.properties import PROPERTIES


def dielectric_response(polarizability: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
    """Polarizabilities as given, in Å^3, and dielectric tensors, not a number where a frame does not fill space."""
    fills_space = graph.pbc.all(dim=1).view(-1, 1, 1)
    volume = torch.linalg.det(graph.cell).abs().view(-1, 1, 1).to(polarizability.dtype)
    # The gradient of what is not taken must be a number too.
    volume = torch.where(fills_space, volume, torch.ones_like(volume))
    identity = torch.eye(3, dtype=polarizability.dtype, device=polarizability.device)
    return polarizability, torch.where(fills_space, identity + 4 * math.pi * polarizability / volume, torch.nan)


def stress_of(virial: Tensor, graph: Graph) -> Tensor:
    """Stress from the derivative of the energy by a strain, of shape (n_frames, 3, 3), in eV/Å^3.

    Not a number where a frame is not periodic in three directions.
    """
    fills_space = graph.pbc.all(dim=1).view(-1, 1, 1)
    volume = torch.linalg.det(graph.cell.detach()).abs().to(virial.dtype).view(-1, 1, 1)
    volume = torch.where(fills_space, volume, torch.ones_like(volume))
    return torch.where(fills_space, 0.5 * (virial + virial.transpose(1, 2)) / volume, torch.nan)


def of_atoms_or_frames(name: str, shares: Tensor, atoms: SortedAtoms) -> Tensor:
    """A property from what each atom has of it."""
    row = PROPERTIES[name]
    if shares.shape[1:] != row.shape:
        raise ModelError(
            f"a head gives {name} of shape {tuple(shares.shape[1:])}, and the table of properties says "
            f"{row.shape}; make them agree."
        )
    if row.per == "atom":
        return atoms.unsort(shares)
    total = atoms.sum_over_frames(shares)
    if row.extensive:
        return total
    count = torch.bincount(atoms.frame_index, minlength=atoms.n_frames).to(shares.dtype)
    return total / count.view(-1, *[1] * len(row.shape))
