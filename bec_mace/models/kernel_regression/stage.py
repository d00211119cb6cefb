"""The one hop of a kernel model: densities, descriptors, kernels, sources."""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.engine.contract import EdgeCotangents, EdgeFeatures, EdgePart, Sources, StageOutput
from bec_mace.engine.environments import Environments
from bec_mace.models.kernel_regression.kernel import Kernel, element_slices


class KernelStage:
    """The stage of the engine: neighbours hand on which element they are, and the edges make the densities."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def prepare(self, node_feats: Tensor) -> Tensor:
        """The element of each atom, of shape (1, n_atoms, n_elements)."""
        return node_feats.unsqueeze(0)

    def propagate(self, node_feats: Tensor, sender_feats: Tensor, edge_feats: EdgeFeatures, env: Environments) -> StageOutput:
        """Charges and dipoles of the atoms."""
        density, element = self.kernel.descriptors.density, sender_feats[0]
        messages = density(env, element).requires_grad_(edge_feats.vectors.requires_grad)

        def pull(cotangents: list[Tensor], needed: bool) -> tuple[list[Tensor | None], list[EdgeCotangents]]:
            pulled = density.pull(torch.stack(cotangents), env, element)
            return [None] * len(cotangents), [{"vectors": vectors} for vectors in pulled.unbind(0)]

        return StageOutput(None, self._sources(messages, env), EdgePart(messages, pull))

    def _sources(self, densities: Tensor, env: Environments) -> Sources:
        kernel = self.kernel
        described = kernel.descriptors(densities)
        charges, dipoles = [], []
        for number, atoms in enumerate(element_slices(env.counts)):
            # Large weights of either sign nearly cancel: the sum over representatives is done in their precision, float64.
            representatives = kernel.representatives_of(number)
            overlaps = described.invariants[atoms].to(representatives) @ representatives.T
            if "monopole" in kernel.weights:
                charges.append(overlaps.pow(kernel.zeta) @ kernel.weights_of("monopole", number))
            if "dipole" in kernel.weights:
                weights = overlaps.pow(kernel.zeta - 1) * kernel.weights_of("dipole", number)
                channels = (weights @ kernel.directions_of(number)).to(densities)
                dipoles.append(torch.bmm(described.vectors[atoms], channels.unsqueeze(2)).squeeze(2))
        return Sources(
            charges=torch.cat(charges).to(densities) if charges else None, dipoles=torch.cat(dipoles) if dipoles else None
        )
