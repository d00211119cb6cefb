"""Energies, potentials, forces and virials of smeared multipoles, each the exact derivative of one energy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from bec_mace.electrostatics import kernels
from bec_mace.electrostatics.charged_frames import ChargedFrames
from bec_mace.electrostatics.direct_sum import direct_arm_moments, direct_energies
from bec_mace.electrostatics.mesh_sum import MeshSum
from bec_mace.electrostatics.multipoles import Multipoles
from bec_mace.electrostatics.reciprocal_sum import ReciprocalSum
from bec_mace.electrostatics.slabs import dipole_energies, enclosing_cells
from bec_mace.electrostatics.wavevectors import WavevectorSum
from bec_mace.errors import ModelError

Method = Literal["auto", "direct", "reciprocal", "mesh"]

_LARGE = 1000
"""Atoms from which on a mesh is faster than the sum over wavevectors."""
_NEUTRAL = 1e-6
"""Charge of a slab, in e, that counts as none."""


@dataclass(frozen=True)
class Interaction:
    """What charges do to each other.

    Attributes:
        energies: Of shape (n_frames,), in eV.
        potential: dE/dq at each atom, of shape (n_atoms,), in V.
        forces: At fixed charges, of shape (n_atoms, 3), in eV/Å.
        virial: The derivative by a strain of crystals at fixed charges, of shape (n_frames, 3, 3), in eV; zero of others.
    """

    energies: Tensor
    potential: Tensor
    forces: Tensor
    virial: Tensor


@dataclass(frozen=True)
class Coulomb:
    r"""Coulomb's law for Gaussian charges.

    .. math:: E = \tfrac12 \sum_{i \ne j} q_i q_j v(r_{ij}), \qquad v(r) = k_e \operatorname{erf}(r / \sqrt2 \sigma) / r

    over all images of a crystal, without a macroscopic field ("tin foil"), or of a slab, and the same with dipoles and
    quadrupoles, which stand for derivatives of v. A charged crystal stands in a uniform background. All is computed in the
    precision of the positions.

    Args:
        smearing: sigma, in Å.
        tolerance: Error that is allowed in an energy, in eV/e^2.
        method: ``"reciprocal"`` or ``"mesh"`` for what is periodic, or by size with ``"auto"``; ``"direct"`` allows molecules
            alone.
    """

    smearing: float = 1.0
    tolerance: float = 1e-6
    method: Method = "auto"

    def energies(self, sources: Tensor | Multipoles, frames: ChargedFrames, strain: Tensor | None = None) -> Tensor:
        """Energies of all frames, of shape (n_frames,), in eV; differentiable as often as needed.

        Args:
            sources: Charges of shape (n_atoms,), in e, or multipoles.
            frames: The structures.
            strain: A deformation of positions and cells, of shape (n_frames, 3, 3), to differentiate by; crystals alone.

        Raises:
            ModelError: A wire, a charged slab, or a method that does not fit.
        """
        multipoles = Multipoles.of(sources)
        energies = frames.positions.new_zeros(frames.n_frames)
        for kind, numbers in frames.numbers.items():
            if numbers:
                chosen = torch.tensor(numbers, device=energies.device)
                energies = energies.index_add(0, chosen, self._of_kind(kind, numbers, multipoles, frames, strain))
        return energies

    def interaction(self, charges: Tensor, frames: ChargedFrames, create_graph: bool = False) -> Interaction:
        """Energies and their derivatives; see :meth:`energies`.

        Args:
            charges: Of shape (n_atoms,), in e; the potential can be differentiated through them with ``create_graph``.
            frames: The structures.
            create_graph: Whether the result can be differentiated again.
        """
        with torch.enable_grad():
            given = charges if charges.requires_grad and create_graph else charges.detach().requires_grad_()
            positions = frames.positions.detach().requires_grad_()
            strain = frames.cell.new_zeros(frames.cell.shape).requires_grad_()
            moved = replace(frames, positions=positions)
            energies = self.energies(given, moved, strain)
            gradients = torch.autograd.grad(
                energies.sum(), [given, positions, strain], create_graph=create_graph, allow_unused=True, materialize_grads=True
            )
        if not create_graph:
            energies = energies.detach()
        return Interaction(energies, gradients[0], -gradients[1], gradients[2])

    def arm_moments(self, weights: Tensor, sources: Multipoles, frames: ChargedFrames, places: Tensor) -> Tensor:
        r"""Potentials of sources at weighted points, times the arms from the sources to the points, over all images.

        .. math:: W_a = \sum_{ik} w_i \sum_R (r_i - r_k + R)_a \, \phi_k(r_i - r_k + R)

        Args:
            weights: w of each atom, of shape (n_atoms,), in e.
            sources: Of the atoms.
            frames: The structures; the atoms are the points.
            places: Positions of the sources, to be differentiated by; of shape (n_atoms, 3), in Å.

        Returns:
            Of shape (n_frames, 3), in eV Å.

        Raises:
            ModelError: A slab or a wire.
        """
        moments = frames.positions.new_zeros((frames.n_frames, 3))
        for kind, numbers in frames.numbers.items():
            if not numbers:
                continue
            if kind == "slab":
                raise ModelError(
                    f"frame {numbers[0]} of the batch is a slab, of which charges that atoms exchange with the whole "
                    "(response.charges: atoms) give no Z*; take edges, or a cell that is periodic in three directions."
                )
            index, there = frames.rows(numbers)
            positions, sites = frames.positions[index], places[index]
            row = Multipoles(weights).rows(index, there, positions.dtype).charges
            held = sources.rows(index, there, positions.dtype)
            if kind == "molecule":
                found = direct_arm_moments(row, held, positions, sites, there, self.smearing)
            else:
                cell = frames.cell[numbers]
                inverse = torch.linalg.inv(cell)
                waves = self._sum(index.shape[1])(cell, self.smearing, self.tolerance, frames.precision)
                found = waves.arm_moments(row, positions @ inverse, held, sites @ inverse, cell)
            moments = moments.index_add(0, torch.tensor(numbers, device=moments.device), found)
        return moments

    def _of_kind(
        self, kind: str, numbers: list[int], sources: Multipoles, frames: ChargedFrames, strain: Tensor | None
    ) -> Tensor:
        places, there = frames.rows(numbers)
        positions = frames.positions[places]
        values = sources.rows(places, there, positions.dtype)
        if kind == "molecule":
            return direct_energies(values, positions, there, self.smearing)
        if self.method == "direct":
            raise ModelError(
                f"electrostatics.method is direct, which sums over molecules alone, but frame {numbers[0]} of the batch is "
                "periodic; use auto, reciprocal or mesh."
            )
        itself = kernels.with_themselves(values, self.smearing)
        if kind == "slab":
            return self._of_slabs(numbers, values, positions, there, frames) - itself
        cell = frames.cell[numbers]
        fractional = positions @ torch.linalg.inv(cell)
        strained = cell if strain is None else cell + cell @ strain[numbers]
        waves = self._sum(places.shape[1])(cell, self.smearing, self.tolerance, frames.precision)
        return waves.energies(values, fractional, strained) - itself

    def _of_slabs(
        self, numbers: list[int], values: Multipoles, positions: Tensor, there: Tensor, frames: ChargedFrames
    ) -> Tensor:
        total = values.charges.sum(dim=1).detach()
        if bool((total.abs() > _NEUTRAL).any()):
            number = int(torch.argmax(total.abs()))
            raise ModelError(
                f"frame {numbers[number]} of the batch is a slab with a charge of {float(total[number]):.3g} e: its energy is "
                "infinite; make it neutral, or periodic in three directions."
            )
        flat = positions.detach()
        cell = enclosing_cells(frames.cell[numbers], frames.pbc[numbers], flat, there, self.smearing, self.tolerance)
        wide = self._sum(values.charges.shape[1])(cell, self.smearing, self.tolerance, frames.precision)
        energies = wide.energies(values, positions @ torch.linalg.inv(cell), cell)
        return energies + dipole_energies(values, positions, cell)

    def _sum(self, n_atoms: int) -> type[WavevectorSum]:
        if self.method == "mesh" or (self.method == "auto" and n_atoms > _LARGE):
            return MeshSum
        return ReciprocalSum
