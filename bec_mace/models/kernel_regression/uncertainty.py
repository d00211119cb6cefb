r"""The standard deviation of Z* from the posterior of the weights.

.. math:: \sigma^2_{j,ab} = \tau_z^2 \, (x^T B B^T x + \sigma_0^2)

x is the row of the design matrix, B B^T the posterior covariance of the weights, sigma_0 what the model cannot describe, and
tau the factor of the element that was found on held-out frames.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bec_mace.engine.environments import Environments
from bec_mace.models.kernel_regression.design import sorted_design_matrix
from bec_mace.models.kernel_regression.kernel import Kernel


def standard_deviation(
    kernel: Kernel, posterior: Tensor, noise: Tensor, calibration: Tensor, env: Environments, directions: Tensor | None
) -> Tensor:
    """Standard deviation of a label of Z*, of shape (n_atoms, 3 or n_directions, 3), sorted order, in e.

    Args:
        kernel: Of a fitted model.
        posterior: The factor B, of shape (n_weights, n_weights).
        noise: sigma_0, of shape (1,), in e.
        calibration: tau, of shape (n_elements,).
        env: The atomic environments.
        directions: Directions of the polarization; x, y, z by default.
    """
    # In float64: rows of the design matrix times the factor of the posterior nearly cancel.
    kernel, env = kernel.double(), replace(env, vectors=env.vectors.double(), dtype=torch.float64)
    rows = sorted_design_matrix(kernel, env)
    size = torch.ones(3, dtype=rows.dtype, device=rows.device)
    if directions is not None:
        directions = directions.double()
        rows = torch.einsum("da,jabw->jdbw", directions, rows)
        size = directions.square().sum(dim=1).sqrt()
    spread = (rows @ posterior.double()).square().sum(dim=3)
    offset = (noise.double() * size).square().view(1, -1, 1)
    return torch.sqrt(spread + offset) * calibration.double()[env.species].view(-1, 1, 1)
