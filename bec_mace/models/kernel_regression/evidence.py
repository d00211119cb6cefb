r"""Ridge regression whose hyperparameters maximise the Bayesian evidence.

The targets have noise of precision beta, the weights of group g a prior of precision alpha_g. With
:math:`H = \beta X^T X + \mathrm{diag}(\alpha)` and the mean :math:`w = \beta H^{-1} X^T y`,

.. math:: \gamma_g = \sum_{i \in g} (1 - \alpha_g H^{-1}_{ii}), \qquad \alpha_g = \gamma_g / |w_g|^2, \qquad
          \beta = (N - \sum_g \gamma_g) / |y - X w|^2

is repeated until nothing changes; it ends at a maximum of the evidence.

Source: MacKay, Neural Computation 4, 415 (1992).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bec_mace.errors import TrainingError
from bec_mace.models.kernel_regression.normal_equations import Equations

_ITERATIONS = 200
_LIMITS = (1e-8, 1e10)
_FIRST_NOISE = 0.03


@dataclass(frozen=True)
class Hyperparameters:
    """Precision of the noise, and of the prior of each group."""

    noise: float
    priors: Tensor

    def of_weights(self, groups: Tensor) -> Tensor:
        """Precision of each weight; 1 where the prior is fixed (group -1)."""
        return torch.where(groups < 0, torch.ones_like(self.priors[:1]), self.priors[groups.clamp(min=0)])


@dataclass(frozen=True)
class Solution:
    """Weights and how sure they are.

    Attributes:
        weights: The mean, of shape (n,).
        factor: Lower triangular L with L L^T = H, of shape (n, n).
        hyperparameters: At the maximum of the evidence.
        effective: Number of weights that the data determine.
        iterations: How many it took.
    """

    weights: Tensor
    factor: Tensor
    hyperparameters: Hyperparameters
    effective: float
    iterations: int


def solve(equations: Equations, groups: Tensor, hyperparameters: Hyperparameters) -> tuple[Tensor, Tensor]:
    """Mean of the weights and the Cholesky factor of H for given hyperparameters.

    Raises:
        TrainingError: The system cannot be solved.
    """
    matrix = hyperparameters.noise * equations.gram + torch.diag(hyperparameters.of_weights(groups))
    factor, info = torch.linalg.cholesky_ex(matrix)
    if int(info) != 0 or not bool(torch.isfinite(factor).all()):
        raise TrainingError(
            "the linear system of the fit cannot be solved; look for labels that are far too large, or give "
            "fit.noise and fit.prior"
        )
    return torch.cholesky_solve((hyperparameters.noise * equations.projection).unsqueeze(1), factor).squeeze(1), factor


def maximize_evidence(
    equations: Equations, groups: Tensor, noise: float | None = None, prior: float | None = None, tolerance: float = 0.02
) -> Solution:
    """Solve with the hyperparameters of largest evidence.

    Args:
        equations: Of the training frames.
        groups: The prior of each weight; -1 for a fixed one of precision 1.
        noise: Standard deviation of the noise in e, if it is given.
        prior: Standard deviation of all priors in e, if it is given.
        tolerance: Largest relative change of a precision at the end.
    """
    n_groups = int(groups.max()) + 1
    start = 1.0 if prior is None else prior**-2
    values = Hyperparameters((noise or _FIRST_NOISE) ** -2, equations.gram.new_full((n_groups,), start))
    iteration = 0
    while True:
        iteration += 1
        weights, factor = solve(equations, groups, values)
        uncertain = torch.cholesky_inverse(factor).diagonal() * values.of_weights(groups)
        determined = torch.zeros_like(values.priors).index_add(0, groups.clamp(min=0), (1 - uncertain) * (groups >= 0))
        sizes = torch.zeros_like(values.priors).index_add(0, groups.clamp(min=0), weights.square() * (groups >= 0))
        effective = float((1 - uncertain).sum())
        priors = values.priors if prior is not None else (determined / sizes).nan_to_num(_LIMITS[1]).clamp(*_LIMITS)
        precision = values.noise
        if noise is None:
            precision = max(equations.count - effective, 1.0) / max(equations.residual(weights), 1e-12 * equations.square)
        change = max(float((priors / values.priors).log().abs().max()), abs(math.log(precision / values.noise)))
        if change < tolerance or iteration == _ITERATIONS:
            break
        values = Hyperparameters(precision, priors)
    return Solution(weights, factor, values, effective, iteration)
