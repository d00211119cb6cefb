r"""Static charges: Coulomb's law between charges that heads give, and their part of the polarization.

.. math:: E = \tfrac12 \sum_{i \ne j} q_i q_j v(r_{ij}), \qquad P = \sum_i \gamma_i (q_i r_i + M_i)

The charges q_i of each frame sum to its total charge. M_i is half of the polarization of each edge along which charge flows, at
either of its ends; charges that come from flows have it in place of q_i r_i. The screening :math:`\gamma_i` is one number, or
:math:`\operatorname{softplus}` of a readout around a learned one. Energy, forces, stress and Z* are exact derivatives of these
two expressions: the sweep starts from the potential at each charge, and from :math:`\gamma`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor

from bec_mace.config.electrostatics import ElectrostaticsConfig
from bec_mace.config.model import ModelConfig
from bec_mace.data.graph import Graph
from bec_mace.electrostatics import ChargedFrames, Coulomb
from bec_mace.engine.contract import Seeds, Sources, Stage, StageOutput, TermOutput
from bec_mace.engine.environments import Environments, SortedAtoms, with_total
from bec_mace.errors import ModelError
from bec_mace.models.heads.head import ScalarReadouts
from bec_mace.models.radial import RadialFeatures
from bec_mace.models.state import State, total_of


@dataclass(frozen=True)
class Coupled(TermOutput):
    """What static charges give, atoms in sorted order.

    Attributes:
        energies: Of shape (n_frames,), in eV; None where nobody looks at them.
        charges: The static charges, of shape (n_atoms,), in e.
        screening: gamma, of shape (n_atoms,); None where the charges give no polarization.
        dynamic: gamma q of what has an arm, summing to the total charge of each frame, of shape (n_atoms,), in e.
        moments: gamma M, of shape (n_atoms, 3), in e Å.
    """

    energies: Tensor | None = None
    charges: Tensor | None = None
    screening: Tensor | None = None
    dynamic: Tensor | None = None
    moments: Tensor | None = None


class StaticCoupling(torch.nn.Module):
    """How static charges act, and how they are screened.

    Args:
        config: The section ``electrostatics`` of the model.
        n_layers: Number of layers.
        n_channels: Channels of the scalars.
        readout_mlp: Hidden units of the last layer's readout.
    """

    def __init__(self, config: ElectrostaticsConfig, n_layers: int, n_channels: int, readout_mlp: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        self.coulomb = Coulomb(config.smearing, config.tolerance, config.method)
        start = config.first_screening
        self.couples, self.local = config.screening != "independent", config.screening == "local"
        self.has_arms = "monopole" in config.sources
        inverse = math.log(math.expm1(start))
        self.number = torch.nn.Parameter(torch.tensor(inverse)) if config.screening in ("global", "local") else None
        self.readouts = ScalarReadouts(n_layers, n_channels, readout_mlp) if self.local else None

    def is_static(self, head: str) -> bool:
        """Whether the charges of a head act through Coulomb's law."""
        return head in self.config.sources

    def screening_of(self, logits: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
        """The number common to all atoms, and gamma of each of them, in the precision of ``like``."""
        if self.number is None:
            common = like.new_tensor(self.config.first_screening)
            return common, common.expand(like.shape[0])
        number = self.number.to(like.dtype)
        common = torch.nn.functional.softplus(number)
        if logits is None:
            return common, common.expand(like.shape[0])
        return common, torch.nn.functional.softplus(number + logits.to(like.dtype))


class CoulombTerm:
    """Coulomb's law for the frames of a batch; a :class:`~bec_mace.engine.contract.Term`.

    Args:
        coupling: Of the model.
        graph: The batch.
        references: Charges of the atoms before the heads', of shape (n_atoms,), sorted; None counts neither them nor the total
            charge.
        neutralize: Makes values of atoms sum to a total of each frame.
        energies: Whether anyone looks at the energies.
    """

    def __init__(
        self,
        coupling: StaticCoupling,
        graph: Graph,
        references: Tensor | None,
        neutralize: Callable[[Tensor, SortedAtoms, Tensor], Tensor],
        energies: bool,
    ) -> None:
        self.coupling, self.graph, self.references, self.neutralize = coupling, graph, references, neutralize
        self.energies = energies

    def __call__(
        self, atoms: SortedAtoms, sources: Sequence[Sources], directions: Tensor | None, energy: bool, create_graph: bool
    ) -> Coupled:
        """Energies and charges, and where the sweep starts."""
        with torch.set_grad_enabled(create_graph):
            total = {
                name: self._total(sources, name, create_graph)
                for name in ("static_charges", "static_transferred", "static_moments", "screening")
            }
            zero = torch.zeros_like(atoms.positions[:, 0])
            given = zero if self.references is None else self.references.to(zero)
            placed = given + self._or_zero(total["static_charges"])
            charge = atoms.total_charge.to(zero) if self.references is not None else torch.zeros_like(atoms.total_charge)
            charges = with_total(placed + self._or_zero(total["static_transferred"]), atoms, charge)
            made = self._interact(atoms, charges, energy, create_graph)
            if not self.coupling.couples:
                return made
            return self._polarize(atoms, made, placed, charge, total, directions)

    def _total(self, sources: Sequence[Sources], name: str, create_graph: bool) -> Tensor | None:
        value = total_of([getattr(share, name) for share in sources])
        return value if value is None or create_graph else value.detach()

    @staticmethod
    def _or_zero(value: Tensor | None) -> Tensor | float:
        return 0.0 if value is None else value

    def _interact(self, atoms: SortedAtoms, charges: Tensor, energy: bool, create_graph: bool) -> Coupled:
        """The energy, and its derivatives by charges before they were made neutral, positions and cells."""
        frames = ChargedFrames(atoms.positions, atoms.frame_index, self.graph.cell.detach(), self.graph.pbc)
        coulomb = self.coupling.coulomb
        if not energy:
            return Coupled(Seeds(), energies=coulomb.energies(charges, frames) if self.energies else None, charges=charges)
        found = coulomb.interaction(charges, frames, create_graph)
        # To make charges sum to a total in equal parts is its own transpose, but for the total.
        potential = with_total(found.potential, atoms, torch.zeros_like(atoms.total_charge)).to(atoms.dtype)
        seeds = Seeds(energy={"static_charges": potential, "static_transferred": potential})
        return Coupled(seeds, found.forces, found.virial, energies=found.energies, charges=charges)

    def _polarize(
        self,
        atoms: SortedAtoms,
        made: Coupled,
        placed: Tensor,
        charge: Tensor,
        total: dict[str, Tensor | None],
        directions: Tensor | None,
    ) -> Coupled:
        """The polarization of the charges, screened."""
        common, gamma = self.coupling.screening_of(total["screening"], placed)
        placed = with_total(placed, atoms, charge)
        # Without charges that have an arm of their own the references keep the common number, so that Z* stays a gradient.
        dynamic = self.neutralize(placed * (gamma if self.coupling.has_arms else common), atoms, charge)
        moments = total["static_moments"]
        out = replace(
            made,
            screening=gamma,
            dynamic=dynamic,
            moments=None if moments is None else gamma.unsqueeze(1).to(moments) * moments,
        )
        return out if directions is None else replace(out, seeds=self._seeds(atoms, made, placed, gamma, total, directions))

    def _seeds(
        self,
        atoms: SortedAtoms,
        made: Coupled,
        placed: Tensor,
        gamma: Tensor,
        total: dict[str, Tensor | None],
        directions: Tensor,
    ) -> Seeds:
        """Derivatives of the polarization by the static sources."""
        charge, moments = {}, {}
        small = gamma.to(atoms.dtype)
        if self.coupling.has_arms:
            charge["static_charges"] = small
        along = directions.unsqueeze(1)
        flows = total["static_moments"]
        if flows is not None:
            moments["static_moments"] = small.view(1, -1, 1) * along
        if total["screening"] is not None:
            # softplus' = 1 - exp(-softplus)
            slope = -torch.expm1(-gamma)
            if self.coupling.has_arms:
                charge["screening"] = (placed * slope).to(atoms.dtype)
            if flows is not None:
                moments["screening"] = slope.to(atoms.dtype) * (flows.unsqueeze(0) * along).sum(dim=2)
        return Seeds(charge, moments, made.seeds.energy)


def as_static(sources: Sources) -> Sources:
    """Sources of a head whose charges act through Coulomb's law."""
    return replace(sources, charges=None, static_charges=sources.charges)


class StaticFlow:
    """A stage whose flow is that of static charges."""

    def __init__(self, stage: Stage[RadialFeatures]) -> None:
        self._stage = stage

    def prepare(self, node_feats: Tensor) -> Tensor:
        """What neighbours gather."""
        return self._stage.prepare(node_feats)

    def propagate(self, node_feats: Tensor, sender_feats: Tensor, edge_feats: RadialFeatures, env: Environments) -> StageOutput:
        """The flow; what it polarizes is left to the coupling."""
        out = self._stage.propagate(node_feats, sender_feats, edge_feats, env)
        return replace(out, sources=Sources(static_flow=out.sources.flow))


def coupled(state: State) -> Any:
    """What the static charges gave in an evaluation.

    Raises:
        ModelError: The model has none.
    """
    if not isinstance(state.evaluation.term, Coupled):
        raise ModelError("this model has no charges that act through Coulomb's law; add model.electrostatics and train it.")
    return state.evaluation.term


_FIRST_CHARGE = 0.4
"""In e, of elements of which only the sign is known."""


def first_charges(config: ModelConfig, elements: Sequence[int], dynamic: Mapping[int, float]) -> tuple[float, ...]:
    """Static charges of the elements to start from: those of the labels of Z*, screened, or of the signs that are given."""
    section = config.electrostatics
    if section is None:
        return ()
    start = section.first_screening
    charges = [dynamic.get(z, 0.0) / start for z in elements]
    if any(charges):
        return tuple(charges)
    return tuple(_FIRST_CHARGE * section.charge_sign.get(chemical_symbols[z], 0) for z in elements)
