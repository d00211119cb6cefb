"""The one hop of a kernel model: densities, descriptors, kernels, sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bec_mace.models.environments import Environments
from bec_mace.models.stages import EdgePart, Sources, StageOutput

if TYPE_CHECKING:
    from bec_mace.models.kernel.model import KernelModel


class KernelStage:
    """The stage of the engine: neighbours hand on which element they are, and the edges make the densities."""

    def __init__(self, model: KernelModel, heads: Sequence[str]) -> None:
        self.model, self.heads = model, heads

    def prepare(self, node_feats: Tensor) -> Tensor:
        """The element of each atom, of shape (1, n_atoms, n_elements)."""
        return node_feats.unsqueeze(0)

    def propagate(
        self, node_feats: Tensor, sender_feats: Tensor, edge_feats: Sequence[Tensor], env: Environments
    ) -> StageOutput:
        """Charges and dipoles of the atoms."""
        density, element = self.model.descriptors.density, sender_feats[0]
        messages = density(env, element).requires_grad_(edge_feats[0].requires_grad)

        def pull(cotangents: list[Tensor], needed: bool) -> tuple[list[Tensor | None], list[list[Tensor | None]]]:
            pulled = density.pull(torch.stack(cotangents), env, element)
            return [None] * len(cotangents), [[vectors] for vectors in pulled.unbind(0)]

        return StageOutput(None, self._sources(messages, env), EdgePart(messages, pull))

    def _sources(self, densities: Tensor, env: Environments) -> Sources:
        model = self.model
        described = model.descriptors(densities)
        charges, dipoles = [], []
        for number, atoms in enumerate(model.atoms_of(env.counts)):
            # Large weights of either sign nearly cancel: the sum over representatives is done in their precision, float64.
            representatives = model.representatives_of(number)
            overlaps = described.invariants[atoms].to(representatives) @ representatives.T
            if "monopole" in self.heads:
                charges.append(overlaps.pow(model.zeta) @ model.weights_of("monopole", number))
            if "dipole" in self.heads:
                weights = overlaps.pow(model.zeta - 1) * model.weights_of("dipole", number)
                channels = (weights @ model.directions_of(number)).to(densities)
                dipoles.append(torch.bmm(described.vectors[atoms], channels.unsqueeze(2)).squeeze(2))
        return Sources(charges=torch.cat(charges).to(densities) if charges else None,
                       dipoles=torch.cat(dipoles) if dipoles else None)
