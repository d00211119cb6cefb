"""What the engine asks of a model: stages that take node features and edge vectors and give features and sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from bec_mace.engine.environments import Environments, SortedAtoms


@dataclass(frozen=True)
class EdgeFeatures:
    """Functions of the edge vectors that all stages share; a model adds fields for those that it has.

    Attributes:
        vectors: Of shape (n_edges, 3), in Å.
    """

    vectors: Tensor

    def named(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def map(self: Edges, function: Callable[[Tensor], Tensor]) -> Edges:
        """A copy with a function of each tensor."""
        return replace(self, **{name: function(value) for name, value in self.named().items()})


Edges = TypeVar("Edges", bound=EdgeFeatures)
EdgesIn = TypeVar("EdgesIn", bound=EdgeFeatures, contravariant=True)

EdgeCotangents = Mapping[str, Tensor | None]
"""Cotangents of edge features, by the name of their field."""


@dataclass(frozen=True)
class Sources:
    """What a stage adds to the sources.

    Attributes:
        charges: Charges whose polarization is charge times position, of shape (n_atoms,), in e.
        dipoles: Polarization that depends on edge vectors alone, of shape (n_atoms, 3), in e Å.
        energies: Of shape (n_atoms,), in eV.
        flow: Charge that every edge brings its receiver and takes from its sender, of shape (n_edges,), in e. Its
            polarization is among the dipoles already.
        transferred: What the flow brings each atom, of shape (n_atoms,), in e; the engine sums it.
        static_charges: Charges that a :class:`Term` makes use of, of shape (n_atoms,), in e; of themselves they do nothing.
        static_dipoles: Dipoles that a term makes use of, of shape (n_atoms, 3), in e Å.
        static_quadrupoles: Quadrupoles that a term makes use of, of shape (n_atoms, 3, 3), in e Å^2.
        static_flow: As ``flow``, for a term; its polarization is not among the dipoles.
        static_transferred: What the static flow brings each atom; the engine sums it.
        static_moments: Half of each edge's polarization of the static flow at either end, of shape (n_atoms, 3), in e Å; the
            engine sums it.
        screening: A number per atom for a term, of shape (n_atoms,).
        polarizabilities: How dipoles yield to a field, for a term, of shape (n_atoms, 3, 3), in e^2 Å^2/eV.
        polarizability_shares: What each atom has of the polarizability of its frame, of shape (n_atoms, 3, 3), in Å^3; a term
            may differentiate it.
        capacities: How charges yield to a potential, for a term, of shape (n_atoms,), in e^2/eV.
        conductances: How charge of each edge yields to the difference of potentials at its ends, for a term, of shape
            (n_edges,), in e^2/eV.
        edge_ends: Receiver, sender and vector of each edge, where there are conductances; the engine adds them.
        constant: Whether they are meant not to depend on positions. Otherwise a derivative that has no path to the edge
            vectors is an error, and not zero.
    """

    charges: Tensor | None = None
    dipoles: Tensor | None = None
    energies: Tensor | None = None
    flow: Tensor | None = None
    transferred: Tensor | None = None
    static_charges: Tensor | None = None
    static_dipoles: Tensor | None = None
    static_quadrupoles: Tensor | None = None
    static_flow: Tensor | None = None
    static_transferred: Tensor | None = None
    static_moments: Tensor | None = None
    screening: Tensor | None = None
    polarizabilities: Tensor | None = None
    polarizability_shares: Tensor | None = None
    capacities: Tensor | None = None
    conductances: Tensor | None = None
    edge_ends: tuple[Tensor, Tensor, Tensor] | None = None
    constant: bool = False


OF_ATOMS = (
    "static_charges",
    "static_dipoles",
    "static_quadrupoles",
    "screening",
    "polarizabilities",
    "polarizability_shares",
    "capacities",
)
"""Sources for a term that are numbers of atoms."""


@dataclass(frozen=True)
class EdgePart:
    """The edge work of a stage, pulled back by the stage itself for all channels at once.

    Attributes:
        messages: What the edges hand to the node work: a tensor to differentiate with respect to.
        pull: From cotangents of the messages, one for each channel, those of the gathered features (None where
            ``needed`` is false) and those of the edge features.
    """

    messages: Tensor
    pull: Callable[[list[Tensor], bool], tuple[list[Tensor | None], list[EdgeCotangents]]]


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


class Stage(Protocol[EdgesIn]):
    """One hop of a model. A network has one for each layer."""

    def prepare(self, node_feats: Tensor) -> Tensor:
        """What neighbours gather, of shape (n_components, n_atoms, n_channels), from node features."""
        ...

    def propagate(self, node_feats: Tensor, sender_feats: Tensor, edge_feats: EdgesIn, env: Environments) -> StageOutput:
        """New node features and sources from own features, gathered ones, and functions of the edge vectors."""
        ...


@dataclass(frozen=True)
class Hops(Generic[Edges]):
    """A model as the engine sees it.

    Attributes:
        stages: The hops, first to last.
        node_feats: Features before the first stage, of shape (n_atoms, ...); they do not depend on positions.
        embed_edges: Functions of the edge vectors that every stage shares.
    """

    stages: Sequence[Stage[Edges]]
    node_feats: Tensor
    embed_edges: Callable[[Tensor, Environments], Edges]


@dataclass(frozen=True)
class Seeds:
    """Cotangents of the static sources, from which the sweep starts beside those of the others.

    Each is a dict by the name of a source: those of :data:`OF_ATOMS`, ``static_transferred``, ``static_moments``, and
    ``conductances``, where edges stand in place of atoms.

    Attributes:
        charge: Of the total charge, with arms; of shape (n_atoms, ...).
        moments: Of the polarization, without arms; of shape (n_directions, n_atoms, ...).
        energy: Of the energy; of shape (n_atoms, ...).
    """

    charge: Mapping[str, Tensor] = field(default_factory=dict)
    moments: Mapping[str, Tensor] = field(default_factory=dict)
    energy: Mapping[str, Tensor] = field(default_factory=dict)

    def of(self, channel: str | int) -> Mapping[str, Tensor]:
        """Those of a channel of the sweep."""
        if isinstance(channel, int):
            return {name: value[channel] for name, value in self.moments.items()}
        return self.charge if channel == "charge" else self.energy


@dataclass(frozen=True)
class TermOutput:
    """What a term makes of the sources of all atoms, in sorted order.

    Attributes:
        seeds: Where the sweep starts.
        forces: Minus the derivative of its energy by positions at fixed sources, of shape (n_atoms, 3), in eV/Å.
        virial: The derivative by a strain at fixed sources, of shape (n_frames, 3, 3), in eV.
        response: The derivative of its polarization by positions at fixed sources, without charges on the diagonal that the
            model adds, of shape (n_atoms, n_directions, 3), in e.
    """

    seeds: Seeds
    forces: Tensor | None = None
    virial: Tensor | None = None
    response: Tensor | None = None


class Term(Protocol):
    """An energy or a polarization that is not local: made of the sources of all atoms, once, between stages and sweep."""

    def __call__(
        self, atoms: SortedAtoms, sources: Sequence[Sources], directions: Tensor | None, energy: bool, create_graph: bool
    ) -> TermOutput:
        """Evaluate it; ``directions`` and ``energy`` say what will be differentiated."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """What the stages make of all atoms, in sorted order.

    Attributes:
        atoms: The atoms.
        sources: Of each stage.
        node_feats: Features after the last stage that changed them.
        response: dP_a/dr_j without the charge on the diagonal, of shape (n_atoms, n_directions, 3), in e.
        forces: Of shape (n_atoms, 3), in eV/Å.
        virial: Sum of d (x) dE/dd, of shape (n_frames, 3, 3), in eV.
        term: What the term gave, where there is one; its forces and virial are among those above.
    """

    atoms: SortedAtoms
    sources: list[Sources]
    node_feats: Tensor
    response: Tensor | None = None
    forces: Tensor | None = None
    virial: Tensor | None = None
    term: TermOutput | None = None
