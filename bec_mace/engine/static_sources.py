"""Sources that a term makes use of: where the sweep starts from them, and which edges they stand on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bec_mace.engine.contract import OF_ATOMS, Sources
from bec_mace.engine.environments import Environments


def static_starts(
    sources: Sources,
    given: Mapping[str, Tensor],
    vectors: Tensor,
    env: Environments,
    rows: slice,
    edges: slice,
    armed: tuple[Tensor, Tensor] | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Pairs of a source and its cotangent; a flow has them from both ends of its edge.

    Args:
        sources: Of a stage.
        given: Cotangents of the sources of all atoms, by name.
        vectors: The edge vectors that the stage saw.
        env: The environments.
        rows: Places of their atoms among all.
        edges: Places of their edges among all.
        armed: Of a direction: what the static flow brings each atom starts the total charge with, and the direction. The
            charge that a flow takes from its sender is an edge away from the receiver, where all of the edge stands.
    """
    own = [(getattr(sources, name), given.get(name), rows) for name in OF_ATOMS]
    own.append((sources.conductances, given.get("conductances"), edges))
    starts = [(value, seed[places]) for value, seed, places in own if value is not None and seed is not None]
    flow = sources.static_flow
    if flow is not None and (seed := given.get("static_transferred")) is not None:
        ends = _at_receivers(seed[rows], env) - seed[env.sender]
        if armed is not None:
            ends = ends + (env.vectors @ armed[1]) * armed[0][env.sender]
        starts.append((flow, ends))
    if flow is not None and (seed := given.get("static_moments")) is not None:
        with torch.enable_grad():
            moments = flow.unsqueeze(1) * vectors
        starts.append((moments, 0.5 * (_at_receivers(seed[rows], env) + seed[env.sender])))
    return starts


def edge_ends(env: Environments, first: int) -> tuple[Tensor, Tensor, Tensor]:
    """Receiver, sender and vector of each edge of the atoms from place ``first`` on."""
    own = torch.arange(first, first + env.n_atoms, device=env.sender.device)
    return own.repeat_interleave(env.n_slots), env.sender, env.vectors.detach()


def _at_receivers(values: Tensor, env: Environments) -> Tensor:
    """Values of atoms in all their slots."""
    return values.unsqueeze(1).expand(-1, env.n_slots, *values.shape[1:]).reshape(-1, *values.shape[1:])
