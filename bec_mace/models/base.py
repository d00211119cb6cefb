"""What every model is: sources of the polarization, and the properties that follow from them by the exact engine.

A network and a kernel model differ in how they come by the sources. What is made of them stands here, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor

from bec_mace.config.heads import head_row
from bec_mace.config.model import KernelModelConfig, ModelConfig
from bec_mace.data.graph import Graph
from bec_mace.data.statistics import Statistics
from bec_mace.engine.autograd import differentiating
from bec_mace.engine.contract import Hops
from bec_mace.engine.environments import Blocks, Environments, SortedAtoms, build_blocks, build_environments, with_total
from bec_mace.engine.sweep import evaluate
from bec_mace.engine.sweep_in_blocks import evaluate_in_blocks
from bec_mace.errors import ModelError
from bec_mace.models.conditions import check_block_size, check_field, check_precision
from bec_mace.models.coulomb_term import CoulombTerm, coupled
from bec_mace.models.coupling import STATIC_PROPERTIES, StaticCoupling, exchanges
from bec_mace.models.exact_constants import ExactConstants
from bec_mace.models.footprint import Footprint
from bec_mace.models.of_cells import dielectric_response, of_atoms_or_frames, stress_of
from bec_mace.models.state import State

Z = "born_effective_charges"

_WITHOUT_ARMS = {"dipole", "charge_transfer"}
_LOGIT_SCALE = 10.0  # An optimizer moves a vector by about its learning rate in a step; these need to go further.
_DERIVATIVES = frozenset({Z, "forces", "stress", "field_forces", "raman_tensors"})


class PolarizationModel(ExactConstants, ABC):
    """Born effective charges, charges, dipoles, energies and forces from one set of sources.

    A subclass fills :attr:`heads` and :attr:`provides` and makes the stages.

    Args:
        config: Sizes and heads.
        elements: Atomic numbers the model knows, ascending.
        statistics: Means of the training set.

    Attributes:
        config: As given.
        elements: As given.
        statistics: As given.
        heads: The heads by name.
        provides: Names of the properties that can be asked for.
        projects: Whether the sum over each cell is subtracted, in equal parts or in learned ones.
        metadata: What is stored beside the weights in a checkpoint.
        electrostatics: How static charges act, where they do.
        exact_weights: Weights that are not trained, by name, in the precision of the file that they come from.
    """

    reference_charges: Tensor
    sum_rule_logits: Tensor | None
    heads: Any
    _raman_tensors: Any
    provides: frozenset[str]

    def __init__(self, config: ModelConfig | KernelModelConfig, elements: Sequence[int], statistics: Statistics) -> None:
        super().__init__()
        self.config: Any = config
        self.elements = [int(z) for z in elements]
        self.statistics = statistics
        self.metadata: dict[str, Any] = {}
        self.exact_weights: dict[str, Tensor] = {}
        self.electrostatics: StaticCoupling | None = None
        polar = [row for row in map(head_row, config.head_options) if Z in row.provides]
        charges = torch.tensor([statistics.reference_charges.get(z, 0.0) for z in self.elements])
        if config.reference_charges and polar:
            self.reference_charges = torch.nn.Parameter(charges)
        else:
            self.register_buffer("reference_charges", torch.zeros_like(charges))
        lookup = torch.full((len(chemical_symbols),), -1, dtype=torch.int64)
        lookup[torch.tensor(self.elements)] = torch.arange(len(self.elements))
        self.register_buffer("_species_of_number", lookup, persistent=False)
        rule = config.acoustic_sum_rule
        remains = exchanges(config) or not all(row.sums_to_zero for row in polar)
        self.projects = rule in ("project", "weighted") or (rule is None and remains)
        self.sum_rule_logits = torch.nn.Parameter(torch.zeros_like(charges)) if rule == "weighted" else None

    def _install(self, heads: dict[str, Any]) -> None:
        """Take up the heads and note what they make possible."""
        self.heads = torch.nn.ModuleDict(heads)
        self.provides = frozenset[str]().union(*(head.provides for head in heads.values()))
        self.provides |= {"head_contributions"} if Z in self.provides else frozenset()
        self.provides |= {"dipoles"} if "dipole" in heads else frozenset()
        if self.electrostatics is not None:
            self.provides = self.electrostatics.added_to(self.provides)
        self.provides |= {"raman_tensors"} if "polarizability" in self.provides else frozenset()

    @property
    def has_enthalpy(self) -> bool:
        """Whether the energy of a uniform field is known to second order."""
        return self.electrostatics is not None and self.electrostatics.config.has_enthalpy

    @property
    @abstractmethod
    def r_max(self) -> float:
        """Cutoff radius, in Å."""

    @abstractmethod
    def _hops(self, atoms: SortedAtoms, heads: list[str], frozen: bool) -> Hops[Any]:
        """The stages with some of the heads; ``frozen`` promises that nothing is differentiated by weights."""

    @abstractmethod
    def footprint(self, properties: Collection[str], blocked: bool) -> Footprint:
        """How many numbers are alive at the peak of an evaluation, of all atoms at once or in blocks of them."""

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the computation."""
        return self.reference_charges.dtype

    def sweep_channels(self, properties: Collection[str]) -> tuple[int, int]:
        """Channels of the sweep in the layers before the last, and in the last."""
        wanted, sources = set(properties), set(self.heads)
        energy = int(bool(wanted & {"forces", "stress"}))
        if not wanted & {Z, "head_contributions"}:
            return energy, energy
        charge, moments = int("monopole" in sources or exchanges(self.config)), 3 if sources & _WITHOUT_ARMS else 0
        return energy + (3 + charge if charge or moments else 0), energy + moments + charge

    @abstractmethod
    def own_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must hold; everything else follows from the configuration."""

    def _learned(self) -> Collection[str]:
        return self.own_tensors()

    def _tensors(self, state: State) -> Tensor | None:
        """Z* that is read directly, of shape (n_atoms, 3, 3), in e."""
        return None

    def _shares(self, state: State) -> dict[str, Tensor]:
        """What the atoms have of further properties; see :meth:`~bec_mace.models.heads.Head.shares`."""
        return {}

    def _energy(self, state: State) -> Tensor:
        """Total energies, of shape (n_frames,), in eV; asked for only where a head gives them."""
        raise ModelError("this model has no energy head; add 'energy' to model.heads and train it.")

    def forward(
        self,
        graph: Graph,
        properties: Collection[str] = (Z,),
        create_graph: bool = False,
        directions: Tensor | None = None,
        block_size: int | None = None,
        electric_field: Tensor | None = None,
        field_order: int = 1,
    ) -> dict[str, Tensor]:
        """Compute properties of all frames of a batch.

        Args:
            graph: The batch.
            properties: Names of properties; :attr:`provides` lists what can be asked for.
            create_graph: Whether the result can be differentiated, for training.
            directions: Contract the polarization with these, of shape (n_directions, 3), instead of x, y, z.
            block_size: Atoms whose edges are in memory at once, so that a system of any size fits; None takes all at once.
            electric_field: A uniform field, of shape (3,), in V/Å, for ``field_forces``.
            field_order: 2 counts what the field induces: ``field_forces`` are then those of -E·P - E·alpha·E/2.

        Returns:
            ``born_effective_charges`` (n_atoms, 3, 3) in e with the polarization first, or (n_atoms, n_directions, 3);
            ``charges`` (n_atoms,) in e; ``dipoles`` (n_atoms, 3) in e Å, those of the dipole head; ``dipole`` and
            ``polarization`` (n_frames, 3) in e Å; ``energy`` (n_frames,) in eV; ``forces`` (n_atoms, 3) in eV/Å;
            ``polarizability`` (n_frames, 3, 3) in Å^3; ``stress`` in eV/Å^3 and ``dielectric_tensor`` (n_frames, 3, 3), no
            numbers in frames that are not periodic in three directions; ``induced_dipoles``, ``induced_charges`` and
            ``quadrupoles`` of models with such; ``raman_tensors`` (n_atoms, 3, 3, 3) in Å^2, displacement last;
            ``field_forces`` (n_atoms, 3) in eV/Å, of the field alone; ``head_contributions`` Z* by head.

        Raises:
            ModelError: An element the model has not seen, a property that its heads do not give, a block size that is
                not positive or given in training, or a field for a model that knows nothing of second order.
        """
        wanted = set(properties)
        self._check_properties(wanted)
        check_block_size(block_size, create_graph)
        check_precision(self.reference_charges)
        check_field(electric_field, field_order, wanted, self.has_enthalpy)
        differentiated = create_graph or (block_size is None and bool(wanted & (_DERIVATIVES | {"head_contributions"})))
        with differentiating(differentiated, graph.positions.device):
            species = self._species(graph)
            sizes, dtype = (len(self.elements), self.r_max), self.dtype
            atoms = (
                build_environments(graph, species, *sizes, dtype)
                if block_size is None
                else build_blocks(graph, species, *sizes, block_size, dtype)
            )
            field = None if electric_field is None else (electric_field.view(1, 3), field_order > 1)
            out = self._compute(graph, atoms, wanted, create_graph, directions, field)
        return out if create_graph else {name: _detach(value) for name, value in out.items()}

    def _compute(
        self,
        graph: Graph,
        atoms: Environments | Blocks,
        wanted: set[str],
        create_graph: bool,
        directions: Tensor | None,
        field: tuple[Tensor, bool] | None,
    ) -> dict[str, Tensor]:
        axes = (torch.eye(3, device=atoms.positions.device) if directions is None else directions).to(atoms.dtype)
        if field is not None:
            axes = torch.cat([axes, field[0].to(axes)]) if Z in wanted else field[0].to(axes)
        response = axes if Z in wanted or field is not None else None
        derivatives = bool(wanted & {"forces", "stress"})
        how = {
            "energies": "energy" in wanted,
            "in_field": field is not None and field[1],
            "polarizability": bool(wanted & {"polarizability", "dielectric_tensor"}),
        }
        state = self._evaluate(graph, atoms, list(self.heads), response, derivatives, create_graph, **how)
        evaluation = state.evaluation
        out: dict[str, Any] = {}
        if evaluation.response is not None:
            out[Z] = atoms.unsort(self._response(state, evaluation.response, axes))
            if field is not None:
                out[Z], out["field_forces"] = out[Z][:, :-1], out[Z][:, -1]
        if evaluation.forces is not None:
            out["forces"] = atoms.unsort(evaluation.forces)
        if "stress" in wanted and evaluation.virial is not None:
            out["stress"] = stress_of(evaluation.virial, graph)
        if "energy" in wanted:
            out["energy"] = self._energy(state)
        if "charges" in wanted:
            out["charges"] = atoms.unsort(self._charges(state))
        if wanted & {"dipole", "polarization"}:
            out["dipole"] = out["polarization"] = self._dipole(state)
        if wanted & {"polarizability", "dielectric_tensor"}:
            out["polarizability"], out["dielectric_tensor"] = self._dielectric(state, graph)
        if "dipoles" in wanted:
            out["dipoles"] = atoms.unsort(self._atomic_dipoles(state))
        for name in wanted & STATIC_PROPERTIES:
            out[name] = atoms.unsort(getattr(coupled(state), name).to(atoms.dtype))
        for name, shares in (self._shares(state) if wanted - {"head_contributions"} - set(out) else {}).items():
            out[name] = of_atoms_or_frames(name, shares, atoms)
        if "raman_tensors" in wanted:
            out["raman_tensors"] = atoms.unsort(self._raman_tensors(graph, atoms, create_graph))
        if "head_contributions" in wanted:
            out["head_contributions"] = self._head_contributions(graph, atoms, axes, create_graph)
        return {name: out[name] for name in wanted}

    def _evaluate(
        self,
        graph: Graph,
        atoms: Environments | Blocks,
        heads: list[str],
        directions: Tensor | None,
        energy: bool,
        create_graph: bool,
        references: bool = True,
        **looked_at: bool,
    ) -> State:
        """Run the stages with some of the heads, all at once or in blocks, and differentiate what is asked for."""
        hops = self._hops(atoms, heads, not create_graph)
        term = None
        if self.electrostatics is not None:
            static = self._references(atoms, atoms.positions.dtype) if references and self.electrostatics.couples else None
            if references and static is None:
                static = torch.zeros_like(atoms.positions[:, 0])
            term = CoulombTerm(self.electrostatics, graph, static, self._neutralize, **looked_at)
        if isinstance(atoms, Environments):
            return State(evaluate(hops, atoms, directions, energy, create_graph, term), heads)
        return State(evaluate_in_blocks(hops, atoms, directions, energy, term), heads)

    @property
    def _couples(self) -> bool:
        """Whether static charges give a polarization."""
        return self.electrostatics is not None and self.electrostatics.couples

    def _references(self, atoms: SortedAtoms, dtype: torch.dtype | None = None) -> Tensor:
        """Reference charges of the atoms, made to sum to the total charge of each frame."""
        values = self.reference_charges.to(dtype or atoms.dtype)[atoms.species]
        return self._neutralize(values, atoms, atoms.total_charge)

    def _neutralize(self, values: Tensor, atoms: SortedAtoms, total: Tensor) -> Tensor:
        """Let the values of each frame sum to a total, in equal parts or in the learned ones of their elements."""
        logits: Tensor | None = self.sum_rule_logits
        parts = None if logits is None else torch.exp(_LOGIT_SCALE * logits.to(values.dtype))[atoms.species]
        return with_total(values, atoms, total, parts)

    def _response(self, state: State, response: Tensor, axes: Tensor, references: bool = True) -> Tensor:
        """Z*, of shape (n_atoms, n_directions, 3): redistribution, charges on the diagonal, direct tensors, sum rule."""
        atoms, charges = state.atoms, state.total("charges")
        if self._couples:
            diagonal = coupled(state).dynamic.to(atoms.dtype)
        elif references:
            diagonal = self._references(atoms)
        else:
            diagonal = torch.zeros_like(atoms.positions[:, 0], dtype=atoms.dtype)
        if charges is not None:
            diagonal = diagonal + charges
        response = response + diagonal.view(-1, 1, 1) * axes
        tensors = self._tensors(state)
        if tensors is not None:
            response = response + axes @ tensors
        if self.projects:
            total = atoms.total_charge.to(atoms.dtype) if references else torch.zeros_like(atoms.total_charge)
            response = self._neutralize(response, atoms, total.view(-1, 1, 1) * axes)
        return response

    def _charges(self, state: State) -> Tensor:
        """Static charges; of other models those of the monopole and charge-transfer heads and the references, in e."""
        if self.electrostatics is not None:
            static: Tensor = coupled(state).charges
            return static.to(state.atoms.dtype)
        charges = self._references(state.atoms)
        for part in (state.total("charges"), state.total("transferred")):
            if part is not None:
                charges = charges + part
        return self._neutralize(charges, state.atoms, state.atoms.total_charge) if self.projects else charges

    def _dipole(self, state: State) -> Tensor:
        """Polarization of the frames at the positions given, of shape (n_frames, 3), in e Å; large terms cancel."""
        atoms = state.atoms
        # In the precision of the positions: what is left of neutrality is multiplied by them.
        monopoles = coupled(state).dynamic if self._couples else self._references(atoms, atoms.positions.dtype)
        charges, dipoles = state.total("charges"), state.total("dipoles")
        if charges is not None:
            monopoles = monopoles + charges
        monopoles = self._neutralize(monopoles, atoms, atoms.total_charge) if self.projects else monopoles
        density = monopoles.unsqueeze(1) * atoms.positions
        for moments in (dipoles, coupled(state).moments if self._couples else None):
            density = density if moments is None else density + moments
        return atoms.sum_over_frames(density).to(atoms.dtype)

    def _dielectric(self, state: State, graph: Graph) -> tuple[Tensor, Tensor]:
        """Polarizability in Å^3 and dielectric tensor at clamped nuclei, of shape (n_frames, 3, 3)."""
        shares = state.total("polarizability_shares")
        if shares is None and self.electrostatics is not None:
            shares = coupled(state).polarizabilities
        if shares is None:
            raise ModelError("this model has no polarizability head; add 'polarizability' to model.heads and train it.")
        return dielectric_response(state.atoms.sum_over_frames(shares), graph)

    def _atomic_dipoles(self, state: State) -> Tensor:
        """Dipoles of the atoms beside their charges; what a flow of charge polarizes is in the charges already."""
        if (static := state.total("static_dipoles")) is not None:
            return static
        own = [one.dipoles for one in state.evaluation.sources if one.transferred is None and one.dipoles is not None]
        return torch.stack(own).sum(dim=0)

    def _head_contributions(
        self, graph: Graph, atoms: Environments | Blocks, axes: Tensor, create_graph: bool
    ) -> dict[str, Tensor]:
        """Z* of each head alone, the sum rule applied to each; "reference" holds the reference charges."""
        parts = {}
        for name in self.heads:
            if Z not in self.heads[name].provides and (self.electrostatics is None or not self.electrostatics.moves(name)):
                continue
            state = self._evaluate(graph, atoms, [name], axes, False, create_graph, references=False)
            if state.evaluation.response is not None:
                parts[name] = atoms.unsort(self._response(state, state.evaluation.response, axes, references=False))
        if self._couples:  # A screening that depends on positions lets them respond.
            state = self._evaluate(graph, atoms, [], axes, False, create_graph)
            if state.evaluation.response is not None:
                parts["reference"] = atoms.unsort(self._response(state, state.evaluation.response, axes))
        else:
            parts["reference"] = atoms.unsort(self._references(atoms).view(-1, 1, 1) * axes)
        return parts

    def _species(self, graph: Graph) -> Tensor:
        lookup: Tensor = self.get_buffer("_species_of_number")
        species = lookup[graph.atomic_numbers]
        if bool((species < 0).any()):
            self.check_elements(graph.atomic_numbers.tolist())
        return species

    def check_elements(self, numbers: Collection[int], source: str = "") -> None:
        """Refuse atomic numbers that the model does not know; ``source`` says where they are."""
        unknown = sorted({int(z) for z in numbers} - set(self.elements))
        if unknown:
            raise ModelError(
                f"{source + ': ' if source else ''}the model has not seen {', '.join(chemical_symbols[z] for z in unknown)}; "
                f"it knows {', '.join(chemical_symbols[z] for z in self.elements)}. Train on structures that hold the element."
            )

    def _check_properties(self, wanted: set[str]) -> None:
        missing = sorted(wanted - self.provides - ({"field_forces"} if Z in self.provides else set()))
        if missing:
            raise ModelError(
                f"the model does not give {', '.join(missing)}: its heads ({', '.join(self.heads)}) give "
                f"{', '.join(sorted(self.provides))}."
            )


def _detach(value: Any) -> Any:
    return {name: part.detach() for name, part in value.items()} if isinstance(value, dict) else value.detach()
