"""Dense kernels on atoms: linear maps and the product basis.

Features are tensors of shape (n, n_components, n_channels): channels last, all irreps with the same number of channels.
Every kernel is made of products and sums that PyTorch can differentiate any number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement, permutations

import torch
from torch import Tensor


def mix_channels(values: Tensor, weight: Tensor) -> Tensor:
    """Multiply the channels of (n, n_components, n_in) by a matrix of shape (n_in, n_out)."""
    n, n_components, n_in = values.shape
    return (values.reshape(n * n_components, n_in) @ weight).view(n, n_components, weight.shape[1])


def mix_channels_by_element(values: Tensor, weights: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Multiply channels by a matrix per element; the atoms are sorted by element."""
    blocks = torch.split(values, list(counts))
    return torch.cat([mix_channels(block, w) for block, w in zip(blocks, weights, strict=True) if block.shape[0]])


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
    products = monomials(values.permute(2, 1, 0).contiguous(), degree)
    blocks = torch.split(products, list(counts), dim=2)
    out = [torch.bmm(w, block) for w, block in zip(coefficients, blocks, strict=True)]
    return torch.cat(out, dim=2).permute(2, 1, 0)
