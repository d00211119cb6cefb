r"""Radial functions: smeared eigenfunctions of a sphere, held as Chebyshev polynomials.

.. math:: R_{nl}(r) = N_{nl} \, j_l(k_{nl} r) \, e^{-k_{nl}^2 \sigma^2 / 2} \, f_c(r), \qquad j_l(k_{nl} r_{max}) = 0

are the coefficients of a density of Gaussians of width sigma in the eigenfunctions of the Laplacian in a sphere of radius
r_max. The wave numbers of all l end at the same largest one, so that high l have fewer functions. The cutoff
:math:`f_c = (1 + \cos(\pi r / r_{max}))^2 / 4` and its first three derivatives vanish at r_max.

Source: Bigi, Huguenin-Dumittan, Ceriotti and Manolopoulos, J. Chem. Phys. 157, 234101 (2022).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import spherical_jn
from torch import Tensor

_SCAN_STEP = 0.02


class RadialBasis(torch.nn.Module):
    """Radial functions and their derivatives.

    Args:
        r_max: Cutoff in Å.
        num_radial: Number of functions for l = 0.
        max_l: Highest degree.
        smearing: Width sigma of the density around each atom, in Å.

    Attributes:
        counts: Number of functions for each l.
    """

    polynomials: Tensor

    def __init__(self, r_max: float, num_radial: int, max_l: int, smearing: float) -> None:
        super().__init__()
        self.r_max = r_max
        table, self.counts = _fit_polynomials(r_max, num_radial, max_l, smearing)
        self.register_buffer("polynomials", torch.from_numpy(table.copy()), persistent=False)

    def forward(self, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Functions at distances of shape (n,), l = 0 first, and their derivatives, both of shape (n, n_functions)."""
        x = 2 * lengths / self.r_max - 1
        values, slopes = [torch.ones_like(x), x], [torch.zeros_like(x), torch.ones_like(x)]
        for _ in range(2, self.polynomials.shape[0]):
            slopes.append(2 * values[-1] + 2 * x * slopes[-1] - slopes[-2])
            values.append(2 * x * values[-1] - values[-2])
        functions = torch.stack(values, dim=1) @ self.polynomials
        derivatives = torch.stack(slopes, dim=1) @ self.polynomials * (2 / self.r_max)
        angle = math.pi * (lengths / self.r_max).clamp(max=1.0)
        half = 0.5 * (1 + torch.cos(angle)).unsqueeze(1)
        by_length = -0.5 * math.pi / self.r_max * torch.sin(angle).unsqueeze(1)
        return functions * half.square(), derivatives * half.square() + functions * (2 * half * by_length)


@lru_cache(maxsize=8)
def _fit_polynomials(r_max: float, num_radial: int, max_l: int, smearing: float) -> tuple[np.ndarray, tuple[int, ...]]:
    """Chebyshev coefficients of all functions, of shape (n_polynomials, n_functions), and their number for each l."""
    # A function with n half waves needs little more than 2 n polynomials; the rest is below the rounding error.
    n_polynomials = 2 * num_radial + 26
    nodes = np.cos(np.pi * (np.arange(4 * n_polynomials) + 0.5) / (4 * n_polynomials))
    lengths = 0.5 * (nodes + 1) * r_max
    columns, counts = [], []
    for degree in range(max_l + 1):
        zeros = bessel_zeros(degree, num_radial * math.pi)
        counts.append(len(zeros))
        for zero in zeros:
            norm = math.sqrt(2 / r_max**3) / abs(spherical_jn(degree + 1, zero))
            damping = math.exp(-0.5 * (zero / r_max * smearing) ** 2)
            columns.append(norm * damping * spherical_jn(degree, zero / r_max * lengths))
    vandermonde = np.polynomial.chebyshev.chebvander(nodes, n_polynomials - 1)
    return np.linalg.lstsq(vandermonde, np.array(columns).T, rcond=None)[0], tuple(counts)


def bessel_zeros(degree: int, largest: float) -> list[float]:
    """Zeros of the spherical Bessel function j_l up to ``largest``; the first one if there is none."""

    def function(x: float) -> float:
        return float(spherical_jn(degree, x))

    grid = np.arange(degree + 1.0, largest + 2 * degree + 10.0, _SCAN_STEP)  # j_l has no zero below l + 1.
    signs = np.sign(spherical_jn(degree, grid))
    zeros = [float(brentq(function, grid[i], grid[i + 1])) for i in np.flatnonzero(signs[1:] != signs[:-1])]
    return [zero for zero in zeros if zero <= largest + 1e-9] or zeros[:1]
