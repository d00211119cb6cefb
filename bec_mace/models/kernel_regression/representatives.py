"""The choice of representative environments, by farthest points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from ase.data import chemical_symbols
from torch import Tensor

from bec_mace.config.model import KernelModelConfig
from bec_mace.data import Frame, build_graph
from bec_mace.models.kernel_regression.kernel import element_slices
from bec_mace.models.kernel_regression.kernel_model import KernelModel

CANDIDATES = 20
"""Candidates for each representative; more of them change the choice little."""
_FLAT = 0.1


@dataclass(frozen=True)
class Candidates:
    """Environments of one element.

    Attributes:
        invariants: Of shape (n, n_invariants).
        directions: The vectors along one axis, of length 1, of shape (n, n_vectors).
    """

    invariants: Tensor
    directions: Tensor


def collect_candidates(model: KernelModel, frames: Iterable[Frame], limit: int, seed: int) -> list[Candidates]:
    """Descriptors of the atoms of each element, at most ``limit`` of each in a frame, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    device = model.reference_charges.device
    parts_by_element: list[list[Candidates]] = [[] for _ in model.elements]
    with torch.no_grad():
        for frame in frames:
            env = model.environments(build_graph(frame, model.r_max).to(device))
            densities = model.descriptors.density(env, model.kernel().element_of(env)[env.sender])
            for number, atoms in enumerate(element_slices(env.counts)):
                count = atoms.stop - atoms.start
                chosen = torch.randperm(count, generator=generator)[:limit].sort().values + atoms.start
                described = model.descriptors(densities[chosen.to(device)])
                parts_by_element[number].append(Candidates(described.invariants, one_axis(described.vectors)))
    return [
        Candidates(torch.cat([part.invariants for part in parts]), torch.cat([part.directions for part in parts]))
        for parts in parts_by_element
    ]


def one_axis(vectors: Tensor) -> Tensor:
    """Vectors (n, 3, n_vectors) along x, y, z by turns, or the longest where that is flat; of length 1 where not zero."""
    axes = torch.arange(vectors.shape[0], device=vectors.device) % 3
    lengths = torch.linalg.vector_norm(vectors, dim=2)
    longest, where = lengths.max(dim=1)
    turn = lengths.gather(1, axes.unsqueeze(1)).squeeze(1)
    axes = torch.where(turn < _FLAT * longest, where, axes)
    chosen = vectors[torch.arange(len(axes), device=axes.device), axes]
    result: Tensor = chosen / torch.linalg.vector_norm(chosen, dim=1, keepdim=True).clamp(min=torch.finfo(chosen.dtype).tiny)
    return result


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Indices of points each of which is as far as possible from those before it, starting at the one nearest to the mean.

    Args:
        points: Of shape (n, n_dimensions).
        count: How many, at most n. Points that coincide with a chosen one are never chosen.

    Returns:
        Of shape (at most count,).
    """
    first = int((points - points.mean(dim=0)).square().sum(dim=1).argmin())
    squares = points.square().sum(dim=1)
    chosen = [first]
    distances = torch.full_like(squares, torch.inf)
    while len(chosen) < min(count, len(points)):
        last = chosen[-1]
        distances = torch.minimum(distances, squares + squares[last] - 2 * points @ points[last])
        farthest = int(distances.argmax())
        if distances[farthest] <= 1e-12 * squares[farthest]:
            break
        chosen.append(farthest)
    return torch.tensor(chosen, device=points.device)


def choose(candidates: Mapping[int, Candidates], sizes: Mapping[int, int]) -> dict[int, Candidates]:
    """Representatives by atomic number."""
    chosen = {}
    for z, candidates_of_z in candidates.items():
        index = farthest_points(candidates_of_z.invariants, sizes[z])
        chosen[z] = Candidates(candidates_of_z.invariants[index], candidates_of_z.directions[index])
    return chosen


def resolve_sizes(config: KernelModelConfig, chosen: Mapping[int, Candidates]) -> KernelModelConfig:
    """The configuration with the number of representatives that there really are."""
    sizes = {chemical_symbols[z]: len(candidates_of_z.invariants) for z, candidates_of_z in chosen.items()}
    return config.model_copy(update={"num_representatives": sizes})


def install(model: KernelModel, chosen: Mapping[int, Candidates]) -> None:
    """Put representatives into a model that was built for their number."""
    with torch.no_grad():
        model.representatives.copy_(torch.cat([chosen[z].invariants for z in model.elements]))
        model.directions.copy_(torch.cat([chosen[z].directions for z in model.elements]))
