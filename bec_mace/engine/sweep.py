r"""The exact engine: derivatives of energy and polarization in one sweep from the last layer to the first.

Let g be the cotangent of the total charge for some node feature h of atom j, and G its first moment along a direction,

.. math:: g = \sum_i \partial q_i / \partial h_{j'}, \qquad
          G_a = \sum_i (r_i - r_{j'})_a \, \partial q_i / \partial h_{j'} .

Inside a node both are pulled back by the ordinary vector-Jacobian product. Across an edge, from sender s' to receiver r
with d = r_r - r_s', the pair picks up the arm,

.. math:: g_s \mathrel{+}= J^T g_r, \qquad G_{s,a} \mathrel{+}= J^T G_{r,a} + d_a \, J^T g_r ,

and the edge vector's cotangents c = J_d^T g and C_a = J_d^T G_a give +C_a to the receiver and -(C_a + d_a c) to the sender.
Dipoles, charge flows and energies are functions of edge vectors alone: they start in the channel G_a, or in a channel of
their own, and need no arm. The engine knows nothing of the network but the contract of
:class:`~bec_mace.engine.contract.Stage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from bec_mace.engine.assembly import Cotangents, assemble_forces, assemble_response, with_response, with_term
from bec_mace.engine.contract import (
    EdgeCotangents,
    EdgeFeatures,
    Edges,
    Evaluation,
    Hops,
    Seeds,
    Sources,
    Stage,
    StageOutput,
    Term,
)
from bec_mace.engine.environments import Environments
from bec_mace.engine.static_sources import edge_ends, static_starts
from bec_mace.errors import ModelError


@dataclass
class Record:
    """The graph of one stage, cut at the gather.

    Attributes:
        node_feats: What the stage read of the atoms themselves.
        sender_feats: What it gathered.
        edge_feats: Functions of the edge vectors.
        out: What it gave.
        first: Whether its features do not depend on positions yet.
    """

    node_feats: Tensor
    sender_feats: Tensor
    edge_feats: EdgeFeatures
    out: StageOutput
    first: bool


@dataclass
class _Gather:
    """Where the gather of a stage comes from."""

    node_feats: Tensor
    prepared: Tensor


@dataclass
class Forward:
    """All stages evaluated, with what the sweep needs.

    Attributes:
        vectors: The edge vectors that the stages saw.
        edge_feats: Functions of them that all stages share.
        node_feats: Features after the last stage that changed them.
        records: The graph of each stage.
        gathers: What each stage gathered from.
    """

    vectors: Tensor
    edge_feats: EdgeFeatures
    node_feats: Tensor
    records: list[Record] = field(default_factory=list)
    gathers: list[_Gather] = field(default_factory=list)

    def sources(self) -> list[Sources]:
        """The sources of each stage."""
        return [record.out.sources for record in self.records]


def evaluate(
    hops: Hops[Edges],
    env: Environments,
    directions: Tensor | None,
    energy: bool,
    create_graph: bool = False,
    term: Term | None = None,
) -> Evaluation:
    """Evaluate a model with all edges in memory.

    Args:
        hops: The model.
        env: The atomic environments.
        directions: Directions of the polarization to respond along, of shape (n_directions, 3); None leaves it out.
        energy: Whether to differentiate the energy.
        create_graph: Whether the result can be differentiated again.
        term: What is made of the sources of all atoms.
    """
    forward = evaluate_stages(hops.stages, hops.node_feats, env, hops.embed_edges, directions is not None or energy)
    made = None if term is None else term(env, forward.sources(), directions, energy, create_graph)
    cotangents = sweep(forward, env, directions, energy, create_graph, Seeds() if made is None else made.seeds)
    response = None if directions is None else with_response(assemble_response(cotangents, env, directions), made)
    forces, virial = with_term(*assemble_forces(cotangents.energy, env), made) if energy else (None, None)
    return Evaluation(env, forward.sources(), forward.node_feats, response, forces, virial, made)


def evaluate_stages(
    stages: Sequence[Stage[Edges]],
    node_feats: Tensor,
    env: Environments,
    embed_edges: Callable[[Tensor, Environments], Edges],
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
    edge_feats = embed_edges(vectors, env)
    forward, first = Forward(vectors, edge_feats, node_feats), True
    for stage in stages:
        own, gather_feats = _alias(forward.node_feats), _alias(forward.node_feats)
        shared = edge_feats.map(_alias)
        prepared = stage.prepare(gather_feats)
        sender_feats = env.gather(prepared)
        out = stage.propagate(own, sender_feats, shared, env)
        sources = _summed(out.sources, vectors, env)
        forward.records.append(Record(own, sender_feats, shared, replace(out, sources=sources), first))
        forward.gathers.append(_Gather(gather_feats, prepared))
        if out.node_feats is not None:
            forward.node_feats, first = out.node_feats, False
    return forward


def _alias(value: Tensor) -> Tensor:
    """The same values as a tensor that can be differentiated with respect to, apart from its other uses."""
    return value.view_as(value) if value.requires_grad else value


def _summed(sources: Sources, vectors: Tensor, env: Environments) -> Sources:
    """With what the flows bring each atom."""
    if sources.flow is not None:
        flow = sources.flow
        sources = replace(sources, transferred=env.sum_over_slots(flow) - env.sum_over_senders(flow))
    if sources.static_flow is not None:
        flow = sources.static_flow
        moments = 0.5 * flow.unsqueeze(1) * vectors
        sources = replace(
            sources,
            static_transferred=env.sum_over_slots(flow) - env.sum_over_senders(flow),
            static_moments=env.sum_over_slots(moments) + env.sum_over_senders(moments),
        )
    if sources.conductances is not None:
        sources = replace(sources, edge_ends=edge_ends(env, 0))
    return sources


Channel = str | int
"""A channel of the sweep: "charge", "energy", or the number of a direction."""


def sweep(
    forward: Forward,
    env: Environments,
    directions: Tensor | None,
    energy: bool,
    create_graph: bool,
    seeds: Seeds | None = None,
) -> Cotangents:
    """Walk the stages from last to first and collect the cotangents of the edge vectors.

    Args:
        forward: The evaluated stages.
        env: The atomic environments.
        directions: Directions of the polarization, of shape (n_directions, 3); None leaves it out.
        energy: Whether to differentiate the energy.
        create_graph: Whether the result can be differentiated again.
        seeds: Cotangents of the static sources.
    """
    puller = Puller(directions, energy, create_graph, seeds)
    node: dict[Channel, Tensor | None] = {}
    edges: dict[Channel, EdgeCotangents] = {}
    for record, gather in zip(reversed(forward.records), reversed(forward.gathers), strict=True):
        pulled = puller.step(record, env, node)
        for channel, values in pulled.edges.items():
            edges[channel] = _add_by_name(edges.get(channel, {}), values)
        node = {} if record.first else pulled.own
        for channel, moment in _at_senders(pulled, env, directions):
            node[channel] = _add(node[channel], puller.pull([(gather.prepared, moment)], [gather.node_feats])[0])
    return puller.cotangents(forward.edge_feats, edges, forward.vectors)


def _at_senders(pulled: Pulled, env: Environments, directions: Tensor | None) -> Iterator[tuple[Channel, Tensor]]:
    """Sum the cotangents of the gathered features; where every edge knows its reverse, all arms come in with one product."""
    charge, reverse = pulled.senders.get("charge"), env.reverse
    if charge is None or reverse is None or directions is None:
        for channel, moment in pulled.moments():
            yield channel, env.sum_gathered(moment)
        return
    plain, *armed = env.sum_with_arms(charge, reverse, directions).unbind(0)
    yield "charge", plain
    for channel in pulled.own:
        value = pulled.senders.get(channel) if channel != "charge" else None
        total = None if value is None else env.sum_gathered(value)
        total = _add(total, armed[channel]) if isinstance(channel, int) else total
        if total is not None:
            yield channel, total


@dataclass
class Pulled:
    """Cotangents of what one stage read, by channel.

    Attributes:
        own: Of the atoms' own features; empty for features that do not depend on positions.
        senders: Of the gathered features, without the arm.
        edges: Of the functions of the edge vectors.
        arms: The arm along each direction, where the charge's channel is there.
    """

    own: dict[Channel, Tensor | None] = field(default_factory=dict)
    senders: dict[Channel, Tensor | None] = field(default_factory=dict)
    edges: dict[Channel, EdgeCotangents] = field(default_factory=dict)
    arms: list[Tensor] = field(default_factory=list)

    def moments(self) -> Iterator[tuple[Channel, Tensor]]:
        """Cotangents of the gathered features with what the directions pick up across the edge, one at a time."""
        charge = self.senders.get("charge")
        for channel in self.own:
            value = self.senders.get(channel)
            if isinstance(channel, int) and charge is not None and self.arms:
                arm = self.arms[channel].unsqueeze(1)
                value = charge * arm if value is None else torch.addcmul(value, charge, arm)
            if value is not None:
                yield channel, value


class Puller:
    """Pulls the cotangents of all channels back through the graph of a stage.

    Args:
        directions: Directions of the polarization, of shape (n_directions, 3); None leaves it out.
        energy: Whether to differentiate the energy.
        create_graph: Whether the result can be differentiated again.
        seeds: Cotangents of the static sources of all atoms.
    """

    def __init__(self, directions: Tensor | None, energy: bool, create_graph: bool, seeds: Seeds | None = None) -> None:
        self.directions, self.create_graph, self.seeds = directions, create_graph, seeds or Seeds()
        self.axes = [] if directions is None else list(range(directions.shape[0]))
        self.channels: list[Channel] = ["charge", *self.axes] if self.axes else []
        if energy:
            self.channels.append("energy")

    def step(
        self,
        record: Record,
        env: Environments,
        node: Mapping[Channel, Tensor | None],
        rows: slice = slice(None),
        edges: slice = slice(None),
    ) -> Pulled:
        """From cotangents of the features that a stage gave, ``node``, to those of all that it read.

        ``rows`` are its atoms among all, and ``edges`` its edges.
        """
        first, part = record.first, record.out.edge_part
        out = Pulled()
        at_messages: dict[Channel, Tensor] = {}
        for channel in self.channels:
            seeds, has_sources = self._seeds(record, channel, node.get(channel), env, (rows, edges))
            features = record.edge_feats.named()
            own, at_edge_work, *at_edges = self.pull(
                seeds,
                [
                    None if first else record.node_feats,
                    part.messages if part else None if first else record.sender_feats,
                    *features.values(),
                ],
            )
            if has_sources and all(value is None for value in (own, at_edge_work, *at_edges)):
                raise _no_path(channel)
            out.edges[channel] = dict(zip(features, at_edges, strict=True))
            if not first:
                out.own[channel] = own
            if part is None:
                out.senders[channel] = at_edge_work
            elif at_edge_work is not None:
                at_messages[channel] = at_edge_work
        if part is not None and at_messages:
            senders, at_edges_by_name = part.pull(list(at_messages.values()), not first)
            for channel, at_sender, by_name in zip(at_messages, senders, at_edges_by_name, strict=True):
                out.senders[channel] = at_sender
                out.edges[channel] = _add_by_name(out.edges[channel], by_name)
        if not first and self.directions is not None and out.senders.get("charge") is not None:
            out.arms = list((env.vectors @ self.directions.T).unbind(1))
        return out

    def _seeds(
        self, record: Record, channel: Channel, cotangent: Tensor | None, env: Environments, places: tuple[slice, slice]
    ) -> tuple[list[tuple[Tensor, Tensor]], bool]:
        """What the sweep starts from or goes on with, and whether sources of this stage must respond."""
        seeds, starts = [], []
        out, sources = record.out.node_feats, record.out.sources
        if cotangent is not None:
            # A stage without new features hands the cotangent of its successors on to its own input.
            seeds.append((record.node_feats if out is None else out, cotangent))
        if channel == "charge" and sources.charges is not None:
            starts.append((sources.charges, torch.ones_like(sources.charges)))
        elif channel == "energy" and sources.energies is not None:
            starts.append((sources.energies, torch.ones_like(sources.energies)))
        elif isinstance(channel, int) and sources.dipoles is not None and self.directions is not None:
            starts.append((sources.dipoles, self.directions[channel].expand_as(sources.dipoles)))
        vectors, armed = record.edge_feats.vectors, None
        if isinstance(channel, int) and self.directions is not None and "static_transferred" in self.seeds.charge:
            armed = (self.seeds.charge["static_transferred"], self.directions[channel])
        starts += static_starts(sources, self.seeds.of(channel), vectors, env, *places, armed)
        responds = bool(starts) and not sources.constant
        if responds and not starts[0][0].requires_grad:
            raise _no_path(channel)
        return [(output, seed) for output, seed in (*seeds, *starts) if output.requires_grad], responds

    def pull(self, seeds: list[tuple[Tensor, Tensor]], inputs: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The vector-Jacobian product of pairs of outputs and cotangents, for each input; None where there is none."""
        wanted = [(place, value) for place, value in enumerate(inputs) if value is not None and value.requires_grad]
        pulled: list[Tensor | None] = [None] * len(inputs)
        if seeds and wanted:
            outputs, cotangents = zip(*seeds, strict=True)
            gradients = torch.autograd.grad(
                outputs,
                [value for _, value in wanted],
                cotangents,
                retain_graph=True,
                create_graph=self.create_graph,
                allow_unused=True,
            )
            for (place, _), value in zip(wanted, gradients, strict=True):
                pulled[place] = value
        return pulled

    def cotangents(self, edge_feats: EdgeFeatures, held: Mapping[Channel, EdgeCotangents], vectors: Tensor) -> Cotangents:
        """Those of the edge vectors, from those of the functions of them."""
        pulled = {}
        for channel, values in held.items():
            seeds = [
                (feats, value)
                for name, feats in edge_feats.named().items()
                if (value := values.get(name)) is not None and feats.requires_grad
            ]
            pulled[channel] = self.pull(seeds, [vectors])[0]
        return Cotangents(pulled.get("charge"), [pulled.get(axis) for axis in self.axes], pulled.get("energy"))


def _no_path(channel: Channel) -> ModelError:
    kind = {"charge": "charges", "energy": "energies"}.get(str(channel), "dipoles")
    return ModelError(
        f"the derivative of the {kind} of a stage was asked for, but nothing leads from them to the edge vectors, so it would "
        "be zero without a word. Do not detach them; sources that are meant to be constant say `Sources(..., constant=True)`."
    )


def _add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _add_by_name(held: EdgeCotangents, more: EdgeCotangents) -> EdgeCotangents:
    return {name: _add(held.get(name), more.get(name)) for name in {**held, **more}}
