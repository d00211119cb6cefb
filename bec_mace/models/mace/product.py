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

from bec_mace.engine.autograd import apply_function

_BLOCK_BYTES = 1 << 20  # Of what one block holds on the CPU: it stays in the cache.
_BLOCK_ATOMS = 256
_GROUP_ATOMS = 128
_FEW_ATOMS = 32  # Of an element, for matrix products.


def monomials(values: Tensor, degree: int) -> list[Tensor]:
    """All products of 1, 2, ..., ``degree`` components, each of shape (n_channels, n_monomials, n).

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
        blocks.append(apply_function(_Raise, values, last, starts))
        sizes = [last.shape[1] - start for start in starts]
        starts = [sum(sizes[:m]) for m in range(n)]
    return blocks


class _Raise(torch.autograd.Function):
    """Each component times a suffix of the monomials, one after the other.

    With what it gives paired with a third tensor it is trilinear, so its derivatives are the two other such products, and
    theirs again. Slices left to autograd would fill an array of zeros for each component.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, last: Tensor, starts: list[int]) -> Tensor:
        ctx.save_for_backward(values, last)
        ctx.starts = starts
        out = _empty(values, len(starts) * last.shape[1] - sum(starts))
        for m, suffix, place in _suffixes(starts, last.shape[1]):
            torch.mul(values[:, m : m + 1], last[:, suffix], out=out[:, place])
        return out

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (values, last), wanted = ctx.saved_tensors, ctx.needs_input_grad
        return (
            apply_function(_ByComponent, last, cotangent, ctx.starts) if wanted[0] else None,
            apply_function(_ByMonomial, values, cotangent, ctx.starts, last.shape[1]) if wanted[1] else None,
            None,
        )


class _ByComponent(torch.autograd.Function):
    """Contract the suffixes of the monomials with raised ones: one value for each component."""

    @staticmethod
    def forward(ctx: Any, last: Tensor, raised: Tensor, starts: list[int]) -> Tensor:
        ctx.save_for_backward(last, raised)
        ctx.starts = starts
        parts = [(last[:, suffix] * raised[:, place]).sum(dim=1) for _, suffix, place in _suffixes(starts, last.shape[1])]
        return torch.stack(parts, dim=1)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (last, raised), wanted = ctx.saved_tensors, ctx.needs_input_grad
        return (
            apply_function(_ByMonomial, cotangent, raised, ctx.starts, last.shape[1]) if wanted[0] else None,
            apply_function(_Raise, cotangent, last, ctx.starts) if wanted[1] else None,
            None,
        )


