"""A model: a backbone, its heads, and the properties they give together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor

from bec_mace.config import ModelConfig
from bec_mace.data.graph import Graph
from bec_mace.data.statistics import Statistics
from bec_mace.errors import ModelError
from bec_mace.models.backbone import Backbone, EdgeFeatures, component_slices
from bec_mace.models.environments import Environments, build_environments
from bec_mace.models.heads import HEADS, Features, Head
from bec_mace.models.heads.energy import EnergyHead
from bec_mace.models.response import (
    Forward,
    Sources,
    StageOutput,
    assemble_forces,
    assemble_response,
    evaluate_stages,
    sweep,
)

_DERIVATIVES = frozenset({"born_effective_charges", "forces", "stress"})


class LayerStage:
    """A layer of the backbone with the readouts of the active heads: one stage of the engine."""

    def __init__(self, model: PolarizationModel, number: int, heads: Sequence[Head], frozen: bool) -> None:
        self.layer: Any = model.backbone.layers[number]
        self.number, self.heads, self.frozen = number, heads, frozen

    def prepare(self, node_feats: Tensor) -> Tensor:
        """What neighbours gather."""
        return self.layer.prepare(node_feats)

    def propagate(
        self, node_feats: Tensor, sender_feats: Tensor, edge_feats: Sequence[Tensor], env: Environments
    ) -> StageOutput:
        """New features and what the heads read from them."""
        edges = EdgeFeatures(*edge_feats)
        part = self.layer.messages(sender_feats, edges, env, self.frozen)
        out = self.layer.update(node_feats, part.messages, env, self.frozen)
        shares = [head.read(self.number, out, env) for head in self.heads]
        sources = Sources(*(_total([getattr(share, name) for share in shares])
                            for name in ("charges", "dipoles", "energies")))
        return StageOutput(out, sources, part)


def _total(values: Sequence[Tensor | None]) -> Tensor | None:
    present = [value for value in values if value is not None]
    return sum(present[1:], present[0]) if present else None


@dataclass
class _State:
    """What one evaluation of the stages left behind, atoms in sorted order."""

    env: Environments
    graph: Graph
    forward: Forward
    heads: list[Head]

    def total(self, name: str) -> Tensor | None:
        return _total([getattr(sources, name) for sources in self.forward.sources()])


class PolarizationModel(torch.nn.Module):
    """Born effective charges, charges, dipoles, energies and forces from one backbone.

    Args:
        config: Sizes of the network and its heads.
        elements: Atomic numbers the model knows, ascending.
        statistics: Means of the training set.

    Attributes:
        config: As given.
        elements: As given.
        heads: The heads by name.
        provides: Names of the properties that can be asked for.
        metadata: What is stored beside the weights in a checkpoint.
    """

    reference_charges: Tensor

    def __init__(self, config: ModelConfig, elements: Sequence[int], statistics: Statistics) -> None:
        super().__init__()
        self.config, self.elements = config, [int(z) for z in elements]
        self.statistics = statistics
        self.metadata: dict[str, Any] = {}
        self.backbone = Backbone(config, len(self.elements), statistics.avg_num_neighbors)
        irreps = self.backbone.hidden_irreps
        features = Features(
            n_layers=config.num_interactions,
            n_channels=self.backbone.n_channels,
            components={str(ir): place for (_, ir), place in zip(irreps, component_slices(irreps), strict=True)},
            n_radial=config.num_radial,
            readout_mlp=tuple(config.readout_mlp),
            elements=tuple(self.elements),
            reference_energies=tuple(statistics.reference_energies.get(z, 0.0) for z in self.elements),
            energy_scale=statistics.rms_forces or 1.0,
        )
        heads = {name: _build_head(name, features, options) for name, options in config.head_options.items()}
        self.heads: Any = torch.nn.ModuleDict(heads)
        polar = [name for name in self.heads if name != "energy"]
        charges = torch.tensor([statistics.reference_charges.get(z, 0.0) for z in self.elements])
        if config.reference_charges and polar:
            self.reference_charges = torch.nn.Parameter(charges)
        else:
            self.register_buffer("reference_charges", torch.zeros_like(charges))
        lookup = torch.full((len(chemical_symbols),), -1, dtype=torch.int64)
        lookup[torch.tensor(self.elements)] = torch.arange(len(self.elements))
        self.register_buffer("_species_of_number", lookup, persistent=False)
        rule = config.acoustic_sum_rule
        self.projects = rule == "project" or (rule is None and not {"monopole", "direct"}.isdisjoint(polar))
        self.provides = frozenset[str]().union(*(head.provides for head in heads.values()))
        if polar:
            self.provides |= {"head_contributions"}

    @property
    def r_max(self) -> float:
        """Cutoff radius, in Å."""
        return self.config.r_max

    def forward(
        self,
        graph: Graph,
        properties: Collection[str] = ("born_effective_charges",),
        create_graph: bool = False,
        directions: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute properties of all frames of a batch.

        Args:
            graph: The batch.
            properties: Names of properties; :attr:`provides` lists what can be asked for.
            create_graph: Whether the result can be differentiated, for training.
            directions: Contract the polarization with these, of shape (n_directions, 3), instead of x, y, z.

        Returns:
            ``born_effective_charges`` (n_atoms, 3, 3) in e with the polarization first, or (n_atoms, n_directions, 3);
            ``charges`` (n_atoms,) in e; ``dipole`` and ``polarization`` (n_frames, 3) in e Å; ``energy`` (n_frames,) in
            eV; ``forces`` (n_atoms, 3) in eV/Å; ``stress`` (n_frames, 3, 3) in eV/Å^3; ``head_contributions`` a dict of
            Z* from each head alone.

        Raises:
            ModelError: An element the model has not seen, or a property that its heads do not give.
        """
        wanted = set(properties)
        self._check_properties(wanted)
        species = self._species(graph)
        env = build_environments(graph, species, len(self.elements), self.r_max)
        with torch.set_grad_enabled(create_graph or bool(wanted & (_DERIVATIVES | {"head_contributions"}))):
            out = self._compute(graph, env, wanted, create_graph, directions)
        return out if create_graph else {name: _detach(value) for name, value in out.items()}

    def _compute(
        self, graph: Graph, env: Environments, wanted: set[str], create_graph: bool, directions: Tensor | None
    ) -> dict[str, Tensor]:
        state = self._evaluate(graph, env, list(self.heads.values()), bool(wanted & _DERIVATIVES), not create_graph)
        out: dict[str, Any] = {}
        axes = torch.eye(3, dtype=env.vectors.dtype, device=env.vectors.device) if directions is None else directions
        response = axes if "born_effective_charges" in wanted else None
        cotangents = sweep(state.forward, env, response, bool(wanted & {"forces", "stress"}), create_graph)
        if response is not None:
            out["born_effective_charges"] = env.unsort(self._response(state, assemble_response(cotangents, env, axes), axes))
        if wanted & {"forces", "stress"}:
            forces, virial = assemble_forces(cotangents.energy, env)
            out["forces"] = env.unsort(forces)
            if "stress" in wanted:
                out["stress"] = _stress(virial, graph)
        if "energy" in wanted:
            out["energy"] = self._energy(state)
        if wanted & {"charges", "dipole", "polarization"}:
            charges = self._charges(state)
            out["charges"] = env.unsort(charges)
            if wanted & {"dipole", "polarization"}:
                out["dipole"] = out["polarization"] = self._dipole(state)
        if "head_contributions" in wanted:
            out["head_contributions"] = self._head_contributions(graph, env, axes, create_graph)
        return {name: out[name] for name in wanted}

    def _evaluate(
        self, graph: Graph, env: Environments, heads: list[Head], derivatives: bool, frozen: bool
    ) -> _State:
        stages: list[Any] = [LayerStage(self, number, heads, frozen) for number in range(len(self.backbone.layers))]
        stages += [stage for head in heads if (stage := head.stage()) is not None]
        node_feats = self.backbone.embed_nodes(env)
        forward = evaluate_stages(
            stages, node_feats, env, self.backbone.embed_edges, derivatives)
        return _State(env, graph, forward, heads)

    def _references(self, env: Environments) -> Tensor:
        """Reference charges of the atoms, made to sum to zero in each frame."""
        return _subtract_mean(self.reference_charges.to(env.vectors.dtype)[env.species], env)

    def _response(self, state: _State, response: Tensor, axes: Tensor, references: bool = True) -> Tensor:
        """Z*, of shape (n_atoms, n_directions, 3): redistribution, charges on the diagonal, direct tensors, sum rule."""
        env = state.env
        charges = state.total("charges")
        diagonal = self._references(env) if references else torch.zeros_like(env.vectors[: env.n_atoms, 0])
        if charges is not None:
            diagonal = diagonal + charges
        response = response + diagonal.view(-1, 1, 1) * axes
        for head in state.heads:
            tensors = head.tensors(state.forward.node_feats())
            if tensors is not None:
                response = response + axes @ tensors
        if self.projects:
            response = _subtract_mean(response, env)
        return response

    def _charges(self, state: _State) -> Tensor:
        """Charges of the monopole and charge-transfer heads and the references, in e."""
        charges = self._references(state.env)
        for part in (state.total("charges"), state.total("transferred")):
            if part is not None:
                charges = charges + part
        return _subtract_mean(charges, state.env) if self.projects else charges

    def _dipole(self, state: _State) -> Tensor:
        """Polarization of the frames at the positions given, of shape (n_frames, 3), in e Å."""
        env = state.env
        monopoles = self._references(env)
        charges = state.total("charges")
        if charges is not None:
            monopoles = monopoles + charges
        monopoles = _subtract_mean(monopoles, env) if self.projects else monopoles
        density = monopoles.unsqueeze(1) * state.graph.positions[env.order]
        dipoles = state.total("dipoles")
        return env.sum_over_frames(density if dipoles is None else density + dipoles)

    def _energy(self, state: _State) -> Tensor:
        """Total energies, of shape (n_frames,), in eV; the sum is done in float64."""
        energies = state.total("energies")
        head = self.heads["energy"]
        if energies is None or not isinstance(head, EnergyHead):
            raise ModelError("this model has no energy head; add 'energy' to model.heads and train it.")
        return state.env.sum_over_frames(energies.double() + head.references(state.env.species))

    def _head_contributions(
        self, graph: Graph, env: Environments, axes: Tensor, create_graph: bool
    ) -> dict[str, Tensor]:
        """Z* of each head alone, the sum rule applied to each; "reference" holds the reference charges."""
        parts = {}
        for name, head in self.heads.items():
            if name == "energy":
                continue
            state = self._evaluate(graph, env, [head], True, not create_graph)
            cotangents = sweep(state.forward, env, axes, False, create_graph)
            parts[name] = env.unsort(self._response(state, assemble_response(cotangents, env, axes), axes, references=False))
        parts["reference"] = env.unsort(self._references(env).view(-1, 1, 1) * axes)
        return parts

    def _species(self, graph: Graph) -> Tensor:
        lookup: Tensor = self.get_buffer("_species_of_number")
        species = lookup[graph.atomic_numbers]
        if bool((species < 0).any()):
            unknown = sorted(set(graph.atomic_numbers[species < 0].tolist()))
            raise ModelError(
                f"the model has not seen {', '.join(chemical_symbols[z] for z in unknown)}; it knows "
                f"{', '.join(chemical_symbols[z] for z in self.elements)}. Train on structures that hold the element.")
        return species

    def _check_properties(self, wanted: set[str]) -> None:
        missing = sorted(wanted - self.provides)
        if missing:
            raise ModelError(
                f"the model does not give {', '.join(missing)}: its heads ({', '.join(self.heads)}) give "
                f"{', '.join(sorted(self.provides))}.")


