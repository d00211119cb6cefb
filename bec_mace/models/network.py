"""A network: a backbone and its heads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor

from bec_mace.config.heads import short_name
from bec_mace.config.model import ModelConfig
from bec_mace.data.graph import Graph
from bec_mace.data.statistics import Statistics
from bec_mace.devices import default_dtype
from bec_mace.engine.autograd import depends_on
from bec_mace.engine.contract import OF_ATOMS, Hops, Sources, Stage, StageOutput
from bec_mace.engine.environments import Blocks, Environments, SortedAtoms
from bec_mace.errors import ModelError
from bec_mace.models.base import PolarizationModel
from bec_mace.models.coulomb_term import Coupled
from bec_mace.models.coupling import StaticCoupling, StaticFlow, as_static, first_charges
from bec_mace.models.footprint import Footprint
from bec_mace.models.heads import Features, Head, head_class
from bec_mace.models.heads.charge_transfer import ChargeTransferHead
from bec_mace.models.heads.energy import EnergyHead
from bec_mace.models.mace.backbone import Backbone
from bec_mace.models.mace.layer import Layer, component_slices
from bec_mace.models.mace.mace_file import MaceFile, read_mace_file
from bec_mace.models.mace.weights import compare_with_mace, copy_weights, exact_weights
from bec_mace.models.radial import RadialFeatures
from bec_mace.models.raman import PolarizabilityTerm, raman_tensors
from bec_mace.models.state import State, total_of

_KINDS = ("charges", "dipoles", "energies", *OF_ATOMS)


class LayerStage:
    """A layer of the backbone with the readouts of the active heads: one stage of the engine."""

    def __init__(self, model: NetworkModel, number: int, heads: Sequence[str], frozen: bool) -> None:
        self.layer: Layer = model.backbone.layer(number)
        self.number, self.frozen = number, frozen
        self.heads: dict[str, Head] = {name: model.heads[name] for name in heads}
        self.coupling = model.electrostatics

    def prepare(self, node_feats: Tensor) -> Tensor:
        """What neighbours gather."""
        return self.layer.prepare(node_feats)

    def propagate(self, node_feats: Tensor, sender_feats: Tensor, edge_feats: RadialFeatures, env: Environments) -> StageOutput:
        """New features and what the heads read from them."""
        part = self.layer.messages(sender_feats, edge_feats, env, self.frozen)
        out = self.layer.update(node_feats, part.messages, env, self.frozen)
        shares = [self._read(name, head, out, env) for name, head in self.heads.items()]
        if self.number == 0:
            shares += [head.read_edges(edge_feats, env) for head in self.heads.values()]
        if self.coupling is not None and self.coupling.readouts is not None:
            shares.append(Sources(screening=self.coupling.readouts(self.number, out)))
        if self.coupling is not None and self.coupling.response is not None:
            shares.append(self.coupling.response.read(self.number, out, env))
        if edge_feats.vectors.requires_grad:
            for share in shares:
                self._check_path(share, out, edge_feats)
        totals: dict[str, Any] = {name: total_of([getattr(share, name) for share in shares]) for name in _KINDS}
        constant = all(share.constant for share in shares if any(getattr(share, name) is not None for name in _KINDS))
        return StageOutput(out, Sources(**totals, constant=constant), part)

    def _read(self, name: str, head: Head, node_feats: Tensor, env: Environments) -> Sources:
        share = head.read(self.number, node_feats, env)
        return as_static(share) if self.coupling is not None and self.coupling.is_static(name) else share

    def _check_path(self, share: Sources, node_feats: Tensor, edge_feats: RadialFeatures) -> None:
        """Each head by itself: one that detaches must not hide behind the others."""
        for name in () if share.constant else _KINDS:
            value = getattr(share, name)
            if value is not None and not depends_on(value, [node_feats, *edge_feats.named().values()]):
                raise ModelError(
                    f"a head gives {name} that do not depend on its features as far as autograd knows, so their response would "
                    "be zero without a word. Do not detach them; for constants return `Sources(..., constant=True)`."
                )


class NetworkModel(PolarizationModel):
    """Sources from the layers of one backbone.

    Args:
        config: Sizes of the network and its heads.
        elements: Atomic numbers the model knows, ascending.
        statistics: Means of the training set.
    """

    def __init__(self, config: ModelConfig, elements: Sequence[int], statistics: Statistics) -> None:
        super().__init__(config, elements, statistics)
        self.backbone = Backbone(config, self.elements, statistics.avg_num_neighbors)
        features = self._features(config, statistics)
        if config.electrostatics is not None:
            self.electrostatics = StaticCoupling(config.electrostatics, features)
            if self.electrostatics.couples:
                self._start_charges(features)
        self._install({short_name(name): _build_head(name, features, options) for name, options in config.head_options.items()})

    def _start_charges(self, features: Features) -> None:
        """Reference charges act through Coulomb's law: what the labels of Z* say of them is screened."""
        if self.config.reference_charges:
            with torch.no_grad():
                self.reference_charges.copy_(torch.tensor(features.reference_charges))

    def _features(self, config: ModelConfig, statistics: Statistics) -> Features:
        """What the heads are told."""
        irreps = self.backbone.hidden_irreps
        sizes = config.backbone.sizes if config.backbone is not None else None
        return Features(
            n_layers=config.num_interactions,
            n_channels=self.backbone.n_channels,
            components={str(ir): place for (_, ir), place in zip(irreps, component_slices(irreps), strict=True)},
            n_radial=config.num_radial,
            readout_mlp=tuple(config.readout_mlp),
            elements=tuple(self.elements),
            reference_energies=tuple(statistics.reference_energies.get(z, 0.0) for z in self.elements),
            shortest_distances=_distance_table(statistics, self.elements) if sizes is None else (),
            energy_scale=(statistics.rms_forces or 1.0) if sizes is None else sizes.scale,
            mace_readouts=None
            if sizes is None
            else tuple(None if widths is None else tuple(widths) for widths in sizes.readouts),
            mace_gate="silu" if sizes is None else sizes.gate,
            mace_zbl=None if sizes is None or sizes.zbl is None else (sizes.zbl.power, sizes.zbl.exponent, sizes.zbl.prefactor),
            reference_charges=first_charges(config, self.elements, statistics.reference_charges),
            r_max=self.backbone.r_max,
            own_references={
                name: tuple(row.get(z, 0.0) for z in self.elements) for name, row in statistics.own_reference_energies.items()
            },
        )

    @property
    def r_max(self) -> float:
        """Cutoff radius, in Å."""
        return self.backbone.r_max

    def footprint(self, properties: Collection[str], blocked: bool) -> Footprint:
        """How many numbers are alive at the peak of an evaluation: what all layers gathered, or one in blocks."""
        lower, last = self.sweep_channels(properties)
        backbone = self.backbone
        n_channels, harmonics = backbone.n_channels, int(backbone.spherical_harmonics.irreps_out.dim)
        layers = [backbone.layer(number).sizes() for number in range(len(backbone.layers))]
        # With all atoms at hand the two ends of an edge share radial weights and slopes.
        weights = 2 if blocked or self.reference_charges.is_cuda else 1
        edges, atoms, pulled = [0.0], [0.0], [0.0]
        for number, size in enumerate(layers):
            channels = last if number == len(layers) - 1 else lower
            edges.append(n_channels * (size.taken + weights * size.paths))
            atoms.append(n_channels * (size.made * harmonics + 2 * (1 + channels) * size.messages + 2 * size.made))
            pulled.append(n_channels * size.taken * (channels + 1) if number and channels else 0.0)
        for head in self.heads.values():
            if isinstance(head, ChargeTransferHead):
                edges.append(12.0 * head.flow.n_hidden)
                pulled.append(5.0 * head.flow.n_hidden * last)
        shared = 10.0 + harmonics + 2 * self.config.num_radial + lower * (harmonics + 5)
        kept = 60.0 + n_channels * (sum(size.taken for size in layers) + 2 * layers[-1].made)
        kept += n_channels * lower * (layers[-1].made + 2 * layers[-1].taken) if len(layers) > 1 else 0.0
        if blocked:
            return Footprint(shared + max(own + more for own, more in zip(edges, pulled, strict=True)), max(atoms), kept)
        return Footprint(shared + sum(edges) + max(pulled), sum(atoms), kept)

    def own_tensors(self) -> dict[str, Tensor]:
        """Parameters, and the buffers that are learned data."""
        buffers = {"reference_charges": self.reference_charges}
        if self.electrostatics is not None:
            buffers |= self.electrostatics.own_buffers()
        return {**dict(self.named_parameters()), **buffers}

    def _hops(self, atoms: SortedAtoms, heads: list[str], frozen: bool) -> Hops[RadialFeatures]:
        # Where the backbone is not trained its derivatives are constants in training too.
        frozen = frozen or not any(weight.requires_grad for weight in self.backbone.parameters())
        stages: list[Stage[RadialFeatures]] = [
            LayerStage(self, number, heads, frozen) for number in range(len(self.backbone.layers))
        ]
        for name in heads:
            if (stage := self.heads[name].stage()) is not None:
                static = self.electrostatics is not None and self.electrostatics.is_static(name)
                stages.append(StaticFlow(stage) if static else stage)
        if self.electrostatics is not None and self.electrostatics.response is not None:
            conductance = self.electrostatics.response.conductance
            stages += [] if conductance is None else [conductance]
        return Hops(stages, self.backbone.embed_nodes(atoms), self.backbone.embed_edges)

    def _raman_tensors(self, graph: Graph, atoms: Environments | Blocks, create_graph: bool) -> Tensor:
        heads = [name for name, head in self.heads.items() if "polarizability" in head.row.provides]
        hops = self._hops(atoms, heads, not create_graph)
        return raman_tensors(hops, atoms, PolarizabilityTerm(self.electrostatics, graph), create_graph)

    def _tensors(self, state: State) -> Tensor | None:
        return total_of([self.heads[name].tensors(state.evaluation.node_feats) for name in state.heads])

    def _shares(self, state: State) -> dict[str, Tensor]:
        feats, species = state.evaluation.node_feats, state.atoms.species
        return {name: value for head in state.heads for name, value in self.heads[head].shares(feats, species).items()}

    def _energy(self, state: State) -> Tensor:
        """Total energies, of shape (n_frames,), in eV; the sum is done in float64."""
        energies = state.total("energies")
        head = self.heads["energy"]
        if energies is None or not isinstance(head, EnergyHead):
            raise ModelError("this model has no energy head; add 'energy' to model.heads and train it.")
        total = state.atoms.sum_over_frames(energies.double() + head.references(state.atoms.species))
        term = state.evaluation.term
        return total + term.energies if isinstance(term, Coupled) and term.energies is not None else total


