r"""Radial functions of mace and their derivatives, written out.

With :math:`u = r / r_\mathrm{max}` the cutoff is

.. math:: f(u) = 1 - \tfrac{(p+1)(p+2)}{2} u^p + p(p+2) u^{p+1} - \tfrac{p(p+1)}{2} u^{p+2}, \qquad
          f'(u) = -\tfrac{p(p+1)(p+2)}{2} u^{p-1} (1 - u)^2 ,

zero from the cutoff on. Values are those of mace to the last bit. Source: J. Gasteiger, J. Groß and S. Günnemann, ICLR 2020,
arXiv 2003.03123.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def basis_functions(basis: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Bessel or Gaussian functions of mace and their derivatives, (n, n_functions) each, at places of shape (n, 1)."""
    if hasattr(basis, "gaussian_weights"):
        away = x - basis.gaussian_weights
        values = torch.exp(basis.coeff * torch.pow(away, 2))
        return values, 2 * basis.coeff * away * values
    phase = basis.bessel_weights * x
    waves = torch.sin(phase) / x
    return basis.prefactor * waves, basis.prefactor * (basis.bessel_weights * torch.cos(phase) - waves) / x


def polynomial_cutoff(lengths: Tensor, r_max: float, p: int) -> tuple[Tensor, Tensor]:
    """The cutoff of mace with the power p and its derivative, at lengths of shape (n, 1)."""
    u = lengths / r_max
    inside = lengths < r_max
    values = 1.0 - (p + 1) * (p + 2) / 2 * u**p + p * (p + 2) * u ** (p + 1) - p * (p + 1) / 2 * u ** (p + 2)
    slopes = -p * (p + 1) * (p + 2) / (2 * r_max) * u ** (p - 1) * (1 - u) ** 2
    return values * inside, slopes * inside
