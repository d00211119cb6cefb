"""The product basis: polynomials in the components of each channel, with coefficients per element.

Monomials are built by multiplying each component into a suffix of the monomials one degree lower, so that no index is
gathered; the coefficients meet them in one matrix product for each channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement, permutations
from typing import Any

import torch
from torch import Tensor

_BLOCK_BYTES = 1 << 23  # Of the monomials held at a time on the CPU: they stay in the cache.
_BLOCK_ATOMS = 256


def monomials(values: Tensor, degree: int) -> Tensor:
    """All products of up to ``degree`` components, of shape (n_channels, n_monomials, n).

    The order is that of :func:`monomial_indices`.

    Args:
        values: Of shape (n_channels, n_components, n).
        degree: Highest degree.
    """
    n = values.shape[1]
    blocks = [values]
    starts = list(range(n))
    for _ in range(degree - 1):
        last = blocks[-1]
        blocks.append(torch.cat([values[:, m : m + 1] * last[:, starts[m] :] for m in range(n)], dim=1))
        sizes = [last.shape[1] - start for start in starts]
        starts = [sum(sizes[:m]) for m in range(n)]
    return torch.cat(blocks, dim=1) if degree > 1 else values


def monomial_indices(n_components: int, degree: int) -> list[tuple[int, ...]]:
    """Components of each monomial of exactly this degree, ascending, in the order of :func:`monomials`."""
    return list(combinations_with_replacement(range(n_components), degree))


def symmetrize_couplings(couplings: Tensor, degree: int) -> Tensor:
    """Collect generalized Clebsch-Gordan coefficients by monomial.

    Args:
        couplings: Of shape (n_out, n_components, ..., n_components, n_paths) with ``degree`` component axes.
        degree: Number of component axes.

    Returns:
        Of shape (n_out, n_monomials, n_paths).
    """
    rows = []
    for index in monomial_indices(couplings.shape[1], degree):
        terms = [couplings[(slice(None),) + order] for order in set(permutations(index))]
        rows.append(torch.stack(terms).sum(dim=0))
    return torch.stack(rows, dim=1)


def contract_monomials(values: Tensor, coefficients: Sequence[Tensor], counts: Sequence[int], degree: int) -> Tensor:
    r"""The product basis: polynomials in the components of each channel, with coefficients per element.

    .. math:: B_{i,o c} = \sum_M w_{z_i, o M c} \prod_{m \in M} A_{i, m c}

    Args:
        values: Of shape (n_atoms, n_components, n_channels), atoms sorted by element.
        coefficients: For each element that has atoms a tensor of shape (n_channels, n_out, n_monomials).
        counts: Number of atoms of each element that has atoms.
        degree: Highest degree.

    Returns:
        Of shape (n_atoms, n_out, n_channels).
    """
    if not any(w.requires_grad for w in coefficients):
        out: Tensor = _FrozenPolynomials.apply(values, list(coefficients), list(counts), degree)
        return out
    products = monomials(values.permute(2, 1, 0).contiguous(), degree)
    blocks = torch.split(products, list(counts), dim=2)
    parts = [torch.bmm(w, block) for w, block in zip(coefficients, blocks, strict=True)]
    return torch.cat(parts, dim=2).permute(2, 1, 0)


class _FrozenPolynomials(torch.autograd.Function):
    """:func:`contract_monomials` with constant coefficients, block by block, monomials made anew on the way back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, coefficients: list[Tensor], counts: list[int], degree: int) -> Tensor:
        ctx.save_for_backward(values)
        ctx.coefficients, ctx.counts, ctx.degree = coefficients, counts, degree
        out = values.new_empty((values.shape[0], coefficients[0].shape[1], values.shape[2]))
        for w, atoms, channels in _blocks(values, coefficients, counts):
            products = monomials(_components_first(values, atoms, channels), degree)
            out[atoms, :, channels] = torch.bmm(w, products).permute(2, 1, 0)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None, None]:
        (values,) = ctx.saved_tensors
        out = torch.empty_like(values)
        for w, atoms, channels in _blocks(values, ctx.coefficients, ctx.counts):
            slopes = torch.bmm(w.transpose(1, 2), _components_first(cotangent, atoms, channels))
            block = _components_first(values, atoms, channels)
            out[atoms, :, channels] = _pull_monomials(block, slopes, ctx.degree).permute(2, 1, 0)
        return out, None, None, None


def _components_first(values: Tensor, atoms: slice, channels: slice) -> Tensor:
    return values[atoms, :, channels].permute(2, 1, 0).contiguous()


def _blocks(
    values: Tensor, coefficients: Sequence[Tensor], counts: Sequence[int]
) -> Iterator[tuple[Tensor, slice, slice]]:
    """Coefficients, atoms and channels of blocks of one element each."""
    start = 0
    for w, count in zip(coefficients, counts, strict=True):
        n_channels, _, n_monomials = w.shape
        n_atoms = min(count, _BLOCK_ATOMS) if values.device.type == "cpu" else count
        step = n_channels
        if values.device.type == "cpu":
            step = min(n_channels, max(1, _BLOCK_BYTES // (n_monomials * n_atoms * values.element_size())))
        for first in range(start, start + count, n_atoms):
            atoms = slice(first, min(first + n_atoms, start + count))
            for channel in range(0, n_channels, step):
                channels = slice(channel, min(channel + step, n_channels))
                yield w[channels], atoms, channels
        start += count


def _pull_monomials(values: Tensor, cotangent: Tensor, degree: int) -> Tensor:
    """Pull a cotangent of all monomials, changed in place, back to the components: (n_channels, n_components, n)."""
    n = values.shape[1]
    lower, starts = [values], [list(range(n))]
    for _ in range(degree - 2):
        last, begin = lower[-1], starts[-1]
        lower.append(torch.cat([values[:, m : m + 1] * last[:, begin[m] :] for m in range(n)], dim=1))
        sizes = [last.shape[1] - start for start in begin]
        starts.append([sum(sizes[:m]) for m in range(n)])
    sizes = [block.shape[1] for block in lower]
    parts = list(cotangent.split([*sizes, cotangent.shape[1] - sum(sizes)] if degree > 1 else sizes, dim=1))
    out = torch.zeros_like(values)
    for level in range(len(parts) - 1, 0, -1):
        below, begin, position = lower[level - 1], starts[level - 1], 0
        for m in range(n):
            size = below.shape[1] - begin[m]
            segment = parts[level][:, position : position + size]
            out[:, m] += (segment * below[:, begin[m] :]).sum(dim=1)
            parts[level - 1][:, begin[m] :].addcmul_(segment, values[:, m : m + 1])
            position += size
    return out + parts[0]
