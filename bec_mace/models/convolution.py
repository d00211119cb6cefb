r"""The edge convolution of MACE and its derivatives, summed over neighbour slots by matrix products.

.. math:: A_{i,k c}^{p} = \sum_j R^p_c(r_{ij}) \sum_{m_1 m_2} C^p_{m_1 m_2 k} h_{j, m_1 c} Y_{m_2}(\hat r_{ij})

It is linear in the gathered features h, the spherical harmonics Y and the radial weights R, so all its derivatives are
made of the same three products. They are written out here, block by block of atoms, so that what one block needs stays
in the cache; generic differentiation would keep and move several copies of every path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_BLOCK_BYTES = 1 << 18  # Of one component of the features on the CPU: several such arrays fit in a core's cache.


@dataclass(frozen=True)
class Path:
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
    """

    paths: Sequence[Path]
    n_slots: int

    def __call__(self, sender_feats: Tensor, harmonics: Tensor, weights: Tensor) -> Tensor:
        """Convolve.

        Args:
            sender_feats: Neighbours' features, of shape (n_components, n_atoms * n_slots, n_channels).
            harmonics: Of shape (n_atoms * n_slots, n_harmonics).
            weights: Radial functions, of shape (n_paths, n_atoms * n_slots, n_channels).

        Returns:
            Of shape (n_atoms, n_message_components, n_channels).
        """
        out: Tensor = _Convolve.apply(sender_feats, harmonics, weights, self.couplings(harmonics), self)
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

    def pairs(self) -> Iterator[tuple[int, int, slice, slice]]:
        """For each path and component of l1: path, component, components of the result, rows of the couplings."""
        row = 0
        for index, path in enumerate(self.paths):
            for m1 in range(path.d1):
                yield index, path.feature.start + m1, path.message, slice(row, row + path.d3)
                row += path.d3

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
            for path, m1, message, rows in plan.pairs():
                scaled = plan.by_atom(w[path, edges] * x[m1, edges])
                out[atoms, message] += torch.bmm(angular[rows].transpose(0, 1), scaled)
        return out

    @staticmethod
    def backward(ctx: Any, m: Tensor) -> tuple[Tensor | None, ...]:
        x, y, w, couplings = ctx.saved_tensors
        needs = ctx.needs_input_grad[:3]
        return (*_ConvolveBackward.apply(x, y, w, m.contiguous(), couplings, ctx.plan, needs), None, None)


