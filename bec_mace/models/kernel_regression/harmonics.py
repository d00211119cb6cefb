r"""Real spherical harmonics of edge vectors together with their gradients.

The order and signs are those of e3nn (y is the polar axis, l = 1 is x, y, z), the norm is that of an integral over the
sphere, :math:`\int Y_{lm}^2 = 1`. Gradients are written out, because the design matrix of a kernel needs all of them at once.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Legendre = dict[tuple[int, int], tuple[Tensor, Tensor]]
"""Polynomials in the polar coordinate and their derivatives, by (l, m)."""


def spherical_harmonics(vectors: Tensor, max_l: int) -> tuple[Tensor, Tensor]:
    """Harmonics of the directions of vectors and their gradients.

    Args:
        vectors: Of shape (n, 3), not zero, in Å.
        max_l: Highest degree.

    Returns:
        Values, of shape (n, (max_l + 1)^2), and their derivatives by the vectors, of shape (n, 3, (max_l + 1)^2), in 1/Å.
    """
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    unit = vectors / lengths
    legendre, powers = _legendre(unit[:, 1], max_l), _powers(unit[:, 2], unit[:, 0], max_l)
    rows = [_gradient(degree, order, legendre, powers) for degree, order in _orders(max_l)]
    full = torch.stack([torch.stack(part, dim=1) for part in zip(*rows, strict=True)], dim=1)
    # The polynomials are not homogeneous: what they change by along the vector is taken away.
    along = torch.bmm(unit.unsqueeze(1), full)
    return _values(legendre, powers, max_l), (full - unit.unsqueeze(2) * along) / lengths.unsqueeze(2)


def harmonic_values(vectors: Tensor, max_l: int) -> Tensor:
    """The values of :func:`spherical_harmonics` alone."""
    unit = vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return _values(_legendre(unit[:, 1], max_l), _powers(unit[:, 2], unit[:, 0], max_l), max_l)


def _orders(max_l: int) -> list[tuple[int, int]]:
    return [(degree, order) for degree in range(max_l + 1) for order in range(-degree, degree + 1)]


def _norm(degree: int, order: int) -> float:
    share = math.factorial(degree - abs(order)) / math.factorial(degree + abs(order)) * (1 if order == 0 else 2)
    return math.sqrt((2 * degree + 1) / (4 * math.pi) * share)


def _values(legendre: Legendre, powers: list[tuple[Tensor, Tensor]], max_l: int) -> Tensor:
    return torch.stack(
        [
            _norm(degree, order) * legendre[degree, abs(order)][0] * powers[abs(order)][0 if order >= 0 else 1]
            for degree, order in _orders(max_l)
        ],
        dim=1,
    )


def _powers(a: Tensor, b: Tensor, max_l: int) -> list[tuple[Tensor, Tensor]]:
    """Real and imaginary part of (a + ib)^m for all m up to ``max_l``."""
    powers = [(torch.ones_like(a), torch.zeros_like(a))]
    for _ in range(max_l):
        real, imaginary = powers[-1]
        powers.append((real * a - imaginary * b, imaginary * a + real * b))
    return powers


def _legendre(z: Tensor, max_l: int) -> Legendre:
    """P_lm(z) / (1 - z^2)^(m/2) without the sign of Condon and Shortley, and its derivative, by (l, m)."""
    one, zero = torch.ones_like(z), torch.zeros_like(z)
    legendre = {}
    for m in range(max_l + 1):
        top = float(math.prod(range(1, 2 * m, 2)))
        legendre[m, m] = top * one, zero
        if m < max_l:
            legendre[m + 1, m] = (2 * m + 1) * top * z, (2 * m + 1) * top * one
        for degree in range(m + 2, max_l + 1):
            (p1, d1), (p2, d2) = legendre[degree - 1, m], legendre[degree - 2, m]
            legendre[degree, m] = (
                ((2 * degree - 1) * z * p1 - (degree + m - 1) * p2) / (degree - m),
                ((2 * degree - 1) * (p1 + z * d1) - (degree + m - 1) * d2) / (degree - m),
            )
    return legendre


def _gradient(
    degree: int, order: int, legendre: Legendre, powers: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of one harmonic as a polynomial in the unit vector, its parts of shape (n,)."""
    m, norm = abs(order), _norm(degree, order)
    polynomial, slope = (norm * part for part in legendre[degree, m])
    real, imaginary = powers[m]
    if m == 0:
        return torch.zeros_like(real), slope * real, torch.zeros_like(real)
    lower, upper = powers[m - 1]
    if order > 0:
        return -m * polynomial * upper, slope * real, m * polynomial * lower
    return m * polynomial * lower, slope * imaginary, m * polynomial * upper
