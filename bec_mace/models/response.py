r"""The exact engine: derivatives of energy and polarization in one sweep from the last layer to the first.

Let g be the cotangent of the total charge for some node feature h of atom j, and G its first moment along a direction,

.. math:: g = \sum_i \partial q_i / \partial h_{j'}, \qquad
          G_a = \sum_i (r_i - r_{j'})_a \, \partial q_i / \partial h_{j'} .

Inside a node both are pulled back by the ordinary vector-Jacobian product. Across an edge, from sender s' to receiver r
with d = r_r - r_s', the pair picks up the arm,

.. math:: g_s \mathrel{+}= J^T g_r, \qquad G_{s,a} \mathrel{+}= J^T G_{r,a} + d_a \, J^T g_r ,

and the edge vector's cotangents c = J_d^T g and C_a = J_d^T G_a give +C_a to the receiver and -(C_a + d_a c) to the sender.
Dipoles, charge flows and energies are functions of edge vectors alone: they start in the channel G_a, or in a channel of
their own, and need no arm. The engine knows nothing of the network but the contract of :class:`Stage`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bec_mace.models.environments import Environments


@dataclass(frozen=True)
class Sources:
    """What a stage adds to the sources.

    Attributes:
        charges: Charges whose polarization is charge times position, of shape (n_atoms,), in e.
        dipoles: Polarization that depends on edge vectors alone, of shape (n_atoms, 3), in e Å.
        energies: Of shape (n_atoms,), in eV.
        transferred: Charges whose polarization is already among the dipoles, of shape (n_atoms,), in e.
    """

    charges: Tensor | None = None
    dipoles: Tensor | None = None
    energies: Tensor | None = None
    transferred: Tensor | None = None


@dataclass(frozen=True)
class EdgePart:
    """The edge work of a stage, pulled back by the stage itself for all channels at once.

    Attributes:
        messages: What the edges hand to the node work: a tensor to differentiate with respect to.
        pull: From cotangents of the messages, one for each channel, those of the gathered features (None where
            ``needed`` is false) and those of the edge features.
    """

    messages: Tensor
    pull: Callable[[list[Tensor], bool], tuple[list[Tensor | None], list[list[Tensor | None]]]]


@dataclass(frozen=True)
class StageOutput:
    """What a stage gives.

    Attributes:
        node_feats: New node features; None where the stage only adds to the sources.
        sources: The stage's share of the sources.
        edge_part: Where the stage pulls back its edge work itself; None leaves it to autograd.
    """

    node_feats: Tensor | None
    sources: Sources
    edge_part: EdgePart | None = None


class Stage(Protocol):
    """One hop of a model. A network has one for each layer."""

    def prepare(self, node_feats: Tensor) -> Tensor:
        """What neighbours gather, of shape (n_components, n_atoms, n_channels), from node features."""
        ...

    def propagate(
        self, node_feats: Tensor, sender_feats: Tensor, edge_feats: Sequence[Tensor], env: Environments
    ) -> StageOutput:
        """New node features and sources from own features, gathered ones, and functions of the edge vectors."""
        ...


@dataclass(frozen=True)
class Cotangents:
    """Derivatives of the totals with respect to edge vectors.

    Attributes:
        charge: c, of the total charge, of shape (n_edges, 3), in e/Å.
        moments: C_a, of the polarization along each direction, each of shape (n_edges, 3), in e.
        energy: Of shape (n_edges, 3), in eV/Å.
    """

    charge: Tensor | None
    moments: list[Tensor | None]
    energy: Tensor | None


@dataclass
class _Record:
    """The graph of one stage, cut at the gather."""

    node_feats: Tensor
    gather_feats: Tensor
    prepared: Tensor
    sender_feats: Tensor
    edge_feats: list[Tensor]
    out: StageOutput


@dataclass
class Forward:
    """All stages evaluated, with what the sweep needs.

    Attributes:
        vectors: The edge vectors that the stages saw.
        edge_feats: Functions of them that all stages share.
        records: The graph of each stage.
    """

    vectors: Tensor
    edge_feats: list[Tensor]
    records: list[_Record]

    def sources(self) -> list[Sources]:
        """The sources of each stage."""
        return [record.out.sources for record in self.records]

    def node_feats(self) -> Tensor:
        """Features after the last stage that changed them."""
        return [record.out.node_feats for record in self.records if record.out.node_feats is not None][-1]


def evaluate_stages(
    stages: Sequence[Stage],
    node_feats: Tensor,
    env: Environments,
    embed_edges: Callable[[Tensor], Sequence[Tensor]],
    derivatives: bool,
) -> Forward:
    """Run all stages and keep what the sweep needs.

    Args:
        stages: The hops of the model, first to last.
        node_feats: Features before the first stage.
        env: The atomic environments.
        embed_edges: Functions of the edge vectors that every stage shares.
        derivatives: Whether :func:`sweep` will follow.
    """
    vectors = env.vectors.detach().requires_grad_(derivatives)
    edge_feats = list(embed_edges(vectors))
    records: list[_Record] = []
    for stage in stages:
        own, gather_feats = _alias(node_feats), _alias(node_feats)
        shared = [_alias(value) for value in edge_feats]
        prepared = stage.prepare(gather_feats)
        sender_feats = env.gather(prepared)
        out = stage.propagate(own, sender_feats, shared, env)
        records.append(_Record(own, gather_feats, prepared, sender_feats, shared, out))
        if out.node_feats is not None:
            node_feats = out.node_feats
    return Forward(vectors, edge_feats, records)


def _alias(value: Tensor) -> Tensor:
    """The same values as a tensor that can be differentiated with respect to, apart from its other uses."""
    return value.view_as(value) if value.requires_grad else value


def sweep(forward: Forward, env: Environments, directions: Tensor | None, energy: bool, create_graph: bool) -> Cotangents:
    """Walk the stages from last to first and collect the cotangents of the edge vectors.

    Args:
        forward: The evaluated stages.
        env: The atomic environments.
        directions: Directions of the polarization, of shape (n_directions, 3); None leaves it out.
        energy: Whether to differentiate the energy.
        create_graph: Whether the result can be differentiated again.
    """
    axes = [] if directions is None else list(range(directions.shape[0]))
    channels: list[Channel] = [*axes]
    if axes and any(sources.charges is not None for sources in forward.sources()):
        channels.insert(0, "charge")
    if energy:
        channels.append("energy")
    walk = _Sweep(forward, env, directions, channels, create_graph)
    for record in reversed(forward.records):
        walk.step(record)
    found = walk.edge_cotangents()
    return Cotangents(found.get("charge"), [found.get(axis) for axis in axes], found.get("energy"))


Channel = str | int
"""A channel of the sweep: "charge", "energy", or the number of a direction."""


class _Sweep:
    """The running cotangents of each channel."""

    def __init__(
        self, forward: Forward, env: Environments, directions: Tensor | None, channels: list[Channel], create_graph: bool
    ) -> None:
        self.forward, self.env, self.create_graph = forward, env, create_graph
        self.directions, self.channels = directions, channels
        self.arms = None if directions is None else (env.vectors @ directions.T).unbind(1)
        self.node: dict[Channel, Tensor | None] = {}
        self.edges: dict[Channel, list[Tensor | None]] = {}

    def step(self, record: _Record) -> None:
        """Pull every channel back through one stage."""
        first = record is self.forward.records[0]  # Features before the first stage do not depend on positions.
        own: dict[Channel, Tensor | None] = {}
        at_senders: dict[Channel, Tensor | None] = {}
        part = record.out.edge_part
        at_messages: dict[Channel, Tensor] = {}
        for channel in self.channels:
            seeds = self._seeds(record, channel)
            inputs = [] if first else [record.node_feats]
            inputs += [part.messages] if part else [*([] if first else [record.sender_feats]), *record.edge_feats]
            pulled = self._pull(seeds, inputs)
            own[channel] = None if first else pulled.pop(0)
            if part is None:
                at_senders[channel] = None if first else pulled.pop(0)
                self._collect(channel, pulled)
            elif pulled[0] is not None:
                at_messages[channel] = pulled[0]
        if part is not None and at_messages:
            senders, edges = part.pull(list(at_messages.values()), not first)
            for channel, at_sender, at_edges in zip(at_messages, senders, edges, strict=True):
                at_senders[channel] = at_sender
                self._collect(channel, at_edges)
        for channel in () if first else self.channels:
            moment = self._with_arm(channel, at_senders.get(channel), at_senders.get("charge"))
            self.node[channel] = _add(own[channel], self._to_nodes(record, moment))

    def _with_arm(self, channel: Channel, moment: Tensor | None, charge: Tensor | None) -> Tensor | None:
        """What a direction's channel picks up from the charge's across the edge."""
        if not isinstance(channel, int) or charge is None or self.arms is None:
            return moment
        arm = self.arms[channel].unsqueeze(1)
        return charge * arm if moment is None else torch.addcmul(moment, charge, arm)

    def _seeds(self, record: _Record, channel: Channel) -> list[tuple[Tensor, Tensor]]:
        seeds = []
        cotangent, out, sources = self.node.get(channel), record.out.node_feats, record.out.sources
        if cotangent is not None:
            # A stage without new features hands the cotangent of its successors on to its own input.
            seeds.append((record.node_feats if out is None else out, cotangent))
        if channel == "charge" and sources.charges is not None:
            seeds.append((sources.charges, torch.ones_like(sources.charges)))
        elif channel == "energy" and sources.energies is not None:
            seeds.append((sources.energies, torch.ones_like(sources.energies)))
        elif isinstance(channel, int) and sources.dipoles is not None and self.directions is not None:
            seeds.append((sources.dipoles, self.directions[channel].expand_as(sources.dipoles)))
        return [(output, seed) for output, seed in seeds if output.requires_grad]

    def _pull(self, seeds: list[tuple[Tensor, Tensor]], inputs: list[Tensor]) -> list[Tensor | None]:
        places = [place for place, value in enumerate(inputs) if value.requires_grad]
        pulled: list[Tensor | None] = [None] * len(inputs)
        if seeds and places:
            outputs, cotangents = zip(*seeds, strict=True)
            found = torch.autograd.grad(
                outputs, [inputs[place] for place in places], cotangents, retain_graph=True,
                create_graph=self.create_graph, allow_unused=True)
            for place, value in zip(places, found, strict=True):
                pulled[place] = value
        return pulled

    def _to_nodes(self, record: _Record, at_senders: Tensor | None) -> Tensor | None:
        if at_senders is None:
            return None
        return self._pull([(record.prepared, self.env.sum_gathered(at_senders))], [record.gather_feats])[0]

    def _collect(self, channel: Channel, values: list[Tensor | None]) -> None:
        held = self.edges.setdefault(channel, [None] * len(values))
        self.edges[channel] = [_add(old, new) for old, new in zip(held, values, strict=True)]

    def edge_cotangents(self) -> dict[Channel, Tensor | None]:
        """The cotangent of the edge vectors in each channel, all stages together."""
        found = {}
        for channel, held in self.edges.items():
            pairs = zip(self.forward.edge_feats, held, strict=True)
            seeds = [(feats, value) for feats, value in pairs if value is not None and feats.requires_grad]
            found[channel] = self._pull(seeds, [self.forward.vectors])[0]
        return found


def _add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def assemble_response(cotangents: Cotangents, env: Environments, directions: Tensor) -> Tensor:
    """Sum the edge cotangents into dP_a/dr_j, without the charge on the diagonal.

    Returns:
        Of shape (n_atoms, n_directions, 3), in e, atoms in sorted order.
    """
    n_directions = directions.shape[0]
    zero = env.vectors.new_zeros(env.vectors.shape)
    moments = torch.stack([zero if value is None else value for value in cotangents.moments], dim=1)
    at_senders = moments
    if cotangents.charge is not None:
        at_senders = moments + (env.vectors @ directions.T).unsqueeze(2) * cotangents.charge.unsqueeze(1)
    total = env.sum_over_slots(moments) - env.sum_over_senders(at_senders)
    return total.view(env.n_atoms, n_directions, 3)


def assemble_forces(cotangent: Tensor | None, env: Environments) -> tuple[Tensor, Tensor]:
    """Forces (n_atoms, 3) in eV/Å, sorted, and virials sum d (x) dE/dd (n_frames, 3, 3) in eV, from the edge cotangents."""
    if cotangent is None:
        cotangent = torch.zeros_like(env.vectors)
    forces = env.sum_over_senders(cotangent) - env.sum_over_slots(cotangent)
    virial = torch.einsum("nsa,nsb->nab", env.vectors.view(env.n_atoms, -1, 3), cotangent.view(env.n_atoms, -1, 3))
    return forces, env.sum_over_frames(virial)