class _ByMonomial(torch.autograd.Function):
    """Contract the components with raised monomials: one value for each monomial before."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, raised: Tensor, starts: list[int], n_monomials: int) -> Tensor:
        ctx.save_for_backward(values, raised)
        ctx.starts = starts
        out = _empty(values, n_monomials).zero_()
        for m, suffix, place in _suffixes(starts, n_monomials):
            out[:, suffix].addcmul_(values[:, m : m + 1], raised[:, place])
        return out

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (values, raised), wanted = ctx.saved_tensors, ctx.needs_input_grad
        return (
            apply_function(_ByComponent, cotangent, raised, ctx.starts) if wanted[0] else None,
            apply_function(_Raise, values, cotangent, ctx.starts) if wanted[1] else None,
            None,
            None,
        )


def _suffixes(starts: list[int], n_monomials: int) -> Iterator[tuple[int, slice, slice]]:
    """For each component: its number, the monomials it multiplies, and the place of the products."""
    place = 0
    for m, start in enumerate(starts):
        yield m, slice(start, n_monomials), slice(place, place + n_monomials - start)
        place += n_monomials - start


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


def raise_couplings(couplings: Tensor, n_components: int, degree: int) -> Tensor:
    """Couplings of the derivatives of polynomials of one degree.

    Args:
        couplings: From :func:`symmetrize_couplings`, of shape (n_out, n_monomials, n_paths).
        n_components: Number of components.
        degree: Degree of the polynomials.

    Returns:
        Of shape (n_paths, n_out * n_components, n_monomials of one degree less): what multiplies each monomial in the
        derivative by each component.
    """
    places = {index: place for place, index in enumerate(monomial_indices(n_components, degree))}
    lower = monomial_indices(n_components, degree - 1) if degree > 1 else [()]
    table = torch.tensor([[places[tuple(sorted((*index, m)))] for index in lower] for m in range(n_components)])
    counts = torch.tensor([[index.count(m) + 1 for index in lower] for m in range(n_components)])
    raised = couplings[:, table] * counts.to(couplings).unsqueeze(2)
    return raised.permute(3, 0, 1, 2).flatten(1, 2).contiguous()


def contract_monomials(values: Tensor, coefficients: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    r"""The product basis: polynomials in the components of each channel, with coefficients per element.

    .. math:: B_{i,o c} = \sum_M w_{z_i, o M c} \prod_{m \in M} A_{i, m c}

    Args:
        values: Of shape (n_atoms, n_components, n_channels), atoms sorted by element.
        coefficients: For each degree, from 1, a tensor of shape (n_elements, n_channels, n_out, n_monomials); of the elements
            that have atoms.
        counts: Number of atoms of each element that has atoms.

    Returns:
        Of shape (n_atoms, n_out, n_channels).
    """
    parts, groups = [], _groups(counts)
    blocks = values.split([sum(inside) for inside in groups])
    matrices = zip(*(stack.split([len(inside) for inside in groups]) for stack in coefficients), strict=True)
    for inside, block, stacks in zip(groups, blocks, matrices, strict=True):
        by_atom = block.shape[0] < _FEW_ATOMS * len(inside)
        products = monomials(_lay_out(block.permute(2, 1, 0), by_atom), len(stacks))
        # Degree by degree: joining them would cost as much as the products, and more in a pull-back.
        parts.append(
            _sum(
                [
                    apply_function(_Polynomials, stack, product, inside, by_atom)
                    for stack, product in zip(stacks, products, strict=True)
                ]
            )
        )
    return _join(parts, 2).permute(2, 1, 0)


def _join(parts: Sequence[Tensor], axis: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=axis)


def _sum(values: Sequence[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _groups(counts: Sequence[int]) -> list[list[int]]:
    """Counts of the elements that are computed together: as many as stay in the cache."""
    groups: list[list[int]] = [[]]
    for count in counts:
        if groups[-1] and sum(groups[-1]) + count > _GROUP_ATOMS:
            groups.append([])
        groups[-1].append(count)
    return groups


def _lay_out(values: Tensor, by_atom: bool) -> Tensor:
    """The same tensor of shape (n_channels, n_rows, n), with the rows of an atom side by side in memory, or the atoms of a row.

    Matrix products with few columns are slow, with few rows they are not; all else is faster where atoms are side by side.
    """
    return values.mT.contiguous().mT if by_atom else values.contiguous()


def _empty(like: Tensor, n_rows: int) -> Tensor:
    """An array of shape (n_channels, n_rows, n) in the layout of another."""
    n_channels, _, n = like.shape
    if like.stride(1) == 1:
        return like.new_empty((n_channels, n, n_rows)).mT
    return like.new_empty((n_channels, n_rows, n))


class _Polynomials(torch.autograd.Function):
    """Multiply the monomials of the atoms of each element by a matrix of their own.

    As in :class:`_Raise` the derivatives are products of the same kind. Left to autograd, the atoms of an element would be cut
    out and joined again, which takes longer than the products where there are many elements.
    """

    @staticmethod
    def forward(ctx: Any, matrices: Tensor, products: Tensor, counts: list[int], by_atom: bool) -> Tensor:
        ctx.save_for_backward(matrices, products)
        ctx.counts, ctx.by_atom = counts, by_atom
        pairs = [(matrix, products[:, :, atoms]) for matrix, atoms in zip(matrices.unbind(0), _atoms(counts), strict=True)]
        if by_atom:
            return _join([torch.bmm(block.mT, matrix.mT) for matrix, block in pairs], 1).mT
        return _join([torch.bmm(matrix, block) for matrix, block in pairs], 2)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (matrices, products), wanted = ctx.saved_tensors, ctx.needs_input_grad
        cotangent = _lay_out(cotangent, ctx.by_atom)
        return (
            apply_function(_OuterProducts, cotangent, products, ctx.counts, ctx.by_atom) if wanted[0] else None,
            apply_function(_Polynomials, matrices.mT, cotangent, ctx.counts, ctx.by_atom) if wanted[1] else None,
            None,
            None,
        )


class _OuterProducts(torch.autograd.Function):
    """Sum the outer products of two vectors over the atoms of each element."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, counts: list[int], by_atom: bool) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.counts, ctx.by_atom = counts, by_atom
        # Few rows of many columns: a fraction of the time of many rows of few columns.
        turned = left.shape[1] > right.shape[1]
        rows, columns = (right, left) if turned else (left, right)
        out = left.new_empty((len(counts), left.shape[0], rows.shape[1], columns.shape[1]))
        for matrix, atoms in zip(out.unbind(0), _atoms(counts), strict=True):
            torch.bmm(rows[:, :, atoms], columns[:, :, atoms].mT, out=matrix)
        return out.mT if turned else out

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (left, right), wanted = ctx.saved_tensors, ctx.needs_input_grad
        return (
            apply_function(_Polynomials, cotangent, right, ctx.counts, ctx.by_atom) if wanted[0] else None,
            apply_function(_Polynomials, cotangent.mT, left, ctx.counts, ctx.by_atom) if wanted[1] else None,
            None,
            None,
        )


