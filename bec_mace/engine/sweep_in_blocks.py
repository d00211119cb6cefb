"""The engine for systems of any size: node features in memory, edges in blocks of atoms.

A stage is a sum over the neighbours of each atom, so it can be evaluated for some atoms at a time, with all their neighbours.
Forward, only features and sources are kept. Backward, the edges of a block are made again, with the graph of the stage; their
cotangents go to the features of receivers and senders and to the response at once, so that nothing is kept for each edge. The
last stage is pulled back in the same pass that evaluates it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bec_mace.engine.assembly import Cotangents, ends_of_response, virial_of, with_response, with_term
from bec_mace.engine.contract import OF_ATOMS, Evaluation, Hops, Sources, StageOutput, Term, TermOutput
from bec_mace.engine.environments import Blocks, Environments
from bec_mace.engine.static_sources import edge_ends
from bec_mace.engine.sweep import Channel, Pulled, Puller, Record


def evaluate_in_blocks(
    hops: Hops[Any], blocks: Blocks, directions: Tensor | None, energy: bool, term: Term | None = None
) -> Evaluation:
    """Evaluate a model with the edges of one block of atoms in memory; see :func:`~bec_mace.engine.sweep.evaluate`.

    Args:
        hops: The model.
        blocks: The atoms and their environments, block by block.
        directions: Directions of the polarization to respond along, of shape (n_directions, 3); None leaves it out.
        energy: Whether to differentiate the energy.
        term: What is made of the sources of all atoms; it has to see those of the last stage before any is pulled back.
    """
    walk = _Walk(hops, blocks, directions, energy)
    numbers = range(len(hops.stages))
    with torch.no_grad():
        at_once = walk.differentiates and term is None
        for number in numbers:
            walk.step(number, forward=True, backward=at_once and number == numbers[-1])
        if term is not None:
            walk.take_up(term(blocks, walk.sources(), directions, energy, False))
        for number in reversed(numbers[:-1] if at_once else numbers) if walk.differentiates else ():
            walk.step(number, forward=False, backward=True)
    return walk.evaluation()


@dataclass
class _Reading:
    """What a stage reads, and the cotangents of it by channel.

    Attributes:
        node_feats: Features of all atoms.
        prepared: What is gathered.
        first: Whether the features do not depend on positions.
        own: Cotangents of the features.
        at_senders: Cotangents of what is gathered.
    """

    node_feats: Tensor
    prepared: Tensor
    first: bool
    own: dict[Channel, Tensor]
    at_senders: dict[Channel, Tensor]

    def add(self, atoms: slice, env: Environments, pulled: Pulled) -> None:
        """Add the cotangents of a block: to its own atoms, and to those it gathered from."""
        for channel, value in pulled.own.items():
            _put(self.own, channel, atoms, value, self.node_feats.shape[0])
        for channel, moment in pulled.moments():
            if channel not in self.at_senders:
                self.at_senders[channel] = torch.zeros_like(self.prepared)
            for total, part in zip(self.at_senders[channel].unbind(0), moment.unbind(0), strict=True):
                total.index_add_(0, env.sender, part)


class _Walk:
    """The features and sources of all atoms, and the running cotangents."""

    def __init__(self, hops: Hops[Any], blocks: Blocks, directions: Tensor | None, energy: bool) -> None:
        self.hops, self.blocks, self.directions = hops, blocks, directions
        self.differentiates = directions is not None or energy
        self.puller = Puller(directions, energy, create_graph=False)
        self.node_feats = hops.node_feats.detach()
        self.inputs: list[Tensor] = []
        self.made: list[dict[str, Any]] = []
        self.node: dict[Channel, Tensor] = {}
        like, n_atoms = blocks.positions.new_empty(0, dtype=blocks.dtype), blocks.n_atoms
        self.response = None if directions is None else like.new_zeros((n_atoms, directions.shape[0], 3))
        self.forces = like.new_zeros((n_atoms, 3)) if energy else None
        self.virial = like.new_zeros((blocks.n_frames, 3, 3), dtype=torch.float64) if energy else None
        self.term: TermOutput | None = None
        self.edges_of: dict[int, slice] = {}

    def take_up(self, made: TermOutput) -> None:
        """Start the sweep from what a term gave too."""
        self.term, self.puller.seeds = made, made.seeds

    def sources(self) -> list[Sources]:
        """Those of each stage."""
        return [Sources(**made) for made in map(_joined, self.made)]

    def step(self, number: int, forward: bool, backward: bool) -> None:
        """Take one stage through all blocks."""
        if forward:
            self.inputs.append(self.node_feats)
            self.made.append({})
        node_feats = self.inputs[number]
        reading = _Reading(node_feats, self.hops.stages[number].prepare(node_feats), node_feats is self.inputs[0], {}, {})
        for atoms in self.blocks.ranges():
            self._take(number, reading, atoms, forward, backward)
        if forward:
            self.node_feats = self.made[number].pop("node_feats", node_feats)
        if backward:
            self.node = {} if reading.first else self._at_nodes(number, reading)

    def _take(self, number: int, reading: _Reading, atoms: slice, forward: bool, backward: bool) -> None:
        """Take one stage through one block; what it needs is free again afterwards."""
        env, differentiated = self.blocks.block(atoms), backward and not reading.first
        with torch.set_grad_enabled(backward):
            vectors = env.vectors.requires_grad_(backward)
            edge_feats = self.hops.embed_edges(vectors, env)
            own = reading.node_feats[atoms].requires_grad_(differentiated)
            senders = env.gather(reading.prepared).requires_grad_(differentiated)
            shared = edge_feats.map(lambda value: value.view_as(value))
            out = self.hops.stages[number].propagate(own, senders, shared, env)
        if forward:
            self._keep(self.made[number], atoms, env, out)
        if backward:
            rows = {channel: value[atoms] for channel, value in self.node.items()}
            edges = self.edges_of.get(atoms.start, slice(None))
            pulled = self.puller.step(Record(own, senders, shared, out, reading.first), env, rows, atoms, edges)
            reading.add(atoms, env, pulled)
            self._respond(atoms, env, self.puller.cotangents(edge_feats, pulled.edges, vectors))

    def _keep(self, made: dict[str, Tensor], atoms: slice, env: Environments, out: StageOutput) -> None:
        """Take up the features and sources of a block."""
        sources = out.sources
        for name, value in (
            ("node_feats", out.node_feats),
            ("charges", sources.charges),
            ("dipoles", sources.dipoles),
            ("energies", sources.energies),
            *((name, getattr(sources, name)) for name in OF_ATOMS),
        ):
            _put(made, name, atoms, value, self.blocks.n_atoms)
        if sources.flow is not None:
            self._add_ends(made, "transferred", atoms, env, sources.flow.detach(), -1)
        if sources.static_flow is not None:
            flow = sources.static_flow.detach()
            self._add_ends(made, "static_transferred", atoms, env, flow, -1)
            self._add_ends(made, "static_moments", atoms, env, 0.5 * flow.unsqueeze(1) * env.vectors.detach(), 1)

        if sources.conductances is not None:
            self._keep_edges(made, atoms, env, sources.conductances.detach())

    def _keep_edges(self, made: dict[str, Any], atoms: slice, env: Environments, values: Tensor) -> None:
        """Edges that a term looks at stay, a few numbers each."""
        first = sum(len(block) for block in made.get("conductances", ()))
        self.edges_of[atoms.start] = slice(first, first + len(values))
        made.setdefault("conductances", []).append(values)
        made.setdefault("edge_ends", []).append(edge_ends(env, atoms.start))

    def _add_ends(
        self, made: dict[str, Tensor], name: str, atoms: slice, env: Environments, values: Tensor, at_sender: int
    ) -> None:
        """Add values of the edges of a block to their receivers, and with a sign to their senders."""
        total = made.setdefault(name, values.new_zeros((self.blocks.n_atoms, *values.shape[1:])))
        total[atoms] += env.sum_over_slots(values)
        total.index_add_(0, env.sender, values, alpha=at_sender)

    def _respond(self, atoms: slice, env: Environments, cotangents: Cotangents) -> None:
        """Add what the edges of a block give to the response and the forces of receivers and senders."""
        if self.response is not None and self.directions is not None:
            at_receivers, at_senders = ends_of_response(cotangents, env, self.directions)
            self.response[atoms] += env.sum_over_slots(at_receivers)
            self.response.index_add_(0, env.sender, at_senders, alpha=-1)
        if self.forces is not None and self.virial is not None and cotangents.energy is not None:
            self.forces[atoms] -= env.sum_over_slots(cotangents.energy)
            self.forces.index_add_(0, env.sender, cotangents.energy)
            self.virial += virial_of(cotangents.energy, env)

    def _at_nodes(self, number: int, reading: _Reading) -> dict[Channel, Tensor]:
        """Pull the cotangents of the gathered features through what was gathered, and add those of the own features."""
        with torch.enable_grad():
            node_feats = reading.node_feats.detach().requires_grad_(True)
            prepared = self.hops.stages[number].prepare(node_feats)
        own = reading.own
        for channel in list(reading.at_senders):
            pulled = self.puller.pull([(prepared, reading.at_senders.pop(channel))], [node_feats])[0]
            if pulled is not None:
                own[channel] = own[channel].add_(pulled) if channel in own else pulled
        return own

    def evaluation(self) -> Evaluation:
        """What was found for all atoms."""
        forces, virial = self.forces, self.virial
        if forces is not None and virial is not None:
            forces, virial = with_term(forces, virial, self.term)
            virial = virial.to(self.blocks.dtype)
        response = None if self.response is None else with_response(self.response, self.term)
        return Evaluation(self.blocks, self.sources(), self.node_feats, response, forces, virial, self.term)


def _joined(made: dict[str, Any]) -> dict[str, Any]:
    """What stayed of the edges of each block, as one."""
    if "conductances" not in made:
        return made
    ends = tuple(torch.cat(values) for values in zip(*made["edge_ends"], strict=True))
    return {**made, "conductances": torch.cat(made["conductances"]), "edge_ends": ends}


def _put(held: dict[Any, Tensor], name: Channel, atoms: slice, value: Tensor | None, n_atoms: int) -> None:
    """Write the rows of a block into an array for all atoms."""
    if value is None:
        return
    if name not in held:
        held[name] = value.new_zeros((n_atoms, *value.shape[1:]))
    held[name][atoms] = value.detach()
