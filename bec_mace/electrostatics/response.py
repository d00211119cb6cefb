r"""How atoms yield to the potential and the field of permanent sources: once, without self-consistency.

.. math:: H = E_{perm} - \tfrac12 \sum_i E_i \cdot \alpha_i \cdot E_i - \tfrac12 \sum_{ij} \kappa_{ij} (\phi_i - \phi_j)^2
              - \tfrac12 \sum_i \kappa_i (\phi_i - \bar \phi)^2

with the potential :math:`\phi_i = \partial E_{perm} / \partial q_i` and the field :math:`E_i = - \partial E_{perm} / \partial
u_i` at each atom, its own contribution removed. Induced are the dipoles :math:`\alpha_i E_i`; the charge :math:`\kappa_{ij}
(\phi_j - \phi_i)` that each edge brings its receiver i and takes from its sender j; and the charges :math:`-\kappa_i (\phi_i
- \bar \phi)`, which sum to zero in each frame. In a uniform field F dipoles see :math:`E_i + F`, and edges :math:`\phi_i -
\phi_j - F \cdot (r_i - r_j)`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bec_mace.electrostatics.charged_frames import ChargedFrames
from bec_mace.electrostatics.coulomb import Coulomb
from bec_mace.electrostatics.multipoles import Multipoles


@dataclass(frozen=True)
class Edges:
    """Pairs between which charge flows.

    Attributes:
        receiver: Atom of each edge, of shape (n_edges,).
        sender: The other, of shape (n_edges,).
        vectors: Receiver minus image of the sender, of shape (n_edges, 3), in Å.
    """

    receiver: Tensor
    sender: Tensor
    vectors: Tensor

    def at_ends(self, values: Tensor, n_atoms: int) -> Tensor:
        """What values of the edges, of shape (n_edges, ...), bring their receivers and take from their senders."""
        total = values.new_zeros((n_atoms, *values.shape[1:]))
        return total.index_add(0, self.receiver, values).index_add(0, self.sender, -values)


@dataclass(frozen=True)
class Susceptibilities:
    """How atoms and edges yield.

    Attributes:
        polarizabilities: alpha, symmetric, of shape (n_atoms, 3, 3), in e^2 Å^2/eV; None where no dipoles are induced.
        conductances: kappa of each edge, of shape (n_edges,), in e^2/eV; None where no charge flows.
        edges: Those of the conductances.
        capacities: kappa of each atom, of shape (n_atoms,), in e^2/eV; None where no charge is exchanged with the whole.
        floats: Whether the potential of a frame is counted from its mean, so that induced charges sum to zero.
    """

    polarizabilities: Tensor | None = None
    conductances: Tensor | None = None
    edges: Edges | None = None
    capacities: Tensor | None = None
    floats: bool = True


@dataclass(frozen=True)
class Induced:
    """What the sources of a batch give.

    Attributes:
        energies: Of permanent and induced sources, of shape (n_frames,), in eV.
        potential: At each atom, of shape (n_atoms,), in V.
        dipoles: Of shape (n_atoms, 3), in e Å; None where none are induced.
        flow: Charge that each edge brings its receiver, of shape (n_edges,), in e.
        charges: Of atoms that exchange charge with the whole, of shape (n_atoms,), in e.
    """

    energies: Tensor
    potential: Tensor
    dipoles: Tensor | None = None
    flow: Tensor | None = None
    charges: Tensor | None = None


def respond(
    coulomb: Coulomb,
    sources: Multipoles,
    frames: ChargedFrames,
    yielding: Susceptibilities,
    strain: Tensor | None = None,
    uniform: Tensor | None = None,
) -> Induced:
    """Energies with the response, and what is induced; all can be differentiated again.

    Args:
        coulomb: The kernel and its sums.
        sources: Permanent charges and multipoles.
        frames: The structures.
        yielding: How they yield.
        strain: A deformation of positions and cells, of shape (n_frames, 3, 3), to differentiate by; crystals alone.
        uniform: A uniform field, of shape (n_frames, 3), in V/Å; its energy with the permanent sources is left out.
    """
    with torch.enable_grad():
        dipoles = sources.dipoles
        if dipoles is None and yielding.polarizabilities is not None:
            dipoles = torch.zeros_like(frames.positions)
        seen = replace(sources, dipoles=dipoles).map(lambda value: _variable(value.to(frames.positions)))
        energies = coulomb.energies(seen, frames, strain)
        wanted = [seen.charges] if seen.dipoles is None or yielding.polarizabilities is None else [seen.charges, seen.dipoles]
        potential, *gradients = torch.autograd.grad(energies.sum(), wanted, create_graph=True)
        made = Induced(energies, potential)
        if gradients:
            made = _polarized(made, -gradients[0], frames, yielding, uniform)
        if yielding.conductances is not None and yielding.edges is not None:
            made = _flown(made, yielding.conductances, yielding.edges, frames, uniform)
        if yielding.capacities is not None:
            made = _charged(made, yielding.capacities, frames, yielding.floats)
    return made


def _variable(value: Tensor) -> Tensor:
    return value if value.requires_grad else value.detach().requires_grad_()


def _polarized(
    made: Induced, field: Tensor, frames: ChargedFrames, yielding: Susceptibilities, uniform: Tensor | None
) -> Induced:
    if yielding.polarizabilities is None:
        return made
    field = field if uniform is None else field + uniform[frames.frame_index]
    dipoles = (yielding.polarizabilities.to(field.dtype) @ field.unsqueeze(2)).squeeze(2)
    return replace(made, energies=_lowered(made.energies, (dipoles * field).sum(dim=1), frames.frame_index), dipoles=dipoles)


def _flown(made: Induced, conductances: Tensor, edges: Edges, frames: ChargedFrames, uniform: Tensor | None) -> Induced:
    drop = made.potential[edges.sender] - made.potential[edges.receiver]
    if uniform is not None:
        drop = drop + (uniform[frames.frame_index[edges.receiver]] * edges.vectors.to(drop.dtype)).sum(dim=1)
    flow = conductances.to(drop.dtype) * drop
    return replace(made, energies=_lowered(made.energies, flow * drop, frames.frame_index[edges.receiver]), flow=flow)


def _charged(made: Induced, capacities: Tensor, frames: ChargedFrames, floats: bool) -> Induced:
    potential, kappa, index = made.potential, capacities.to(made.potential.dtype), frames.frame_index
    if floats:
        zero = potential.new_zeros(frames.n_frames)
        mean = zero.index_add(0, index, kappa * potential) / zero.index_add(0, index, kappa)
        potential = potential - mean[index]
    return replace(made, energies=_lowered(made.energies, kappa * potential.square(), index), charges=-kappa * potential)


def _lowered(energies: Tensor, work: Tensor, frame: Tensor) -> Tensor:
    """Energies less half of the work done on what yields."""
    return energies.index_add(0, frame, work, alpha=-0.5)


def polarizability_of(yielding: Susceptibilities, n_atoms: int, like: Tensor) -> Tensor:
    r"""Shares of the atoms in :math:`\sum_i \alpha_i + \sum_{ij} \kappa_{ij} d_{ij} d_{ij}`, (n_atoms, 3, 3), in e^2 Å^2/eV."""
    total = like.new_zeros((n_atoms, 3, 3))
    if yielding.polarizabilities is not None:
        total = total + yielding.polarizabilities.to(like.dtype)
    if yielding.conductances is not None and yielding.edges is not None:
        arm = yielding.edges.vectors.to(like.dtype)
        dyad = yielding.conductances.to(like.dtype).view(-1, 1, 1) * arm.unsqueeze(2) * arm.unsqueeze(1)
        total = total.index_add(0, yielding.edges.receiver, dyad)
    return total