def _atoms(counts: Sequence[int]) -> Iterator[slice]:
    """The atoms of each element."""
    start = 0
    for count in counts:
        yield slice(start, start + count)
        start += count


def contract_constants(values: Tensor, slopes: Sequence[Sequence[Tensor]], counts: Sequence[int], n_out: int) -> Tensor:
    """:func:`contract_monomials` where nothing that the values or the coefficients follow from is trained.

    The pull-back can be differentiated by what is pulled back, and by nothing else.

    Args:
        values: As there.
        slopes: For each element that has atoms and each degree the coefficients of the derivatives, of shape (n_channels,
            n_out * n_components, n_monomials of one degree less), see :func:`raise_couplings`.
        counts: As there.
        n_out: Number of polynomials.
    """
    out: Tensor = apply_function(_Constants, values, slopes, list(counts), n_out)
    return out


class _Constants(torch.autograd.Function):
    r"""The Jacobian :math:`J_{om} = \partial B_o / \partial A_m` is one matrix product with the monomials of one degree less.

    The values follow from it by Euler's theorem, degree by degree, and every pull-back is a short sum.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, slopes: Sequence[Sequence[Tensor]], counts: list[int], n_out: int) -> Tensor:
        n_components = values.shape[1]
        out = values.new_empty((values.shape[0], n_out, values.shape[2]))
        jacobian = values.new_empty((values.shape[2], n_out, n_components, values.shape[0]))
        for parts, atoms, channels in _blocks(values, slopes, counts):
            block = values[atoms, :, channels].permute(2, 1, 0).contiguous()
            shape = (block.shape[0], n_out, n_components, block.shape[2])
            total = parts[0].expand(-1, -1, block.shape[2]).reshape(shape)
            scaled = total
            if len(parts) > 1:
                for order, (part, product) in enumerate(zip(parts[1:], monomials(block, len(parts) - 1), strict=True), start=2):
                    term = torch.bmm(part, product).view(shape)
                    total, scaled = total + term, torch.add(scaled, term, alpha=1 / order)
            out[atoms, :, channels] = (scaled * block.unsqueeze(1)).sum(dim=2).permute(2, 1, 0)
            jacobian[channels, :, :, atoms] = total
        ctx.save_for_backward(jacobian)
        return out

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None, None]:
        return apply_function(_PullPolynomials, cotangent, *ctx.saved_tensors), None, None, None


class _PullPolynomials(torch.autograd.Function):
    """The transposed Jacobian, a constant, times a cotangent."""

    @staticmethod
    def forward(ctx: Any, cotangent: Tensor, jacobian: Tensor) -> Tensor:
        ctx.save_for_backward(jacobian)
        seeds = cotangent.permute(2, 1, 0).contiguous()
        out = torch.zeros_like(jacobian[:, 0])
        for row in range(jacobian.shape[1]):
            out.addcmul_(jacobian[:, row], seeds[:, row : row + 1])
        return out.permute(2, 1, 0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, change: Tensor) -> tuple[Tensor, None]:
        (jacobian,) = ctx.saved_tensors
        return torch.einsum("comn,ncm->noc", jacobian, change.transpose(1, 2)), None


def _blocks(
    values: Tensor, coefficients: Sequence[Sequence[Tensor]], counts: Sequence[int]
) -> Iterator[tuple[list[Tensor], slice, slice]]:
    """Coefficients, atoms and channels of blocks of one element each."""
    start, n_channels = 0, values.shape[2]
    for parts, count in zip(coefficients, counts, strict=True):
        n_atoms, step = count, n_channels
        if values.device.type == "cpu":
            n_atoms = min(count, _BLOCK_ATOMS)
            rows = sum(part.shape[1] for part in parts) + parts[-1].shape[-1]
            step = min(n_channels, max(1, _BLOCK_BYTES // (rows * n_atoms * values.element_size())))
        for first in range(start, start + count, n_atoms):
            atoms = slice(first, min(first + n_atoms, start + count))
            for channel in range(0, n_channels, step):
                channels = slice(channel, min(channel + step, n_channels))
                yield [part[channels] for part in parts], atoms, channels
        start += count