class _ConvolveBackward(torch.autograd.Function):
    """From the cotangent m of the messages those of features, harmonics and weights."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, w: Tensor, m: Tensor, couplings: Tensor, plan: Convolution, needs: Sequence[bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        ctx.save_for_backward(x, y, w, m, couplings)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        x_bar = torch.zeros_like(x) if needs[0] else None
        y_bar = torch.empty_like(y) if needs[1] else None
        w_bar = torch.zeros_like(w) if needs[2] else None
        for atoms, edges in plan.blocks(x):
            angular = plan.angular(couplings, y[edges])
            angular_bar = torch.empty_like(angular) if y_bar is not None else None
            for path, m1, message, rows in plan.pairs():
                m_part, w_part, x_part = m[atoms, message], w[path, edges], x[m1, edges]
                if angular_bar is not None:
                    scaled = plan.by_atom(w_part * x_part)
                    angular_bar[rows] = torch.bmm(m_part, scaled.transpose(1, 2)).transpose(0, 1)
                if x_bar is None and w_bar is None:
                    continue
                spread = torch.bmm(angular[rows].permute(1, 2, 0), m_part).view_as(x_part)
                if x_bar is not None:
                    x_bar[m1, edges].addcmul_(spread, w_part)
                if w_bar is not None:
                    w_bar[path, edges].addcmul_(spread, x_part)
            if angular_bar is not None and y_bar is not None:
                torch.mm(angular_bar.flatten(1).T, couplings, out=y_bar[edges])
        return x_bar, y_bar, w_bar

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, u: Tensor | None, v: Tensor | None, t: Tensor | None) -> tuple[Tensor | None, ...]:
        x, y, w, m, couplings = ctx.saved_tensors
        if u is None and v is None and t is None:
            return (None,) * 7
        needs = ctx.needs_input_grad
        out = _Cotangents(*(
            torch.zeros_like(value) if needed else None for value, needed in zip((x, y, w, m), needs[:4], strict=True)))
        if u is not None or t is not None:
            _add_second_by_features(ctx.plan, couplings, (x, y, w, m), (u, t), out)
        if v is not None:
            _add_second_by_harmonics(ctx.plan, couplings, (x, w, m), v, out)
        return out.x, out.y, out.w, out.m, None, None, None


@dataclass(frozen=True)
class _Cotangents:
    """Second derivatives by features x, harmonics y, weights w and message cotangents m, where needed."""

    x: Tensor | None
    y: Tensor | None
    w: Tensor | None
    m: Tensor | None


def _add_second_by_features(
    plan: Convolution, couplings: Tensor, values: tuple[Tensor, Tensor, Tensor, Tensor],
    cotangents: tuple[Tensor | None, Tensor | None], out: _Cotangents,
) -> None:
    """Pull back u and t, the cotangents of what the backward pass gave for features and weights."""
    x, y, w, m = values
    u, t = cotangents
    for atoms, edges in plan.blocks(x):
        angular = plan.angular(couplings, y[edges])
        angular_bar = torch.empty_like(angular) if out.y is not None else None
        for path, m1, message, rows in plan.pairs():
            m_part = m[atoms, message]
            mixed = plan.by_atom(_mix(w[path, edges], None if u is None else u[m1, edges],
                                      None if t is None else t[path, edges], x[m1, edges]))
            if angular_bar is not None:
                angular_bar[rows] = torch.bmm(m_part, mixed.transpose(1, 2)).transpose(0, 1)
            if out.m is not None:
                out.m[atoms, message] += torch.bmm(angular[rows].transpose(0, 1), mixed)
            if (out.x is None or t is None) and (out.w is None or u is None):
                continue
            spread = torch.bmm(angular[rows].permute(1, 2, 0), m_part).view(-1, x.shape[2])
            if out.x is not None and t is not None:
                out.x[m1, edges].addcmul_(spread, t[path, edges])
            if out.w is not None and u is not None:
                out.w[path, edges].addcmul_(spread, u[m1, edges])
        if angular_bar is not None and out.y is not None:
            torch.mm(angular_bar.flatten(1).T, couplings, out=out.y[edges])


def _mix(w: Tensor, u: Tensor | None, t: Tensor | None, x: Tensor) -> Tensor:
    """W u + t x."""
    if t is None:
        return w if u is None else w * u
    return x * t if u is None else (w * u).addcmul_(t, x)


def _add_second_by_harmonics(
    plan: Convolution, couplings: Tensor, values: tuple[Tensor, Tensor, Tensor], v: Tensor, out: _Cotangents
) -> None:
    """Pull back v, the cotangent of what the backward pass gave for the harmonics."""
    x, w, m = values
    for atoms, edges in plan.blocks(x):
        angular = plan.angular(couplings, v[edges])
        for path, m1, message, rows in plan.pairs():
            w_part, x_part = w[path, edges], x[m1, edges]
            if out.m is not None:
                out.m[atoms, message] += torch.bmm(angular[rows].transpose(0, 1), plan.by_atom(w_part * x_part))
            if out.x is None and out.w is None:
                continue
            spread = torch.bmm(angular[rows].permute(1, 2, 0), m[atoms, message]).view_as(x_part)
            if out.x is not None:
                out.x[m1, edges].addcmul_(spread, w_part)
            if out.w is not None:
                out.w[path, edges].addcmul_(spread, x_part)


@dataclass(frozen=True)
class FrozenConvolution:
    """A convolution with constant radial weights, pulled back for several cotangents in one go.

    What the cotangents share is computed once: the scaled features, and the features scaled by the weights' slopes,
    which give the derivative by the distance without the derivative by each weight.

    Attributes:
        plan: Couplings and slots.
        sender_feats: Neighbours' features, of shape (n_components, n_edges, n_channels).
        harmonics: Of shape (n_edges, n_harmonics).
        weights: Radial functions, of shape (n_paths, n_edges, n_channels).
        slopes: Their derivatives by the length.
    """

    plan: Convolution
    sender_feats: Tensor
    harmonics: Tensor
    weights: Tensor
    slopes: Tensor

    def messages(self) -> Tensor:
        """The convolution, of shape (n_atoms, n_message_components, n_channels)."""
        return self.plan(self.sender_feats, self.harmonics, self.weights)

    def pull(self, cotangents: Tensor, needed: bool) -> tuple[Tensor | None, Tensor, Tensor]:
        """Pull back cotangents of the messages.

        Args:
            cotangents: Of shape (n, n_atoms, n_message_components, n_channels).
            needed: Whether the cotangents of the features are wanted.

        Returns:
            Those of the features (n, n_components, n_edges, n_channels) or None, of the harmonics
            (n, n_edges, n_harmonics), and of the lengths (n, n_edges, 1).
        """
        plan, x, w = self.plan, self.sender_feats, self.weights
        n, n_channels = cotangents.shape[0], cotangents.shape[3]
        couplings = plan.couplings(self.harmonics)
        by_atom = cotangents.permute(1, 2, 0, 3).contiguous()  # (n_atoms, n_message_components, n, n_channels)
        x_bar = x.new_zeros((n, *x.shape)) if needed else None
        y_bar = x.new_empty((n, *self.harmonics.shape))
        r_bar = x.new_zeros((n, x.shape[1], 1))
        for atoms, edges in plan.blocks(x):
            angular = plan.angular(couplings, self.harmonics[edges])
            angular_bar = x.new_empty((n, *angular.shape))
            n_atoms = atoms.stop - atoms.start
            for path, m1, message, rows in plan.pairs():
                d3 = rows.stop - rows.start
                m_part = by_atom[atoms, message]
                x_part = x[m1, edges]
                scaled = torch.stack([w[path, edges] * x_part, self.slopes[path, edges] * x_part])
                scaled = scaled.view(2, n_atoms, plan.n_slots, n_channels)
                rows_bar = torch.matmul(m_part.reshape(n_atoms, d3 * n, n_channels), scaled.transpose(2, 3))
                rows_bar = rows_bar.view(2, n_atoms, d3, n, plan.n_slots).permute(0, 3, 2, 1, 4)
                angular_bar[:, rows] = rows_bar[0]
                r_bar[:, edges, 0] += (rows_bar[1] * angular[rows]).sum(dim=1).flatten(1)
                if x_bar is not None:
                    spread = torch.bmm(angular[rows].permute(1, 2, 0), m_part.reshape(n_atoms, d3, n * n_channels))
                    spread = spread.view(-1, n, n_channels).transpose(0, 1)
                    x_bar[:, m1, edges].addcmul_(spread, w[path, edges])
            y_bar[:, edges] = angular_bar.flatten(2).transpose(1, 2) @ couplings
        return x_bar, y_bar, r_bar
