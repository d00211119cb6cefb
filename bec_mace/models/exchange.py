r"""Charges that atoms exchange with the whole: their part of Z*, whose arms go through the potential.

.. math:: \delta q_i = - \kappa_i (\phi_i - \bar \phi), \qquad
          Z_{j,ab} \ni \gamma_j \delta q_j \delta_{ab}
          + \sum_i \sum_R (r_i - r_j - R)_a \, \gamma_i \frac{\partial \delta q_i}{\partial r_{j + R, b}}

The potential at an atom comes from all sources and their images, each with its own arm; sources and capacities respond through
the network with further arms. The mean potential does not respond to a displacement wave of long wavelength and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from bec_mace.electrostatics import ChargedFrames, Multipoles, kernels
from bec_mace.electrostatics.response import Induced
from bec_mace.engine.autograd import gradients
from bec_mace.engine.environments import SortedAtoms
from bec_mace.models.coupling import StaticCoupling


class Evaluation(Protocol):
    """What is needed of the evaluation of a term."""

    coupling: StaticCoupling
    atoms: SortedAtoms
    frames: ChargedFrames
    positions: Tensor
    sources: Multipoles
    leaves: dict[str, Tensor]
    directions: Tensor | None
    create_graph: bool

    def rows(self, values: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        """Derivatives of a number for each direction, one row each."""
        ...


class Exchange:
    """Seeds of the sweep and explicit derivatives; see the module.

    Args:
        evaluation: Of the term.
        induced: What the sources induce, the charges among it.
        gamma: The screening of each atom.
    """

    def __init__(self, evaluation: Evaluation, induced: Induced, gamma: Tensor) -> None:
        self.on, self.induced, self.gamma = evaluation, induced, gamma
        self.weights = -gamma * evaluation.leaves["capacities"].to(gamma.dtype)
        self.directions = torch.zeros(0, 3) if evaluation.directions is None else evaluation.directions.to(gamma.dtype)
        # All of it is linear in the sources, each of which is varied by itself.
        charges, dipoles, quadrupoles = evaluation.sources.charges, evaluation.sources.dipoles, evaluation.sources.quadrupoles
        named = {"static_charges": charges, "static_dipoles": dipoles, "static_quadrupoles": quadrupoles}
        self.sources = {name: value for name, value in named.items() if value is not None}
        inputs = list(self.sources.values())
        self.potentials = dict(
            zip(self.sources, gradients((self.weights * induced.potential).sum(), inputs, evaluation.create_graph), strict=True)
        )
        places = evaluation.positions.detach().requires_grad_()
        moments = evaluation.coupling.coulomb.arm_moments(self.weights, evaluation.sources, evaluation.frames, places).sum(
            dim=0
        )
        self.by_place, *self.by_source = evaluation.rows(self.directions @ moments, [places, *inputs])

    def by_charge(self) -> dict[str, Tensor]:
        """Of the total charge: what begins with an arm."""
        dtype, charges = self.on.atoms.dtype, self.induced.charges
        seeds = {name: value.to(dtype) for name, value in self.potentials.items()}
        seeds["static_transferred"] = seeds["static_charges"]
        if charges is not None:
            seeds["capacities"] = (self.gamma * charges / self.on.leaves["capacities"]).to(dtype)
            if "screening" in self.on.leaves:
                seeds["screening"] = (charges * -torch.expm1(-self.gamma)).to(dtype)
        return {name: seed if self.on.create_graph else seed.detach() for name, seed in seeds.items()}

    def by_moments(self) -> dict[str, Tensor]:
        """Of the polarization along each direction: arms of the potential."""
        seeds = {name: row.to(self.on.atoms.dtype) for name, row in zip(self.sources, self.by_source, strict=True)}
        return {**seeds, "static_transferred": seeds["static_charges"]}

    def explicit(self) -> Tensor:
        """The derivative by positions at fixed sources, of shape (n_atoms, n_directions, 3), in e."""
        return self.by_place.transpose(0, 1) + self._own().view(-1, 1, 1) * self.directions

    def _own(self) -> Tensor:
        """What all weighted points have of the potential of each source, its own point included in a crystal."""
        total = torch.zeros_like(self.weights)
        for name, value in self.sources.items():
            part = (value * self.potentials[name]).to(total.dtype)
            total = total + part.flatten(1).sum(dim=1) if part.dim() > 1 else total + part
        crystal = self.on.frames.pbc.all(dim=1)[self.on.frames.frame_index]
        own = self.weights * self.on.sources.charges * kernels.at_zero(self.on.coupling.coulomb.smearing)
        return total + own.where(crystal, torch.zeros_like(own))


def add(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sum by name."""
    both = {name: one[name] + other[name] for name in one.keys() & other.keys()}
    return {**one, **other, **both}
