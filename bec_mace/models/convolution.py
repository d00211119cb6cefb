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

_BLOCK_BYTES = 1 << 18  # Of one path's scaled features on the CPU: several such arrays fit in a core's cache.


@dataclass(frozen=True)
class Path:
    """One coupling l1 x l2 -> l3.

    Attributes:
        feature: The neighbour's components that belong to l1.
        harmonic: The spherical harmonics that belong to l2.
        message: The components of the result that belong to this path.
        coupling: Clebsch-Gordan coefficients with normalisation, of shape (2 l2 + 1, (2 l1 + 1) (2 l3 + 1)).
    """

    feature: slice
    harmonic: slice
    message: slice
    coupling: Tensor

    @property
    def d1(self) -> int:
        """Number of components of l1."""
        return int(self.feature.stop - self.feature.start)

    @property
    def d3(self) -> int:
        """Number of components of l3."""
        return int(self.message.stop - self.message.start)


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
            sender_feats: Neighbours' features, of shape (n_atoms * n_slots, n_components, n_channels).
            harmonics: Of shape (n_atoms * n_slots, n_harmonics).
            weights: Radial functions, of shape (n_atoms * n_slots, n_paths, n_channels).

        Returns:
            Of shape (n_atoms, n_message_components, n_channels).
        """
        out: Tensor = _Convolve.apply(sender_feats, harmonics, weights, self)
        return out

    def blocks(self, sender_feats: Tensor) -> Iterator[tuple[slice, slice]]:
        """Slices of atoms and of their neighbour slots."""
        n_edges, n_components, n_channels = sender_feats.shape
        n_atoms = n_edges // self.n_slots
        step = n_atoms
        if sender_feats.device.type == "cpu":
            step = max(1, _BLOCK_BYTES // (self.n_slots * min(3, n_components) * n_channels * sender_feats.element_size()))
        for start in range(0, n_atoms, step):
            stop = min(start + step, n_atoms)
            yield slice(start, stop), slice(start * self.n_slots, stop * self.n_slots)

    def angular(self, path: Path, harmonics: Tensor) -> Tensor:
        """Couplings of one path with the harmonics put in, of shape (n_atoms, n_slots (2 l1 + 1), 2 l3 + 1)."""
        return (harmonics[:, path.harmonic] @ path.coupling).view(-1, self.n_slots * path.d1, path.d3)

    def angular_transposed(self, path: Path, value: Tensor) -> Tensor:
        """The transpose of :meth:`angular` as a map of harmonics, of shape (n_edges, 2 l2 + 1)."""
        return value.reshape(-1, path.d1 * path.d3) @ path.coupling.T

    def by_atom(self, path: Path, value: Tensor) -> Tensor:
        """View (n_edges, 2 l1 + 1, n_channels) as (n_atoms, n_slots (2 l1 + 1), n_channels)."""
        return value.view(-1, self.n_slots * path.d1, value.shape[2])


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, w: Tensor, plan: Convolution) -> Tensor:
        ctx.save_for_backward(x, y, w)
        ctx.plan = plan
        n_message = max(path.message.stop for path in plan.paths)
        out = x.new_empty((x.shape[0] // plan.n_slots, n_message, x.shape[2]))
        for atoms, edges in plan.blocks(x):
            for index, path in enumerate(plan.paths):
                scaled = plan.by_atom(path, w[edges, index].unsqueeze(1) * x[edges, path.feature])
                out[atoms, path.message] = torch.bmm(plan.angular(path, y[edges]).transpose(1, 2), scaled)
        return out

    @staticmethod
    def backward(ctx: Any, m: Tensor) -> tuple[Tensor | None, ...]:
        x, y, w = ctx.saved_tensors
        return (*_ConvolveBackward.apply(x, y, w, m.contiguous(), ctx.plan, ctx.needs_input_grad[:3]), None)


class _ConvolveBackward(torch.autograd.Function):
    """From the cotangent m of the messages those of features, harmonics and weights."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, w: Tensor, m: Tensor, plan: Convolution, needs: Sequence[bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        ctx.save_for_backward(x, y, w, m)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        x_bar = torch.zeros_like(x) if needs[0] else None
        y_bar = torch.zeros_like(y) if needs[1] else None
        w_bar = torch.empty_like(w) if needs[2] else None
        for atoms, edges in plan.blocks(x):
            for index, path in enumerate(plan.paths):
                x_part, w_part = x[edges, path.feature], w[edges, index].unsqueeze(1)
                m_part = m[atoms, path.message]
                if y_bar is not None:
                    at_angular = torch.bmm(plan.by_atom(path, w_part * x_part), m_part.transpose(1, 2))
                    y_bar[edges, path.harmonic] += plan.angular_transposed(path, at_angular)
                if x_bar is None and w_bar is None:
                    continue
                spread = torch.bmm(plan.angular(path, y[edges]), m_part).view_as(x_part)
                if x_bar is not None:
                    x_bar[edges, path.feature].addcmul_(spread, w_part)
                if w_bar is not None:
                    _multiply_and_sum(spread, x_part, w_bar[edges, index])
        return x_bar, y_bar, w_bar

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, u: Tensor | None, v: Tensor | None, t: Tensor | None) -> tuple[Tensor | None, ...]:
        x, y, w, m = ctx.saved_tensors
        plan: Convolution = ctx.plan
        if u is None and v is None and t is None:
            return (None,) * 6
        x_bar, y_bar, w_bar, m_bar = (
            torch.zeros_like(value) if needed else None
            for value, needed in zip((x, y, w, m), ctx.needs_input_grad[:4], strict=True))
        for atoms, edges in plan.blocks(x):
            for index, path in enumerate(plan.paths):
                block = _SecondBlock(plan, path, index, atoms, edges, (x, y, w, m), (u, v, t))
                block.accumulate(x_bar, y_bar, w_bar, m_bar)
        return x_bar, y_bar, w_bar, m_bar, None, None


