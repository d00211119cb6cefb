"""Small mace models with random weights, and models of ours on them."""

from __future__ import annotations

import warnings
from functools import cache
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bec_mace.config.model import ModelConfig
from bec_mace.data import Frame, Statistics, build_graph
from bec_mace.models import PolarizationModel, build_model
from bec_mace.models.mace import backbone

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from e3nn import o3
    from mace import modules

STATISTICS = Statistics(
    avg_num_neighbors=9.0, reference_charges={1: 0.3, 6: 0.15, 8: -0.5}, reference_energies={1: 5.0}, rms_forces=0.4
)
ENERGIES = np.array([-13.6, -1029.1, -2042.7])
RESIDUAL, PLAIN = "RealAgnosticResidualInteractionBlock", "RealAgnosticInteractionBlock"
DENSITY, DENSITY_RESIDUAL = "RealAgnosticDensityInteractionBlock", "RealAgnosticDensityResidualInteractionBlock"
MODELS: dict[str, dict[str, Any]] = {
    "usual": {"hidden": "4x0e + 4x1o", "correlation": [2, 2]},
    "plain first": {"hidden": "3x0e + 3x1o", "correlation": [3, 2], "first": PLAIN},
    "2e": {"hidden": "2x0e + 2x1o + 2x2e", "correlation": [2, 3], "max_ell": 3},
    "scalars": {"hidden": "6x0e", "correlation": [2, 3], "first": PLAIN},
    "one layer": {"hidden": "4x0e + 4x1o", "correlation": [2], "num_interactions": 1},
    "three layers, gaussian": {
        "hidden": "2x0e + 2x1o",
        "correlation": [2, 1, 2],
        "num_interactions": 3,
        "max_ell": 1,
        "radial_type": "gaussian",
    },
    "all irreps after the last": {"hidden": "2x0e + 2x1o", "correlation": [2, 2], "keep_last_layer_irreps": True},
    "last readout alone, tanh": {
        "hidden": "2x0e + 2x1o",
        "correlation": [2, 2],
        "use_last_readout_only": True,
        "gate": torch.tanh,
    },
    "no gate": {"hidden": "2x0e", "correlation": [1, 1], "gate": None},
    "unscaled": {"hidden": "2x0e + 2x1o", "correlation": [2, 2], "scaled": False},
    "agnesi": {"hidden": "2x0e + 2x1o", "correlation": [2, 2], "distance_transform": "Agnesi"},
    "repulsion": {"hidden": "2x0e + 2x1o", "correlation": [2, 2], "pair_repulsion": True},
    "repulsion, unscaled": {"hidden": "2x0e", "correlation": [2, 2], "pair_repulsion": True, "scaled": False},
    "density": {
        "hidden": "3x0e + 3x1o",
        "correlation": [3, 2],
        "first": DENSITY,
        "others": DENSITY_RESIDUAL,
        "distance_transform": "Agnesi",
        "pair_repulsion": True,
    },
    "density, three layers": {
        "hidden": "2x0e + 2x1o",
        "correlation": [2, 1, 2],
        "num_interactions": 3,
        "max_ell": 1,
        "first": DENSITY_RESIDUAL,
        "others": DENSITY_RESIDUAL,
    },
    "another order of elements": {"hidden": "2x0e + 2x1o", "correlation": [2, 2], "numbers": (8, 1, 6)},
}


@cache
def mace_model(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """A small mace model with random weights. Do not change it: it is shared."""
    options = dict(MODELS[name])
    numbers, first = options.pop("numbers", (1, 6, 8)), options.pop("first", RESIDUAL)
    scaled, others = options.pop("scaled", True), options.pop("others", RESIDUAL)
    sizes = {
        "r_max": 2.6,
        "num_bessel": 4,
        "num_polynomial_cutoff": 5,
        "max_ell": 2,
        "num_interactions": 2,
        "num_elements": 3,
        "hidden_irreps": o3.Irreps(options.pop("hidden")),
        "MLP_irreps": o3.Irreps("5x0e"),
        "avg_num_neighbors": 3.1,
        "interaction_cls": modules.interaction_classes[others],
        "gate": torch.nn.functional.silu,
        "radial_MLP": [8],
        "interaction_cls_first": modules.interaction_classes[first],
        "atomic_numbers": list(numbers),
        "atomic_energies": ENERGIES[[(1, 6, 8).index(z) for z in numbers]],
        "use_reduced_cg": False,
        **options,
    }
    if scaled:
        sizes |= {"atomic_inter_scale": 1.3, "atomic_inter_shift": 0.2}
    with torch.random.fork_rng(devices=[]), backbone._building(dtype):
        torch.manual_seed(3)
        return (modules.ScaleShiftMACE if scaled else modules.MACE)(**sizes)


def build(
    path: str,
    heads: tuple[Any, ...] = ("monopole",),
    freeze: bool = True,
    elements: tuple[int, ...] = (1, 8),
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> PolarizationModel:
    config = ModelConfig.model_validate(
        {"backbone": {"from_mace": path, "freeze": freeze}, "heads": list(heads), "readout_mlp": [5], **options}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = build_model(config, elements, STATISTICS, dtype)
        with torch.no_grad():  # Fresh heads give small and nearly isotropic tensors, which would hide errors.
            for name, head in model.heads.items():
                for parameter in head.parameters() if name != "energy" else ():
                    parameter.mul_(4.0)
    return model


@cache
def built(name: str, heads: tuple[str, ...] = ("monopole",), freeze: bool = True) -> PolarizationModel:
    """Our model on one of them. Do not change it: it is shared."""
    with pytest.MonkeyPatch.context() as patch, NamedTemporaryFile(suffix="user.model") as file:
        patch.setattr(torch, "load", lambda *_, **__: mace_model(name))
        return build(file.name, heads, freeze, acoustic_sum_rule="none")


def mace_results(module: Any, frame: Frame) -> dict[str, Tensor]:
    """mace's own forward pass, which takes the precision of 14.4 eV Å Z Z' from torch's default."""
    graph = build_graph(frame, float(module.r_max))
    cell = graph.cell[0].clone()
    with backbone._building(torch.float64):
        out = module(
            {
                "positions": graph.positions.clone(),
                "edge_index": graph.edge_index,
                "cell": cell,
                "batch": graph.frame_index,
                "node_attrs": (graph.atomic_numbers[:, None] == module.atomic_numbers).to(graph.positions),
                "shifts": -graph.edge_shifts @ cell,
                "unit_shifts": -graph.edge_shifts,
                "ptr": torch.tensor([0, graph.n_atoms]),
            },
            compute_stress=bool(frame.pbc.all()),
        )
    return {name: out[name].detach() for name in ("energy", "forces", "stress") if out[name] is not None}


def largest(difference: Tensor) -> float:
    return difference.abs().max().item()