def _subtract_mean(values: Tensor, env: Environments) -> Tensor:
    """Subtract from each atom's value the mean over its frame."""
    total = env.sum_over_frames(values)
    count = torch.bincount(env.frame_index, minlength=env.n_frames).to(values.dtype)
    mean = total / count.view(-1, *[1] * (values.dim() - 1))
    return values - mean[env.frame_index]


def _stress(virial: Tensor, graph: Graph) -> Tensor:
    volume = torch.linalg.det(graph.cell).abs()
    if bool((volume == 0).any()) or not bool(graph.pbc.all()):
        raise ModelError("stress is asked for a frame that is not periodic in three directions; leave it out.")
    return 0.5 * (virial + virial.transpose(1, 2)) / volume.view(-1, 1, 1)


def _detach(value: Any) -> Any:
    return {name: part.detach() for name, part in value.items()} if isinstance(value, dict) else value.detach()


def _build_head(name: str, features: Features, options: dict[str, Any]) -> Head:
    try:
        return HEADS[name](features, **options)
    except TypeError as exc:
        raise ModelError(f"model.heads: the options of '{name}' do not fit ({exc}); remove the ones it does not know.") from exc


def build_model(
    config: ModelConfig, elements: Sequence[int], statistics: Statistics, dtype: torch.dtype = torch.float32
) -> PolarizationModel:
    """Build a model with fresh weights, drawn from torch's global random numbers.

    Args:
        config: Sizes of the network and its heads.
        elements: Atomic numbers.
        statistics: Means of the training set.
        dtype: Floating-point type of weights and computation.
    """
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = PolarizationModel(config, sorted(set(elements)), statistics)
    finally:
        torch.set_default_dtype(previous)
    return model.to(dtype)