class _SecondBlock:
    """Second derivatives of one path for one block of atoms.

    u, v and t are the cotangents of what the backward pass gave for features x, harmonics y and weights w.
    """

    def __init__(
        self, plan: Convolution, path: Path, index: int, atoms: slice, edges: slice,
        values: tuple[Tensor, Tensor, Tensor, Tensor], cotangents: tuple[Tensor | None, Tensor | None, Tensor | None],
    ) -> None:
        x, y, w, m = values
        u, v, t = cotangents
        self.plan, self.path, self.index, self.atoms, self.edges = plan, path, index, atoms, edges
        self.x, self.w, self.m = x[edges, path.feature], w[edges, index].unsqueeze(1), m[atoms, path.message]
        self.u = None if u is None else u[edges, path.feature]
        self.t = None if t is None else t[edges, index].unsqueeze(1)
        self.angular_y = plan.angular(path, y[edges])
        self.angular_v = None if v is None else plan.angular(path, v[edges])

    def accumulate(
        self, x_bar: Tensor | None, y_bar: Tensor | None, w_bar: Tensor | None, m_bar: Tensor | None
    ) -> None:
        plan, path, edges = self.plan, self.path, self.edges
        if self.u is not None or self.t is not None:
            mixed = self._mixed()
            by_atom = plan.by_atom(path, mixed)
            if y_bar is not None:
                at_angular = torch.bmm(by_atom, self.m.transpose(1, 2))
                y_bar[edges, path.harmonic] += plan.angular_transposed(path, at_angular)
            if m_bar is not None:
                m_bar[self.atoms, path.message] += torch.bmm(self.angular_y.transpose(1, 2), by_atom)
            spread = torch.bmm(self.angular_y, self.m).view_as(self.x)
            if x_bar is not None and self.t is not None:
                x_bar[edges, path.feature].addcmul_(spread, self.t)
            if w_bar is not None and self.u is not None:
                w_bar[edges, self.index] += (spread * self.u).sum(dim=1)
        if self.angular_v is not None:
            if m_bar is not None:
                scaled = plan.by_atom(path, self.w * self.x)
                m_bar[self.atoms, path.message] += torch.bmm(self.angular_v.transpose(1, 2), scaled)
            spread = torch.bmm(self.angular_v, self.m).view_as(self.x)
            if x_bar is not None:
                x_bar[edges, path.feature].addcmul_(spread, self.w)
            if w_bar is not None:
                w_bar[edges, self.index] += (spread * self.x).sum(dim=1)

    def _mixed(self) -> Tensor:
        """w u + t x."""
        if self.u is None:
            return self.t * self.x
        scaled = self.w * self.u
        return scaled if self.t is None else scaled.addcmul_(self.t, self.x)


def _multiply_and_sum(a: Tensor, b: Tensor, out: Tensor) -> None:
    """Sum a * b over the second axis into ``out``."""
    if a.shape[1] == 1:
        torch.mul(a[:, 0], b[:, 0], out=out)
    else:
        torch.sum(a * b, dim=1, out=out)
