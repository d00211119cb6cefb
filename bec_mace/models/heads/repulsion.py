"""A wall between atoms that come closer than any two in the training data."""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.engine.environments import Environments

STIFFNESS = 5000.0
"""K in eV; a pair that is 10 % closer than where the wall begins costs 5 eV."""

BEGIN = 0.95
"""Where the wall begins, as a fraction of the shortest distance in the data: dynamics goes a little beyond them."""


class Repulsion(torch.nn.Module):
    r"""Energy of pairs that are closer than the data reach, :math:`E = K \sum_{i<j} \max(0, 1 - r_{ij} / d_{z_i z_j})^3`.

    d is 0.95 times the shortest distance of the two elements in the training frames. From there on the wall is exactly zero,
    with its first two derivatives, so it changes no prediction that the data speak of. Below, a network alone often falls:
    nothing has told it that nuclei repel, and dynamics finds the hole.

    Args:
        distances: The shortest distances, of shape (n_elements, n_elements), in Å; 0 for pairs without a wall.
    """

    distances: Tensor

    def __init__(self, distances: Tensor) -> None:
        super().__init__()
        self.register_buffer("distances", BEGIN * distances, persistent=False)

    def forward(self, lengths: Tensor, env: Environments) -> Tensor:
        """Energies of shape (n_atoms,), in eV, half of each pair's for either atom, from lengths of shape (n_edges, 1)."""
        receivers = env.species.repeat_interleave(env.n_slots)
        shortest = self.distances[receivers, env.all_species[env.sender]].clamp(min=1e-3)
        inside = (1 - lengths.squeeze(1) / shortest).clamp(min=0)
        return env.sum_over_slots(0.5 * STIFFNESS * inside**3)
