"""Small models with random weights."""

from __future__ import annotations

from functools import cache

import torch

from bec_mace.config.model import ModelConfig
from bec_mace.data import Statistics
from bec_mace.models import CommitteeModel, PolarizationModel, build_kernel_model, build_model
from bec_mace.testing.structures import ELEMENTS

# Fresh weights give small and nearly isotropic tensors, which would hide errors.
_GAINS = {"charge_transfer": 1.6, "direct": 6.0, "polarizability": 1.0}

ALL_HEADS = ("monopole", "charge_transfer", "dipole", "direct")
HEAD_SETS = (
    ("monopole",),
    ("dipole",),
    ("charge_transfer",),
    ("direct",),
    ("monopole", "dipole"),
    ("monopole", "charge_transfer", "dipole"),
    ALL_HEADS,
)


def copy_model(
    model: PolarizationModel, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> PolarizationModel:
    """A second model with the same weights, free to change; in the precision and on the device of the first by default."""
    if isinstance(model, CommitteeModel):
        return CommitteeModel([copy_model(member, dtype, device) for member in model.networks])
    with torch.random.fork_rng(devices=[]):
        build = build_kernel_model if model.config.kind == "kernel" else build_model
        copy = build(model.config, model.elements, model.statistics, dtype or model.reference_charges.dtype)
    copy.load_state_dict(model.state_dict())
    return copy.to(device or model.reference_charges.device)


@cache
def make_model(
    heads: tuple[str, ...],
    num_interactions: int = 2,
    acoustic_sum_rule: str | None = "none",
    dtype: torch.dtype = torch.float64,
    r_max: float = 2.6,
    **sizes: object,
) -> PolarizationModel:
    """A network with random weights that depend on the sizes alone. Do not change it: it is shared.

    Args:
        heads: As in a configuration; ``module:Class`` for one from outside the package.
        num_interactions: Number of layers.
        acoustic_sum_rule: As in a configuration.
        dtype: Of the weights.
        r_max: Cutoff in Å.
        **sizes: Further keys of the section ``model``.
    """
    small = {"channels": 3, "max_l": 2, "correlation": 2, "num_radial": 4, "radial_mlp": (8,), "readout_mlp": (5,)}
    sizes = {**small, **sizes}
    config = ModelConfig.model_validate(
        {
            **{name: list(value) if isinstance(value, tuple) else value for name, value in sizes.items()},
            "r_max": r_max,
            "heads": list(heads),
            "num_interactions": num_interactions,
            "acoustic_sum_rule": acoustic_sum_rule,
        }
    )
    statistics = Statistics(
        avg_num_neighbors=1.5,
        reference_charges={1: 0.3, 6: 0.15, 8: -0.5},
        reference_energies={1: -1.1, 6: -2.7, 8: -4.3},
        rms_forces=0.7,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(7)
        model = build_model(config, ELEMENTS, statistics, torch.float64)
        for name, head in model.heads.items():
            # The same weights in every head set: the oracle of all heads together then serves all sets.
            torch.manual_seed(len(name))
            for module in head.modules():
                if isinstance(module, torch.nn.Linear):
                    module.reset_parameters()
            for parameter in head.parameters():
                parameter.mul_(_GAINS.get(name, 3.0))
    return model.to(dtype)


def make_static_model(
    heads: tuple[str, ...],
    screening: str,
    sources: tuple[str, ...] | None = None,
    response: dict[str, str] | None = None,
    **options: object,
) -> PolarizationModel:
    """A small network whose charges act through Coulomb's law, with a screening that depends on the environment.

    Args:
        heads: As in a configuration, ``energy`` among them.
        screening: As in a configuration.
        sources: As in a configuration; all charges by default.
        response: As in a configuration.
        **options: Of :func:`make_model`.
    """
    chosen = sources or tuple(head for head in heads if head in ("monopole", "charge_transfer", "static_charges"))
    section: dict[str, object] = {"sources": list(chosen), "screening": screening, "epsilon_infinity": 1.78}
    if response is not None:
        section["response"] = response
    model = make_model(heads, electrostatics=_Hashable(section), **options)
    coupling = model.electrostatics
    if coupling is not None:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            for part in (coupling.readouts, coupling.response):
                torch.manual_seed(3)
                for module in () if part is None else part.modules():
                    if isinstance(module, torch.nn.Linear):
                        module.reset_parameters()
                        module.weight.mul_(3.0 if part is coupling.response else 1.0)
            coupling.mean_polarizabilities.copy_(torch.tensor([0.01 * (1 + n) for n in range(len(model.elements))]))
    return model


class _Hashable(dict[str, object]):
    """A section of a configuration that can be part of a key."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(sorted(self.items())))
