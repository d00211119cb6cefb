r"""Coordinates in which the prior of the weights is a unit matrix.

The prior of a kernel model is that of a Gaussian process on its representatives: weights w of one head and element have the
covariance :math:`\alpha^{-1} K^{-1}` with K the kernels between representatives. With :math:`K = U \Lambda U^T` and
:math:`w = U \Lambda^{-1/2} v` the new weights v have :math:`\alpha^{-1}`. Directions with a tiny eigenvalue are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from ase.data import chemical_symbols
from torch import Tensor

from bec_mace.models.kernel_regression.kernel import Kernel
from bec_mace.models.kernel_regression.kernel_model import KernelModel

_SMALLEST = 1e-9
_REFERENCE_SCALE = 1.0


@dataclass(frozen=True)
class Whitening:
    """A map from new weights to those of the model, one for each head and element.

    Attributes:
        maps: Of shape (n_weights, n_new), one for each head and element and one for the reference charges.
        groups: Which prior each new weight has, of shape (n_new,); -1 for reference charges, whose prior is fixed.
        names: Name of each prior, such as "monopole H".
    """

    maps: list[Tensor]
    groups: Tensor
    names: list[str]

    def columns(self, rows: Tensor) -> Tensor:
        """A design matrix (n, n_weights) in the new weights, (n, n_new)."""
        parts = rows.split([matrix.shape[0] for matrix in self.maps], dim=1)
        return torch.cat([part @ matrix for part, matrix in zip(parts, self.maps, strict=True)], dim=1)

    def weights(self, new: Tensor) -> Tensor:
        """From new weights (n_new, ...) to those of the model, (n_weights, ...)."""
        parts = new.split([matrix.shape[1] for matrix in self.maps])
        return torch.cat([matrix @ part for part, matrix in zip(parts, self.maps, strict=True)])


def whiten(model: KernelModel) -> Whitening:
    """The map for the representatives of a model."""
    maps: list[Tensor] = []
    groups: list[Tensor] = []
    names: list[str] = []
    for head in model.heads:
        for number, z in enumerate(model.elements):
            covariance = prior_covariance(model.kernel(), head, number)
            values, vectors = torch.linalg.eigh(covariance)
            kept = values > _SMALLEST * values[-1].clamp(min=torch.finfo(values.dtype).tiny)
            maps.append(vectors[:, kept] / values[kept].sqrt())
            groups.append(torch.full((maps[-1].shape[1],), len(names)))
            names.append(f"{head} {chemical_symbols[z]}")
    if model.config.reference_charges:
        maps.append(_REFERENCE_SCALE * torch.eye(len(model.elements)).to(model.representatives))
        groups.append(torch.full((len(model.elements),), -1))
    return Whitening(maps, torch.cat(groups).to(model.representatives.device), names)


def prior_covariance(kernel: Kernel, head: str, number: int) -> Tensor:
    """Kernels between the representatives of one element."""
    representatives, directions = kernel.representatives_of(number), kernel.directions_of(number)
    overlaps = representatives @ representatives.T
    if head == "monopole":
        return overlaps.pow(kernel.zeta)
    return overlaps.pow(kernel.zeta - 1) * (directions @ directions.T)
