r"""The design matrix: Z* of a kernel model as a linear function of its weights, exact in every cell.

There is one hop, so equation (1) needs no sweep. With the edge vector d = r_i - r_j' of receiver i and sender image j',

.. math:: Z_{j,ab} = \sum_M w_M \Big[ \delta_{ab} k_{jM} - \sum_{i, j'} d_a \frac{\partial k_{iM}}{\partial d_b} \Big]
                   + \sum_M v_M \Big[ \sum_{d \to j} - \sum_{d \leftarrow j} \Big] \frac{\partial K_{iM,a}}{\partial d_b} .

The gradients of a kernel by the densities of atom i are contracted with those of the densities by each edge vector. Edges are
taken in blocks of receivers and representatives, so that the memory stays within a bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bec_mace.engine.environments import Environments, with_total
from bec_mace.models.kernel_regression.descriptors import Described
from bec_mace.models.kernel_regression.kernel import Kernel, element_slices

_COLUMNS = 64
_COPIES = 6
"""Arrays of the size of a block that are alive at once."""


def sorted_design_matrix(kernel: Kernel, env: Environments, memory: float = 1e9) -> Tensor:
    """Derivatives of Z* by the weights, sum rule included.

    Args:
        kernel: Its representatives must be there; its weights are not used.
        env: The atomic environments of a batch.
        memory: Bytes that the work may take, beside the result.

    Returns:
        Of shape (n_atoms, 3, 3, n_weights), atoms in sorted order.
    """
    with torch.no_grad():
        out = env.vectors.new_zeros(env.n_atoms, 3, 3, kernel.n_weights)
        densities = kernel.descriptors.density(env, kernel.element_of(env)[env.sender])
        for number, atoms in enumerate(element_slices(env.counts)):
            for receivers in _slices(kernel, env, atoms, memory):
                _add_receivers(kernel, env, out, _Receivers(kernel, env, densities, number, receivers))
        if kernel.reference_charges:
            # Reference charges are made to sum to zero in each frame.
            charges = with_total(kernel.element_of(env), env, env.total_charge.new_zeros(()))
            out[..., -charges.shape[1] :] = charges.view(env.n_atoms, 1, 1, -1) * torch.eye(3).to(out).unsqueeze(2)
        if kernel.projects:
            out = with_total(out, env, env.total_charge.new_zeros(()))
    return out


def _slices(kernel: Kernel, env: Environments, atoms: slice, memory: float) -> Iterator[slice]:
    """Atoms of one element at a time, as many as the memory allows."""
    density = kernel.descriptors.density
    axes = 3 if "dipole" in kernel.weights else 1
    per_atom = 8 * _COLUMNS * axes * (env.n_slots * 3 * _COPIES + 3 * density.n_elements * density.n_components)
    per_atom += 8 * env.n_slots * 6 * density.n_components
    size = max(1, int(memory // per_atom))
    for start in range(atoms.start, atoms.stop, size):
        yield slice(start, min(start + size, atoms.stop))


@dataclass(frozen=True)
class _Neighbours:
    """The edges of some receivers whose senders are one element, in equal numbers of slots per receiver."""

    edges: Tensor
    slots: Tensor
    gradients: Tensor


class _Receivers:
    """Some receivers of one element, and everything about them that does not depend on the representative."""

    def __init__(self, kernel: Kernel, env: Environments, densities: Tensor, number: int, atoms: slice) -> None:
        self.number, self.atoms = number, atoms
        self.densities = densities[atoms]
        self.described: Described = kernel.descriptors(self.densities)
        norms = self.described.norms.view(-1, 1, 1)
        self.by_norm = kernel.descriptors.pull_own_norm(self.densities) / norms.square()
        places = torch.arange(atoms.start * env.n_slots, atoms.stop * env.n_slots, device=env.sender.device)
        places = places[env.filled[places]]
        self.vectors, self.sender = env.vectors[places], env.sender[places]
        self.receiver = places // env.n_slots
        self.n_edges = len(places)
        _, gradients = kernel.descriptors.density.edges(self.vectors)
        element = env.species[self.sender]
        self.neighbours = [self._of_element(torch.nonzero(element == z).flatten(), gradients) for z in range(len(kernel.sizes))]

    def _of_element(self, edges: Tensor, gradients: Tensor) -> _Neighbours:
        receiver = self.receiver[edges] - self.atoms.start
        degree = torch.bincount(receiver, minlength=self.densities.shape[0])
        n_slots = int(degree.max()) if len(edges) else 0
        first = torch.cumsum(degree, 0) - degree
        slots = receiver * n_slots + torch.arange(len(edges), device=edges.device) - first[receiver]
        padded = gradients.new_zeros(self.densities.shape[0] * n_slots, 3, gradients.shape[2])
        padded[slots] = gradients[edges]
        return _Neighbours(edges, slots, padded)

    def by_edges(self, by_densities: Tensor) -> Tensor:
        """From gradients by the densities, (n, n_elements, n_components, m), to those by the edges, (n_edges, 3, m)."""
        n_atoms, m = self.densities.shape[0], by_densities.shape[3]
        out = by_densities.new_empty(self.n_edges, 3, m)
        for z, element in enumerate(self.neighbours):
            if len(element.edges):
                pulled = torch.bmm(element.gradients.view(n_atoms, -1, element.gradients.shape[2]), by_densities[:, z])
                out[element.edges] = pulled.view(-1, 3, m)[element.slots]
        return out


def _add_receivers(kernel: Kernel, env: Environments, out: Tensor, receivers: _Receivers) -> None:
    """Add what some receivers give to all columns of their element."""
    edges = torch.arange(receivers.n_edges, device=out.device)
    arms = torch.sparse_coo_tensor(
        torch.stack(
            [(receivers.sender.unsqueeze(1) * 3 + torch.arange(3, device=out.device)).flatten(), edges.repeat_interleave(3)]
        ),
        -receivers.vectors.flatten(),
        (3 * env.n_atoms, receivers.n_edges),
        check_invariants=False,
    ).coalesce()
    ends = torch.sparse_coo_tensor(
        torch.stack([torch.cat([receivers.receiver, receivers.sender]), edges.repeat(2)]),
        torch.cat([torch.ones_like(receivers.vectors[:, 0]), -torch.ones_like(receivers.vectors[:, 0])]),
        (env.n_atoms, receivers.n_edges),
        check_invariants=False,
    ).coalesce()
    start = sum(kernel.sizes[: receivers.number])
    diagonal = torch.arange(3, device=out.device)
    for first in range(start, start + kernel.sizes[receivers.number], _COLUMNS):
        columns = slice(first, min(first + _COLUMNS, start + kernel.sizes[receivers.number]))
        n = columns.stop - columns.start
        kernels = _Kernels(kernel, receivers, columns)
        for place, head in enumerate(kernel.weights):
            target = out[..., place * sum(kernel.sizes) :][..., columns]
            if head == "monopole":
                slopes = receivers.by_edges(kernels.charge_slopes())
                target += torch.sparse.mm(arms, slopes.view(-1, 3 * n)).view(env.n_atoms, 3, 3, n)
                target[receivers.atoms, diagonal, diagonal] += kernels.charges().unsqueeze(1)
            else:
                slopes = receivers.by_edges(kernels.dipole_slopes().flatten(3)).view(receivers.n_edges, 3, 3, n).transpose(1, 2)
                target += torch.sparse.mm(ends, slopes.reshape(-1, 9 * n)).view(env.n_atoms, 3, 3, n)


class _Kernels:
    """Kernels between the atoms of some receivers and some representatives, with their gradients by the densities."""

    def __init__(self, kernel: Kernel, receivers: _Receivers, columns: slice) -> None:
        self.descriptors, self.zeta, self.receivers = kernel.descriptors, kernel.zeta, receivers
        self.directions = kernel.directions[columns]
        representatives = kernel.representatives[columns]
        self.overlaps = receivers.described.invariants @ representatives.T
        self.norms = receivers.described.norms.view(-1, 1, 1, 1)
        self.overlap_slopes = self.descriptors.pull_invariants(representatives, receivers.densities) / self.norms
        self.overlap_slopes -= self._spread(self.overlaps) * receivers.by_norm.unsqueeze(3)

    @staticmethod
    def _spread(values: Tensor) -> Tensor:
        return values[:, None, None]

    def charges(self) -> Tensor:
        """(D_i . D_M)^zeta, of shape (n_atoms, n_columns)."""
        return self.overlaps.pow(self.zeta)

    def charge_slopes(self) -> Tensor:
        """Gradient of :meth:`charges`, of shape (n_atoms, n_elements, n_components, n_columns)."""
        return self.overlap_slopes * self._spread(self.zeta * self.overlaps.pow(self.zeta - 1))

    def dipole_slopes(self) -> Tensor:
        """Gradient of the dipoles, of shape (n_atoms, n_elements, n_components, 3, n_columns)."""
        powers = self.overlaps.pow(self.zeta - 1)
        projected = self.receivers.described.vectors @ self.directions.T
        out = self.descriptors.pull_vectors(self.directions, self.receivers.densities)
        out *= powers.view(-1, 1, 1, 1, powers.shape[1]) / self.norms.unsqueeze(4)
        out -= self.receivers.by_norm[..., None, None] * self._spread(projected * powers.unsqueeze(1))
        if self.zeta > 1:
            growth = (self.zeta - 1) * self.overlaps.pow(self.zeta - 2)
            out += self.overlap_slopes.unsqueeze(3) * self._spread(projected * growth.unsqueeze(1))
        return out
