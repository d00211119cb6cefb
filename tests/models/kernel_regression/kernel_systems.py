"""Small kernel models with random weights, and their Z* by a way of its own."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from bec_mace.config.model import KernelModelConfig
from bec_mace.data import Frame, Statistics
from bec_mace.models import KernelModel, build_kernel_model
from bec_mace.models.kernel_regression.basis import bessel_zeros
from bec_mace.testing.oracle import build_cluster, respond_to_charges, respond_to_home, subtract_mean
from bec_mace.testing.structures import ELEMENTS

STATISTICS = Statistics(5.0, {1: 0.3, 6: 0.1, 8: -0.6}, {}, None)


@cache
def make_kernel_model(
    heads: tuple[str, ...], rule: str | None = "none", zeta: int = 2, r_max: float = 2.6, **keys: object
) -> KernelModel:
    """A model with random representatives and weights. Do not change it: it is shared."""
    config = KernelModelConfig.model_validate(
        {
            "kind": "kernel",
            "r_max": r_max,
            "num_radial": 4,
            "max_l": 3,
            "heads": list(heads),
            "zeta": zeta,
            "num_representatives": {"H": 4, "C": 7, "O": 5},
            "acoustic_sum_rule": rule,
            **keys,
        }
    )
    model = build_kernel_model(config, ELEMENTS, STATISTICS, torch.float64)
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    n, n_invariants = model.representatives.shape
    model.representatives.copy_(normal(n, n_invariants) * 3 / n_invariants**0.5)
    model.directions.copy_(normal(*model.directions.shape))
    model.set_weights(0.7 * normal(model.n_weights))
    if config.uncertainty:
        model.posterior.copy_(0.05 * normal(*model.posterior.shape))
        model.noise.fill_(0.02)
        model.calibration.copy_(torch.tensor([0.8, 1.1, 1.3]))
    return model


def radial_functions(model: KernelModel, lengths: Tensor, degree: int) -> Tensor:
    """R_nl from spherical Bessel functions by recursion, of shape (n, n_functions)."""
    config, columns = model.config, []
    for zero in bessel_zeros(degree, config.num_radial * math.pi):
        x = zero / config.r_max * lengths
        end = torch.tensor(zero, dtype=torch.float64)
        norm = math.sqrt(2 / config.r_max**3) / abs(bessel(end, degree + 1).item())
        cutoff = (0.5 * (1 + torch.cos(math.pi * lengths / config.r_max))) ** 2
        columns.append(norm * bessel(x, degree) * cutoff * math.exp(-0.5 * (zero / config.r_max * config.smearing) ** 2))
    return torch.stack(columns, dim=1)


def bessel(x: Tensor, degree: int) -> Tensor:
    last, here = torch.cos(x) / x, torch.sin(x) / x
    for l in range(degree):  # noqa: E741
        last, here = here, (2 * l + 1) / x * here - last
    return here


def kernel_oracle(model: KernelModel, frame: Frame) -> dict[str, Tensor]:
    """Z* of each head and of the references by a finite cluster, e3nn's harmonics and plain automatic differentiation."""
    torch.serialization.add_safe_globals([slice])
    from e3nn import o3

    config, n_elements = model.config, len(ELEMENTS)
    cluster = build_cluster(frame, model.r_max, 2 * model.r_max)
    vectors = cluster.positions[cluster.receiver] - cluster.positions[cluster.sender]
    species = torch.tensor([ELEMENTS.index(int(z)) for z in cluster.atomic_numbers])
    place = cluster.receiver * n_elements + species[cluster.sender]
    parts = []
    for degree in range(config.max_l + 1):
        harmonics = o3.spherical_harmonics(degree, vectors, True, normalization="integral")
        edge = radial_functions(model, vectors.norm(dim=1), degree).unsqueeze(2) * harmonics.unsqueeze(1)
        summed = edge.new_zeros(len(species) * n_elements, *edge.shape[1:]).index_add(0, place, edge)
        parts.append(summed.view(len(species), -1, 2 * degree + 1))
    power = torch.cat(
        [(part @ part.transpose(1, 2)).flatten(1) / math.sqrt(2 * degree + 1) for degree, part in enumerate(parts)], dim=1
    )
    norms = torch.sqrt(power.square().sum(dim=1) + model.descriptors.floor**2)
    vector_parts = []
    for degree in range(config.max_l):
        coupling = model.descriptors._coupling(degree)
        coupled = torch.einsum("ixm,iyp,mpa->iaxy", parts[degree], parts[degree + 1], coupling)
        vector_parts.append(coupled.flatten(2))
    overlaps = power / norms.unsqueeze(1) @ model.representatives.T
    own = torch.repeat_interleave(torch.arange(n_elements), torch.tensor(model.sizes)) == species.unsqueeze(1)
    found = {}
    if "monopole" in model.heads:
        charges = (overlaps.pow(config.zeta) * own) @ model.heads["monopole"].weights
        found["monopole"] = respond_to_charges(cluster, charges, cluster.distance < model.r_max)
    if "dipole" in model.heads:
        weights = overlaps.pow(config.zeta - 1) * own * model.heads["dipole"].weights
        projected = torch.cat(vector_parts, dim=2) / norms.view(-1, 1, 1) @ model.directions.T
        dipoles = (projected * weights.unsqueeze(1)).sum(dim=2)
        found["dipole"] = respond_to_home(cluster, dipoles[: cluster.n_home].sum(dim=0))
    references = subtract_mean(model.reference_charges[species[: cluster.n_home]])
    found["reference"] = references[:, None, None] * torch.eye(3, dtype=torch.float64)
    return {name: value.detach() for name, value in found.items()}
