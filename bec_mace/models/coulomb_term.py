r"""Coulomb's law between what heads give, the response of the atoms to it, and the polarization of both.

.. math:: E = E_{Coulomb}(q, u, Q) + E_{response}, \qquad
          P = \sum_i \gamma_i (q_i r_i + M_i + u_i + \delta u_i) + \sum_{ij} \tfrac12 (\gamma_i + \gamma_j) w_{ij} d_{ij}

The charges q_i of each frame sum to its total charge. M_i is half of the polarization of each edge along which charge flows, at
either of its ends; charges that come from flows have it in place of q_i r_i. Energy, forces, stress and Z* are exact
derivatives of these two expressions: the sweep starts from their derivatives by the sources. Those of q_i r_i have arms; all
else is a function of edges and of sources in a periodic cell, differentiated as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bec_mace.data.graph import Graph
from bec_mace.electrostatics import ChargedFrames, Multipoles
from bec_mace.electrostatics.response import Edges, Induced, Susceptibilities, polarizability_of, respond
from bec_mace.engine.autograd import gradient_rows, gradients
from bec_mace.engine.contract import OF_ATOMS, Seeds, Sources, TermOutput
from bec_mace.engine.environments import SortedAtoms, with_total
from bec_mace.errors import ModelError
from bec_mace.models.coupling import StaticCoupling
from bec_mace.models.exchange import Exchange, add
from bec_mace.models.state import State, total_of
from bec_mace.units import COULOMB_CONSTANT

_SOURCES = (*OF_ATOMS, "static_transferred", "static_moments", "conductances")


_AT_ONCE = 500
"""Atoms of a batch up to which the directions of the polarization are differentiated in one pass."""


@dataclass(frozen=True)
class Coupled(TermOutput):
    """What static sources give, atoms in sorted order.

    Attributes:
        energies: Of shape (n_frames,), in eV; None where nobody looks at them.
        charges: The static charges, of shape (n_atoms,), in e.
        screening: gamma, of shape (n_atoms,); None where the charges give no polarization.
        dynamic: gamma q of what has an arm, summing to the total charge of each frame, of shape (n_atoms,), in e.
        moments: What each atom has of the polarization beside it, of shape (n_atoms, 3), in e Å.
        quadrupoles: Those that act, of shape (n_atoms, 3, 3), in e Å^2.
        induced_dipoles: Of shape (n_atoms, 3), in e Å.
        induced_charges: Of shape (n_atoms,), in e.
        polarizabilities: Shares of the atoms in that of the frame, of shape (n_atoms, 3, 3), in Å^3; None where the energy in
            a field is not known to second order, or nobody looks at it.
    """

    energies: Tensor | None = None
    charges: Tensor | None = None
    screening: Tensor | None = None
    dynamic: Tensor | None = None
    moments: Tensor | None = None
    quadrupoles: Tensor | None = None
    induced_dipoles: Tensor | None = None
    induced_charges: Tensor | None = None
    polarizabilities: Tensor | None = None


def coupled(state: State) -> Any:
    """What the static charges gave in an evaluation.

    Raises:
        ModelError: The model has none.
    """
    if not isinstance(state.evaluation.term, Coupled):
        raise ModelError("this model has no charges that act through Coulomb's law; add model.electrostatics and train it.")
    return state.evaluation.term


class CoulombTerm:
    """Coulomb's law for the frames of a batch; a :class:`~bec_mace.engine.contract.Term`.

    Args:
        coupling: Of the model.
        graph: The batch.
        references: Charges of the atoms before the heads', of shape (n_atoms,), sorted; None counts neither them nor the total
            charge.
        neutralize: Makes values of atoms sum to a total of each frame.
        energies: Whether anyone looks at the energies.
        in_field: Whether the last direction is a field, in V/Å, that induces a polarization, which counts half.
        polarizability: Whether anyone looks at the polarizability.
    """

    def __init__(
        self,
        coupling: StaticCoupling,
        graph: Graph,
        references: Tensor | None,
        neutralize: Callable[[Tensor, SortedAtoms, Tensor], Tensor],
        energies: bool = False,
        in_field: bool = False,
        polarizability: bool = False,
    ) -> None:
        self.coupling, self.graph, self.references, self.neutralize = coupling, graph, references, neutralize
        self.energies, self.in_field, self.polarizability = energies, in_field, polarizability

    def __call__(
        self, atoms: SortedAtoms, sources: Sequence[Sources], directions: Tensor | None, energy: bool, create_graph: bool
    ) -> Coupled:
        """Energies and charges, and where the sweep starts."""
        return _Evaluation(self, atoms, sources, directions, energy, create_graph).result()


class _Evaluation:
    """One evaluation: the sources as leaves, energies and polarization as functions of them."""

    def __init__(
        self,
        term: CoulombTerm,
        atoms: SortedAtoms,
        sources: Sequence[Sources],
        directions: Tensor | None,
        energy: bool,
        create_graph: bool,
    ) -> None:
        self.term, self.coupling, self.atoms = term, term.coupling, atoms
        self.directions, self.energy, self.create_graph = directions, energy, create_graph
        self.differentiates = energy or directions is not None
        self.leaves = {
            name: self._leaf(value)
            for name in _SOURCES
            if (value := total_of([getattr(share, name) for share in sources])) is not None
        }
        ends = next((share.edge_ends for share in sources if share.edge_ends is not None), None)
        self.ends = None if ends is None else Edges(ends[0], ends[1], self._leaf(ends[2].to(atoms.positions.dtype)))
        self.positions = self._leaf(atoms.positions.detach())
        self.strain = self._leaf(torch.zeros_like(term.graph.cell.detach()))
        self.frames = ChargedFrames(self.positions, atoms.frame_index, term.graph.cell.detach(), term.graph.pbc, atoms.dtype)

    def _leaf(self, value: Tensor) -> Tensor:
        if self.create_graph and value.requires_grad:
            return value
        return value.detach().requires_grad_(self.differentiates)

    def result(self) -> Coupled:
        """What the model needs."""
        with torch.set_grad_enabled(self.differentiates or self.create_graph):
            zero = torch.zeros_like(self.positions[:, 0])
            references = self.term.references
            placed = (zero if references is None else references.to(zero)) + self._or_zero("static_charges")
            total = self.atoms.total_charge.to(zero)
            total = torch.zeros_like(total) if references is None else total
            charges = with_total(placed + self._or_zero("static_transferred"), self.atoms, total)
            yielding = self._yielding()
            self.sources = Multipoles(charges, self.leaves.get("static_dipoles"), self.leaves.get("static_quadrupoles"))
            induced = self._induced(self.sources, yielding)
            common, gamma = self.coupling.screening_of(
                self.leaves.get("screening"), self.atoms.species, self.atoms.frame_index, self.term.graph, placed
            )
            shares = self._polarizabilities(yielding, common)
            energies = None if induced is None else induced.energies
            forces, virial, by_energy = self._by_energy(energies)
            arms = with_total(placed, self.atoms, total)
            moments = self._moments(gamma, induced) if self.coupling.couples else None
            response, by_moments = self._by_moments(moments, shares)
            by_charge = self._by_charge(arms, gamma)
            if induced is not None and self.directions is not None and self.coupling.exchanges:
                exchange = Exchange(self, induced, gamma)
                response = total_of([response, exchange.explicit()])
                by_charge, by_moments = add(by_charge, exchange.by_charge()), add(by_moments, exchange.by_moments())
            out = Coupled(
                Seeds(by_charge, by_moments, by_energy),
                forces,
                virial,
                response,
                energies,
                charges,
                moments=moments,
                quadrupoles=self.leaves.get("static_quadrupoles"),
                induced_dipoles=None if induced is None else induced.dipoles,
                induced_charges=self._induced_charges(induced),
                polarizabilities=shares,
                screening=gamma if self.coupling.couples else None,
                # Without charges that have an arm of their own the references keep the common number: Z* stays a gradient.
                dynamic=self._dynamic(arms * (gamma if self.coupling.has_arms else common), gamma, induced, total),
            )
        return out if self.create_graph else _detached(out)

    def _or_zero(self, name: str) -> Tensor | float:
        return self.leaves.get(name, 0.0)

    def _yielding(self) -> Susceptibilities | None:
        if self.coupling.response is None:
            return None
        leaves = self.leaves
        yielding = Susceptibilities(
            leaves.get("polarizabilities"), leaves.get("conductances"), self.ends, leaves.get("capacities")
        )
        if self.create_graph and self.coupling.learns:
            shares = polarizability_of(yielding, self.atoms.n_atoms, self.positions)
            self.coupling.learn_susceptibility(shares.detach(), self.atoms.species)
        return yielding

    def _induced(self, sources: Multipoles, yielding: Susceptibilities | None) -> Induced | None:
        """Energies and what is induced, where anybody looks at it."""
        strain = self.strain if self.energy else None
        if yielding is not None:
            return respond(self.coupling.coulomb, sources, self.frames, yielding, strain)
        if not self.energy and not self.term.energies:
            return None
        return Induced(self.coupling.coulomb.energies(sources, self.frames, strain), sources.charges)

    def _polarizabilities(self, yielding: Susceptibilities | None, common: Tensor) -> Tensor | None:
        """Shares of the atoms, in Å^3, where anybody looks at them."""
        looked_at = self.term.polarizability or self.term.in_field
        if yielding is None or not looked_at or not self.coupling.config.has_enthalpy:
            return None
        shares = polarizability_of(yielding, self.atoms.n_atoms, self.positions)
        return COULOMB_CONSTANT * common.square().view(-1, 1, 1) * shares

    def _by_energy(self, energies: Tensor | None) -> tuple[Tensor | None, Tensor | None, dict[str, Tensor]]:
        """Forces and virials at fixed sources, and derivatives by these."""
        if energies is None or not self.energy:
            return None, None, {}
        inputs = [self.positions, self.strain, *self.leaves.values()]
        forces, virial, *seeds = gradients(energies.sum(), inputs, self.create_graph)
        return -forces, virial, dict(zip(self.leaves, seeds, strict=True))

    def _moments(self, gamma: Tensor, induced: Induced | None) -> Tensor | None:
        """What each atom has of the polarization without an arm, of shape (n_atoms, 3), in e Å."""
        at_atoms = [self.leaves.get("static_moments"), self.leaves.get("static_dipoles")]
        if induced is not None:
            at_atoms.append(induced.dipoles)
        parts = [gamma.unsqueeze(1) * value.to(gamma.dtype) for value in at_atoms if value is not None]
        if induced is not None and induced.flow is not None and self.ends is not None:
            ends = self.ends
            flow = 0.5 * (gamma[ends.receiver] + gamma[ends.sender]) * induced.flow
            parts.append(torch.zeros_like(self.positions).index_add(0, ends.receiver, flow.unsqueeze(1) * ends.vectors))
        return total_of(parts)

    def _by_moments(self, moments: Tensor | None, shares: Tensor | None) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Derivatives of the polarization without arms, by positions at fixed sources and by the sources."""
        if moments is None or self.directions is None:
            return None, {}
        directions = self.directions.to(moments.dtype)
        along = (moments @ directions.T).sum(dim=0)
        if self.term.in_field and shares is not None:
            induced = torch.einsum("a,nab,b->", directions[-1], shares, directions[-1]) / COULOMB_CONSTANT
            along = torch.cat([along[:-1], along[-1:] + 0.5 * induced])
        places = [self.positions] if self.ends is None else [self.positions, self.ends.vectors]
        response, *seeds = self.rows(along, [*places, *self.leaves.values()])
        response = response.transpose(0, 1)
        if self.ends is not None:
            response = response + self.ends.at_ends(seeds.pop(0).transpose(0, 1), self.atoms.n_atoms)
        return response if self.coupling.response is not None else None, dict(zip(self.leaves, seeds, strict=True))

    def rows(self, values: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        """Derivatives of a number for each direction, one row each."""
        return gradient_rows(values, inputs, self.create_graph, self.atoms.n_atoms <= _AT_ONCE)

    def _by_charge(self, placed: Tensor, gamma: Tensor) -> dict[str, Tensor]:
        """Derivatives of the charges that have arms."""
        if self.directions is None or not self.coupling.couples or not self.coupling.has_arms:
            return {}
        seeds = {"static_charges": gamma.to(self.atoms.dtype)}
        if "screening" in self.leaves:
            # softplus' = 1 - exp(-softplus)
            seeds["screening"] = (placed * -torch.expm1(-gamma)).to(self.atoms.dtype)
        return seeds if self.create_graph else {name: seed.detach() for name, seed in seeds.items()}

    def _dynamic(self, charges: Tensor, gamma: Tensor, induced: Induced | None, total: Tensor) -> Tensor | None:
        if not self.coupling.couples:
            return None
        if induced is not None and induced.charges is not None:
            charges = charges + gamma * induced.charges
        return self.neutralized(charges, total)

    def neutralized(self, values: Tensor, total: Tensor) -> Tensor:
        """Values of atoms that sum to a total of each frame."""
        return self.term.neutralize(values, self.atoms, total)

    def _induced_charges(self, induced: Induced | None) -> Tensor | None:
        if induced is None or (induced.flow is None and induced.charges is None):
            return None
        charges = torch.zeros_like(self.positions[:, 0]) if induced.charges is None else induced.charges
        if induced.flow is not None and self.ends is not None:
            charges = charges + self.ends.at_ends(induced.flow, len(charges))
        return charges


def _detached(out: Coupled) -> Coupled:
    """The same without what it was computed from."""
    values = {
        name: value.detach() if isinstance(value, Tensor) else value for name, value in vars(out).items() if name != "seeds"
    }
    return Coupled(out.seeds, **values)
