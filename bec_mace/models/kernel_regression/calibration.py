"""The factor between predicted standard deviations and errors, from frames that are held out in turn."""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.models.kernel_regression.evidence import Hyperparameters, solve
from bec_mace.models.kernel_regression.normal_equations import Equations, Gathered

LEVELS = ((1.0, 0.6827), (1.96, 0.95))
"""Numbers of standard deviations and the share of errors that should be within."""
_GRID = torch.exp(torch.linspace(-1.5, 1.5, 301, dtype=torch.float64))
_FEWEST = 100


def calibrate(gathered: Gathered, groups: Tensor, hyperparameters: Hyperparameters, n_elements: int) -> Tensor:
    """Factor of the standard deviation of each element, of shape (n_elements,); 1 where too little is known.

    Each fold is predicted by a model that has not seen it, with the same hyperparameters.
    """
    scores, species = [], []
    for fold in gathered.folds:
        rest = without(gathered.total, fold.equations)
        weights, factor = solve(rest, groups, hyperparameters)
        rows, targets, elements = fold.kept()
        spread = torch.linalg.solve_triangular(factor, rows.T, upper=False).square().sum(dim=0)
        scores.append((targets - rows @ weights) / torch.sqrt(spread + 1 / hyperparameters.noise))
        species.append(elements)
    out = torch.ones(n_elements, dtype=torch.float64)
    if scores:
        all_scores, all_species = torch.cat(scores).double().cpu(), torch.cat(species).cpu()
        for number in range(n_elements):
            chosen = all_scores[all_species == number]
            if len(chosen) >= _FEWEST:
                out[number] = best_factor(chosen)
    return out


def without(total: Equations, part: Equations) -> Equations:
    """The equations of all frames but some."""
    return Equations(
        total.gram - part.gram, total.projection - part.projection, total.square - part.square, total.count - part.count
    )


def best_factor(scores: Tensor) -> float:
    """The factor with which the worst coverage is nearest to what it should be."""
    worst = torch.zeros_like(_GRID)
    ordered = scores.abs().sort().values
    for width, share in LEVELS:
        within = torch.searchsorted(ordered, width * _GRID, right=True).double() / len(ordered)
        worst = torch.maximum(worst, (within - share).abs())
    return float(_GRID[worst <= worst.min() + 1e-9].median())