def _distance_table(statistics: Statistics, elements: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """Shortest distances by place of the elements; 0 for pairs that never met, empty where nothing is known."""
    distances = {(first, second): distance for first, second, distance in statistics.shortest_distances}
    if not distances:
        return ()
    return tuple(tuple(distances.get((min(a, b), max(a, b)), 0.0) for b in elements) for a in elements)


def _build_head(name: str, features: Features, options: dict[str, Any]) -> Head:
    try:
        return head_class(name)(features, **options)
    except TypeError as exc:
        raise ModelError(f"model.heads: the options of '{name}' do not fit ({exc}); remove the ones it does not know.") from exc


def build_model(
    config: ModelConfig, elements: Sequence[int], statistics: Statistics, dtype: torch.dtype = torch.float32
) -> NetworkModel:
    """Build a model with fresh weights, drawn from torch's global random numbers.

    A model on a mace backbone gets its weights, elements, energy and sizes from the file, which must be there and is a
    pickle; :func:`~bec_mace.models.load_model` needs no such file.

    Args:
        config: Sizes of the network and its heads.
        elements: Atomic numbers.
        statistics: Means of the training set.
        dtype: Floating-point type of weights and computation.

    Raises:
        ModelError: The mace file cannot be used or does not know an element.
    """
    source = None
    if config.backbone is not None and config.backbone.sizes is None:
        source = read_mace_file(config, config.backbone)
        _check_known(elements, source.elements, source.path)
        config, elements, statistics = source.config, source.elements, source.statistics(statistics)
    with torch.inference_mode(False), default_dtype(torch.float64):
        model = NetworkModel(config, sorted(set(elements)), statistics)
    if source is not None:
        _fill(model, source)
    if config.backbone is not None and config.backbone.freeze:
        model.backbone.requires_grad_(False)
        model.heads["energy"].requires_grad_(False)
    with torch.inference_mode(False):
        return model.to(dtype)


def _fill(model: NetworkModel, source: MaceFile) -> None:
    """Give a model the weights of a mace file."""
    copy_weights(model, source)
    compare_with_mace(model, source)
    model.exact_weights = exact_weights(model, (model.backbone, model.heads["energy"]))


def _check_known(elements: Sequence[int], known: Sequence[int], path: str) -> None:
    unknown = sorted(set(elements) - set(known))
    if unknown:
        raise ModelError(
            f"{path}: the mace model has not seen {', '.join(chemical_symbols[z] for z in unknown)}; it knows "
            f"{', '.join(chemical_symbols[z] for z in known)}. Leave out structures with other elements."
        )
