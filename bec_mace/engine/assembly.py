"""From cotangents of the edge vectors to the response, the forces and the virial."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bec_mace.engine.contract import TermOutput
from bec_mace.engine.environments import Environments


@dataclass(frozen=True)
class Cotangents:
    """Derivatives of the totals with respect to edge vectors.

    Attributes:
        charge: c, of the total charge, of shape (n_edges, 3), in e/Å.
        moments: C_a, of the polarization along each direction, each of shape (n_edges, 3), in e.
        energy: Of shape (n_edges, 3), in eV/Å.
    """

    charge: Tensor | None
    moments: list[Tensor | None]
    energy: Tensor | None


def assemble_response(cotangents: Cotangents, env: Environments, directions: Tensor) -> Tensor:
    """Sum the edge cotangents into dP_a/dr_j, without the charge on the diagonal.

    Returns:
        Of shape (n_atoms, n_directions, 3), in e, atoms in sorted order.
    """
    at_receivers, at_senders = ends_of_response(cotangents, env, directions)
    return env.sum_over_slots(at_receivers) - env.sum_over_senders(at_senders)


def ends_of_response(cotangents: Cotangents, env: Environments, directions: Tensor) -> tuple[Tensor, Tensor]:
    """What each edge adds to the response of its receiver and takes from its sender's, (n_edges, n_directions, 3), in e."""
    zero = env.vectors.new_zeros(env.vectors.shape)
    moments = torch.stack([zero if value is None else value for value in cotangents.moments], dim=1)
    if cotangents.charge is None:
        return moments, moments
    return moments, moments + (env.vectors @ directions.T).unsqueeze(2) * cotangents.charge.unsqueeze(1)


def assemble_forces(cotangent: Tensor | None, env: Environments) -> tuple[Tensor, Tensor]:
    """Forces (n_atoms, 3) in eV/Å, sorted, and virials sum d (x) dE/dd (n_frames, 3, 3) in eV, from the edge cotangents."""
    if cotangent is None:
        cotangent = torch.zeros_like(env.vectors)
    forces = env.sum_over_senders(cotangent) - env.sum_over_slots(cotangent)
    return forces, virial_of(cotangent, env)


def virial_of(cotangent: Tensor, env: Environments) -> Tensor:
    """The sum of d (x) dE/dd over the edges of each frame, of shape (n_frames, 3, 3), in eV."""
    virial = torch.einsum("nsa,nsb->nab", env.vectors.view(env.n_atoms, -1, 3), cotangent.view(env.n_atoms, -1, 3))
    return env.sum_over_frames(virial)


def with_response(response: Tensor, made: TermOutput | None) -> Tensor:
    """The response with the explicit derivatives of a term's polarization."""
    return response if made is None or made.response is None else response + made.response.to(response.dtype)


def with_term(forces: Tensor, virial: Tensor, made: TermOutput | None) -> tuple[Tensor, Tensor]:
    """Forces and virials with the explicit derivatives of a term."""
    if made is not None and made.forces is not None:
        forces = forces + made.forces.to(forces.dtype)
    if made is not None and made.virial is not None:
        virial = virial + made.virial.to(virial.dtype)
    return forces, virial
