r"""The edge convolution of MACE and its derivatives, summed over neighbour slots by matrix products.

.. math:: A_{i,k c}^{p} = \sum_j R^p_c(r_{ij}) \sum_{m_1 m_2} C^p_{m_1 m_2 k} h_{j, m_1 c} Y_{m_2}(\hat r_{ij})

It is linear in the gathered features h, the spherical harmonics Y and the radial weights R, so all its derivatives are
made of the same products. They are written out here, block by block of atoms, so that what one block needs stays in the
cache. The derivatives by positions are taken for all cotangents of the messages in one go (:meth:`Convolution.pull`),
because the cotangents share most of the work: the scaled features, and the features scaled by the slopes of the weights,
which give the derivative by the distance without the derivative by each weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bec_mace.engine.autograd import apply_function

_BLOCK_BYTES = 1 << 18  # Of one component of the features on the CPU: several such arrays fit in a core's cache.


@dataclass(frozen=True)
class CouplingPath:
    """One coupling l1 x l2 -> l3.

    Attributes:
        feature: The neighbour's components that belong to l1.
        message: The components of the result that belong to this path.
        coupling: Clebsch-Gordan coefficients with normalisation for all spherical harmonics, of shape
            (2 l1 + 1, 2 l3 + 1, n_harmonics).
    """

    feature: slice
    message: slice
    coupling: Tensor

    @property
    def d1(self) -> int:
        """Number of components of l1."""
        return int(self.coupling.shape[0])

    @property
    def d3(self) -> int:
        """Number of components of l3."""
        return int(self.coupling.shape[1])


@dataclass(frozen=True)
class Convolution:
    """The edge convolution for a set of paths.

    Attributes:
        paths: The couplings, in the order of the radial weights.
        n_slots: Neighbour slots of each atom.
        rows: For each slot the row of its radial weights, which are then constants, where slots share them; None where each
            slot has its own.
    """

    paths: Sequence[CouplingPath]
    n_slots: int
    rows: Tensor | None = None

    def __call__(self, sender_feats: Tensor, harmonics: Tensor, weights: Tensor) -> Tensor:
        """Convolve. The result can be differentiated once by features and weights; harmonics are constants.

        Args:
            sender_feats: Neighbours' features, of shape (n_components, n_atoms * n_slots, n_channels).
            harmonics: Of shape (n_atoms * n_slots, n_harmonics).
            weights: Radial functions, of shape (n_paths, n_atoms * n_slots, n_channels), or fewer rows, see ``rows``.

        Returns:
            Of shape (n_atoms, n_message_components, n_channels).
        """
        out: Tensor = apply_function(_Convolve, sender_feats, harmonics, weights, self.couplings(harmonics), self)
        return out

    def pull(
        self, sender_feats: Tensor, harmonics: Tensor, weights: Tensor, slopes: Tensor, cotangents: Tensor, features: bool
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Pull back cotangents of the messages; the result can be differentiated by all but the harmonics.

        Args:
            sender_feats: As for the convolution.
            harmonics: As for the convolution; a constant.
            weights: As for the convolution.
            slopes: Derivatives of the weights by the length of the edge.
            cotangents: Of shape (n, n_atoms, n_message_components, n_channels).
            features: Whether the cotangents of the features are wanted.

        Returns:
            Those of the features (n, n_components, n_edges, n_channels) or None, of the harmonics
            (n, n_edges, n_harmonics), and of the lengths (n, n_edges, 1).
        """
        out: tuple[Tensor | None, Tensor, Tensor] = apply_function(
            _Pull, sender_feats, harmonics, weights, slopes, cotangents, self.couplings(harmonics), self, features
        )
        return out

    def couplings(self, like: Tensor) -> Tensor:
        """The couplings of all paths, one row for each pair of components, of shape (n_pairs, n_harmonics)."""
        return torch.cat([path.coupling.flatten(0, 1) for path in self.paths]).to(like)

    def blocks(self, sender_feats: Tensor) -> Iterator[tuple[slice, slice]]:
        """Slices of atoms and of their neighbour slots."""
        _, n_edges, n_channels = sender_feats.shape
        n_atoms = n_edges // self.n_slots
        step = n_atoms
        if sender_feats.device.type == "cpu":
            step = max(1, _BLOCK_BYTES // (self.n_slots * n_channels * sender_feats.element_size()))
        for start in range(0, n_atoms, step):
            stop = min(start + step, n_atoms)
            yield slice(start, stop), slice(start * self.n_slots, stop * self.n_slots)

    def by_path(self) -> Iterator[tuple[int, slice, list[tuple[int, slice]]]]:
        """For each path: number, components of the result, and each component of l1 with its rows of the couplings."""
        row = 0
        for index, path in enumerate(self.paths):
            components = []
            for m1 in range(path.feature.start, path.feature.stop):
                components.append((m1, slice(row, row + path.d3)))
                row += path.d3
            yield index, path.message, components

    def of_edges(self, weights: Tensor, path: int, edges: slice) -> Tensor:
        """The radial weights of a path on some edges."""
        return weights[path, edges] if self.rows is None else weights[path].index_select(0, self.rows[edges])

    def angular(self, couplings: Tensor, harmonics: Tensor) -> Tensor:
        """Couplings with the harmonics put in, of shape (n_pairs, n_atoms, n_slots)."""
        return (couplings @ harmonics.T).view(couplings.shape[0], -1, self.n_slots)

    def by_atom(self, value: Tensor) -> Tensor:
        """View (n_edges, n_channels) as (n_atoms, n_slots, n_channels)."""
        return value.view(-1, self.n_slots, value.shape[1])


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, w: Tensor, couplings: Tensor, plan: Convolution) -> Tensor:
        ctx.save_for_backward(x, y, w, couplings)
        ctx.plan = plan
        n_message = max(path.message.stop for path in plan.paths)
        out = x.new_zeros((x.shape[1] // plan.n_slots, n_message, x.shape[2]))
        for atoms, edges in plan.blocks(x):
            angular = plan.angular(couplings, y[edges])
            for path, message, components in plan.by_path():
                weights = plan.of_edges(w, path, edges)
                for m1, rows in components:
                    scaled = plan.by_atom(weights * x[m1, edges])
                    out[atoms, message] += torch.bmm(angular[rows].transpose(0, 1), scaled)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, m: Tensor) -> tuple[Tensor | None, ...]:
        x, y, w, couplings = ctx.saved_tensors
        plan: Convolution = ctx.plan
        x_bar = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        w_bar = torch.zeros_like(w) if ctx.needs_input_grad[2] else None
        for atoms, edges in plan.blocks(x):
            angular = plan.angular(couplings, y[edges])
            for path, message, components in plan.by_path():
                weights = plan.of_edges(w, path, edges)
                for m1, rows in components:
                    spread = torch.bmm(angular[rows].permute(1, 2, 0), m[atoms, message]).view(-1, x.shape[2])
                    if x_bar is not None:
                        x_bar[m1, edges].addcmul_(spread, weights)
                    if w_bar is not None:
                        w_bar[path, edges].addcmul_(spread, x[m1, edges])
        return x_bar, None, w_bar, None, None


class _Pull(torch.autograd.Function):
    """Cotangents of features x, harmonics y and lengths from those of the messages, m."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        w: Tensor,
        slopes: Tensor,
        m: Tensor,
        couplings: Tensor,
        plan: Convolution,
        features: bool,
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        ctx.save_for_backward(x, y, w, slopes, m, couplings)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        n, n_channels = m.shape[0], m.shape[3]
        by_atom = m.permute(1, 2, 0, 3).contiguous()  # (n_atoms, n_message_components, n, n_channels)
        x_bar = x.new_empty((n, *x.shape)) if features else None
        y_bar = x.new_empty((n, *y.shape))
        r_bar = x.new_zeros((n, x.shape[1], 1))
        for atoms, edges in plan.blocks(x):
            angular = plan.angular(couplings, y[edges])
            angular_bar = x.new_empty((n, *angular.shape))
            if x_bar is not None:
                x_bar[:, :, edges] = 0  # Block by block: in the cache when the first path adds to it.
            for path, message, components in plan.by_path():
                m_part = by_atom[atoms, message]
                n_atoms, d3 = m_part.shape[:2]
                flat = m_part.reshape(n_atoms, d3 * n, n_channels)
                weights, weight_slopes = plan.of_edges(w, path, edges), plan.of_edges(slopes, path, edges)
                for m1, rows in components:
                    scaled = _scale(plan, x[m1, edges], weights, weight_slopes)
                    rows_bar = torch.matmul(flat, scaled.transpose(2, 3))
                    rows_bar = rows_bar.view(2, n_atoms, d3, n, plan.n_slots).permute(0, 3, 2, 1, 4)
                    angular_bar[:, rows] = rows_bar[0]
                    r_bar[:, edges, 0] += (rows_bar[1] * angular[rows]).sum(dim=1).flatten(1)
                    if x_bar is not None:
                        spread = _spread(angular[rows], m_part)
                        x_bar[:, m1, edges].addcmul_(spread.transpose(0, 1), weights)
            y_bar[:, edges] = angular_bar.flatten(2).transpose(1, 2) @ couplings
        return x_bar, y_bar, r_bar

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, u: Tensor | None, v: Tensor | None, r: Tensor | None) -> tuple[Tensor | None, ...]:
        x, y, w, slopes, m, couplings = ctx.saved_tensors
        plan: Convolution = ctx.plan
        if u is None and v is None and r is None:
            return (None,) * 8
        by_atom = m.permute(1, 2, 0, 3).contiguous()
        frozen = not any(ctx.needs_input_grad[place] for place in (0, 2, 3))
        out = _Second(torch.zeros_like(by_atom), *(None if frozen else torch.zeros_like(value) for value in (x, w, slopes)))
        for atoms, edges in plan.blocks(x):
            angular = plan.angular(couplings, y[edges])
            at_edges = _edge_cotangents(
                plan, couplings, angular, None if v is None else v[:, edges], None if r is None else r[:, edges]
            )
            for path, message, components in plan.by_path():
                weights = plan.of_edges(w, path, edges), plan.of_edges(slopes, path, edges)
                for m1, rows in components:
                    values = (by_atom[atoms, message], x[m1, edges], *weights)
                    targets = out.part(atoms, message, path, m1, edges)
                    if at_edges is not None:
                        _add_by_edges(plan, at_edges[:, :, rows], values, targets)
                    if u is not None:
                        _add_by_features(angular[rows], u[:, m1, edges].transpose(0, 1), values, targets)
        return out.x, None, out.w, out.slopes, out.m.permute(2, 0, 1, 3), None, None, None


_Values = tuple[Tensor, Tensor, Tensor, Tensor]
_Targets = tuple[Tensor, tuple[Tensor, Tensor, Tensor] | None]


@dataclass(frozen=True)
class _Second:
    """Second derivatives by message cotangents, atoms first, and by features, weights and slopes where they are wanted."""

    m: Tensor
    x: Tensor | None
    w: Tensor | None
    slopes: Tensor | None

    def part(self, atoms: slice, message: slice, path: int, m1: int, edges: slice) -> _Targets:
        """What one path and component add to."""
        others = None
        if self.x is not None and self.w is not None and self.slopes is not None:
            others = self.x[m1, edges], self.w[path, edges], self.slopes[path, edges]
        return self.m[atoms, message], others


def _scale(plan: Convolution, x: Tensor, w: Tensor, slopes: Tensor) -> Tensor:
    """Features times weights and times slopes, of shape (2, n_atoms, n_slots, n_channels)."""
    scaled = x.new_empty((2, *x.shape))
    torch.mul(x, w, out=scaled[0])
    torch.mul(x, slopes, out=scaled[1])
    return scaled.view(2, -1, plan.n_slots, x.shape[1])


def _spread(angular: Tensor, m: Tensor) -> Tensor:
    """Message cotangents brought to the edges, of shape (n_edges, n, n_channels)."""
    n_atoms, d3, n, n_channels = m.shape
    spread = torch.bmm(angular.permute(1, 2, 0), m.reshape(n_atoms, d3, n * n_channels))
    return spread.view(-1, n, n_channels)


def _edge_cotangents(
    plan: Convolution, couplings: Tensor, angular: Tensor, v: Tensor | None, r: Tensor | None
) -> Tensor | None:
    """What the cotangents v of harmonics and r of lengths are for scaled and slope-scaled features.

    Returns:
        Of shape (2, n, n_pairs, n_atoms, n_slots).
    """
    present = v if v is not None else r
    if present is None:
        return None
    out = angular.new_zeros((2, present.shape[0], *angular.shape))
    if v is not None:
        out[0] = (couplings @ v.transpose(1, 2)).view(-1, *angular.shape)
    if r is not None:
        torch.mul(r.view(-1, 1, *angular.shape[1:]), angular, out=out[1])
    return out


def _add_by_edges(plan: Convolution, at_edges: Tensor, values: _Values, targets: _Targets) -> None:
    """Pull back the cotangents of harmonics and lengths for one path and component."""
    m, x, w, slopes = values
    m_bar, others = targets
    n_atoms, d3, n, n_channels = m.shape
    rows = at_edges.permute(0, 3, 2, 1, 4).reshape(2, n_atoms, d3 * n, plan.n_slots)
    products = torch.matmul(rows, _scale(plan, x, w, slopes))
    m_bar += (products[0] + products[1]).view(m.shape)
    if others is None:
        return
    x_bar, w_bar, slopes_bar = others
    scaled_bar = torch.matmul(rows.transpose(2, 3), m.reshape(n_atoms, d3 * n, n_channels)).view(2, *x.shape)
    w_bar.addcmul_(scaled_bar[0], x)
    slopes_bar.addcmul_(scaled_bar[1], x)
    x_bar.addcmul_(scaled_bar[0], w).addcmul_(scaled_bar[1], slopes)


def _add_by_features(angular: Tensor, u: Tensor, values: _Values, targets: _Targets) -> None:
    """Pull back the cotangents u of what was given for the features, of shape (n_edges, n, n_channels)."""
    m, _, w, _ = values
    m_bar, others = targets
    n_atoms, d3, n, n_channels = m.shape
    if others is not None:
        others[1].add_((u * _spread(angular, m)).sum(dim=1))
    scaled = (u * w.unsqueeze(1)).reshape(n_atoms, -1, n * n_channels)
    m_bar += torch.bmm(angular.transpose(0, 1), scaled).view(m.shape)
