r"""The standard deviation of Z* from the posterior of the weights.

.. math:: \sigma^2_{j,ab} = \tau_z^2 \, (x^T B B^T x + \sigma_0^2)

x is the row of the design matrix, B B^T the posterior covariance of the weights, sigma_0 what the model cannot describe, and
tau the factor of the element that was found on held-out frames.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bec_mace.models.environments import Environments
from bec_mace.models.kernel.design import sorted_design_matrix

if TYPE_CHECKING:
    from bec_mace.models.kernel.model import KernelModel


def standard_deviation(model: KernelModel, env: Environments, directions: Tensor | None) -> Tensor:
    """Standard deviation of a label of Z*, of shape (n_atoms, 3 or n_directions, 3), sorted order, in e.

    Args:
        model: A fitted model.
        env: The atomic environments.
        directions: Directions of the polarization; x, y, z by default.
    """
    # In float64: rows of the design matrix times the factor of the posterior nearly cancel.
    model, env = copy.deepcopy(model).double(), replace(
        env, vectors=env.vectors.double(), positions=env.positions.double())
    rows = sorted_design_matrix(model, env)
    size = torch.ones(3, dtype=rows.dtype, device=rows.device)
    if directions is not None:
        directions = directions.double()
        rows = torch.einsum("da,jabw->jdbw", directions, rows)
        size = directions.square().sum(dim=1).sqrt()
    spread = (rows @ model.posterior).square().sum(dim=3)
    noise = (model.noise * size).square().view(1, -1, 1)
    return torch.sqrt(spread + noise) * model.calibration[env.species].view(-1, 1, 1)
