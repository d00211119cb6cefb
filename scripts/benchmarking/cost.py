"""Cost of Z*, of mace's own kernels and of training, each over that of energy and forces."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from bec_mace.config.model import ModelConfig
from bec_mace.config.schema import TrainingConfig
from bec_mace.data import compute_statistics
from bec_mace.data.graph import Graph
from bec_mace.engine.environments import Environments, build_environments
from bec_mace.models import PolarizationModel, build_model
from bec_mace.models.mace.convolution import Convolution
from benchmarking.systems import R_MAX, Sizes, Z, build, graph_of, measure, medians, ratio

HEAD_SETS = {
    "monopole": ["monopole"],
    "charge_transfer": ["charge_transfer"],
    "dipole": ["dipole"],
    "monopole+dipole": ["monopole", "dipole"],
}
REFERENCE = "energy+forces"


def ratios(sizes: Sizes) -> dict[str, Any]:
    """Full Z*, and the forces of a field alone, over energy and forces of the same backbone."""
    graph = graph_of(sizes.frames()[0], sizes)
    field = torch.tensor([[0.03, -0.05, 0.08]], device=sizes.device)
    reference = build(["energy"], sizes)
    jobs: dict[str, Callable[[], object]] = {REFERENCE: lambda: reference(graph, ("energy", "forces"))}
    for name, heads in HEAD_SETS.items():
        model = build(heads, sizes)
        jobs[name] = lambda model=model: model(graph, (Z,))
        jobs[f"{name}, field forces"] = lambda model=model: model(graph, (Z,), directions=field)
        both = build([*heads, "energy"], sizes)
        jobs[f"{name}, field forces, one pass"] = lambda model=both: model(graph, (Z, "energy", "forces"), directions=field)
    monopole = build(["monopole"], sizes)
    jobs["phase"] = lambda: phase_response(monopole, graph)
    times = measure(jobs, sizes.repeats, sizes.device)
    found = {name: ratio(times, name, REFERENCE) for name in jobs if name != REFERENCE}
    return {
        "n_atoms": graph.n_atoms,
        "n_edges": graph.n_edges,
        "ratios": {name: found[name] for name in (*HEAD_SETS, "phase")},
        "field_forces": {name: found[f"{name}, field forces"] for name in HEAD_SETS},
        "field_forces_over_full": {name: ratio(times, f"{name}, field forces", name) for name in HEAD_SETS},
        "field_forces_extra": {name: found[f"{name}, field forces, one pass"] - 1 for name in HEAD_SETS},
        "seconds": medians(times),
    }


def phase_response(model: PolarizationModel, graph: Graph) -> torch.Tensor:
    """Z* of a monopole model by the phase form, through plain autograd from positions to charges; orthogonal cell."""
    species = model._species(graph)
    positions = graph.positions.to(model.dtype).detach().requires_grad_(True)
    env = build_environments(graph, species, len(model.elements), model.r_max, model.dtype)
    receiver = torch.arange(env.n_atoms, device=species.device).repeat_interleave(env.n_slots)
    ordered = positions[env.order]
    shift = env.vectors - (ordered[receiver] - ordered[env.sender]).detach()
    vectors = ordered[receiver] - ordered[env.sender] + shift
    charges = _charges(model, env, vectors)
    lengths = torch.diagonal(graph.cell[0]).to(positions)
    phase = 2 * math.pi * ordered / lengths
    rows = []
    for axis in range(3):
        real = (charges * torch.sin(phase[:, axis])).sum() * lengths[axis] / (2 * math.pi)
        imaginary = -(charges * torch.cos(phase[:, axis])).sum() * lengths[axis] / (2 * math.pi)
        d_real = torch.autograd.grad(real, positions, retain_graph=True)[0]
        d_imaginary = torch.autograd.grad(imaginary, positions, retain_graph=True)[0]
        angle = 2 * math.pi * positions.detach()[:, axis : axis + 1] / lengths[axis]
        rows.append(d_real * torch.cos(angle) + d_imaginary * torch.sin(angle))
    return torch.stack(rows, dim=1)


class _Messages(torch.autograd.Function):
    """The edge convolution as an ordinary operation of autograd: one cotangent at a time."""

    @staticmethod
    def forward(ctx: Any, feats: torch.Tensor, harmonics: torch.Tensor, lengths: torch.Tensor, plan: Any, radial: Any) -> Any:
        ctx.save_for_backward(feats, harmonics)
        ctx.plan, ctx.radial = plan, radial
        return plan(feats, harmonics, radial[0])

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        by_feats, by_harmonics, by_lengths = ctx.plan.pull(*ctx.saved_tensors, *ctx.radial, cotangent.unsqueeze(0), True)
        return by_feats[0], by_harmonics[0], by_lengths[0], None, None


def _charges(model: PolarizationModel, env: Environments, vectors: torch.Tensor) -> torch.Tensor:
    node_feats = model.backbone.embed_nodes(env)
    edges = model.backbone.embed_edges(vectors, env)
    total = torch.zeros((), device=vectors.device)
    for number, layer in enumerate(model.backbone.layers):
        sender_feats = env.gather(layer.prepare(node_feats))
        plan, radial = Convolution(layer._paths, env.n_slots), layer._radial_weights(edges)
        messages = _Messages.apply(sender_feats, edges.harmonics, edges.lengths, plan, radial)
        node_feats = layer.update(node_feats, messages, env, frozen=True)
        total = total + model.heads["monopole"].read(number, node_feats, env).charges
    return total


def mace(sizes: Sizes) -> dict[str, Any]:
    """Energy and forces of one mace model, by mace itself and by this package, from the same file and the same graph."""
    module = _mace_module(sizes)
    frame = sizes.frames()[0]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mace.model"
        torch.save(module, path)
        config = ModelConfig.model_validate({"backbone": {"from_mace": str(path), "freeze": True}, "heads": ["energy"]})
        model = build_model(config, [1, 8], compute_statistics([frame], R_MAX), torch.float32)
    model.to(sizes.device).eval().requires_grad_(False)
    module = module.float().to(sizes.device).eval().requires_grad_(False)
    graph = graph_of(frame, sizes)
    positions, cell, shifts = (value.float() for value in (graph.positions, graph.cell[0], graph.edge_shifts))
    batch = {
        "positions": positions,
        "edge_index": graph.edge_index,
        "cell": cell,
        "batch": graph.frame_index,
        "node_attrs": (graph.atomic_numbers[:, None] == module.atomic_numbers).to(positions),
        "shifts": -shifts @ cell,
        "unit_shifts": -shifts,
        "ptr": torch.tensor([0, graph.n_atoms], device=sizes.device),
    }

    def theirs() -> Any:
        return module({**batch, "positions": positions.clone()}, compute_force=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, expected = model(graph, ("energy", "forces")), theirs()
        size = float(expected["forces"].abs().max())
        error = float((ours["energy"] - expected["energy"]).abs().max()) / graph.n_atoms
        error += float((ours["forces"] - expected["forces"]).abs().max()) / size
        if not error < 1e-5:  # Not a number is no agreement.
            raise SystemExit(f"energies or forces differ from mace's by {error:.1e}; there is nothing to time")
        times = measure(
            {"mace": theirs, "bec_mace": lambda: model(graph, ("energy", "forces"))}, max(3, sizes.repeats // 2), sizes.device
        )
    return {"seconds": medians(times), "speedup": ratio(times, "mace", "bec_mace"), "largest_difference": error}


def _mace_module(sizes: Sizes) -> Any:
    """A mace model with random weights, as mace writes it."""
    from bec_mace.models.mace import backbone

    statistics = compute_statistics(sizes.frames()[:1], R_MAX)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mace import modules

        block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
        torch.manual_seed(0)
        torch.set_default_dtype(torch.float64)
        try:
            return modules.ScaleShiftMACE(
                r_max=R_MAX,
                num_bessel=8,
                num_polynomial_cutoff=5,
                max_ell=sizes.max_l,
                num_interactions=2,
                interaction_cls=block,
                interaction_cls_first=block,
                num_elements=2,
                hidden_irreps=backbone.o3.Irreps(f"{sizes.channels}x0e + {sizes.channels}x1o"),
                MLP_irreps=backbone.o3.Irreps("16x0e"),
                atomic_energies=np.array([0.0, 0.0]),
                avg_num_neighbors=statistics.avg_num_neighbors,
                atomic_numbers=[1, 8],
                correlation=sizes.correlation,
                gate=torch.nn.functional.silu,
                radial_MLP=[64, 64, 64],
                atomic_inter_scale=1.0,
                atomic_inter_shift=0.0,
            )
        finally:
            torch.set_default_dtype(torch.float32)


def training(sizes: Sizes) -> dict[str, Any]:
    """Steps with labels of Z*, over steps with energies and forces, on the same batch of two frames."""
    from lightning_fabric import Fabric

    from bec_mace.data import build_graph
    from bec_mace.train.allocator import keep_freed_memory
    from bec_mace.train.loss import Loss
    from bec_mace.train.steps import new_state, training_step

    keep_freed_memory()  # As a run does.
    graphs = [build_graph(frame, R_MAX, dtype=torch.float32) for frame in sizes.frames()[:2]]
    fabric = Fabric(accelerator="cpu" if sizes.device == "cpu" else "cuda", devices=1)
    config = TrainingConfig(epochs=100)
    energies = Loss({"energy": 1.0, "forces": 1.0})
    losses = {
        REFERENCE: energies,
        **{name: Loss({Z: 1.0}) for name in HEAD_SETS},
        "monopole, Z*+energy+forces": Loss({Z: 1.0, **energies.weights}),
    }
    heads_of = {REFERENCE: ["energy"], **HEAD_SETS, "monopole, Z*+energy+forces": ["monopole", "energy"]}
    jobs: dict[str, Callable[[], object]] = {}
    for name, loss in losses.items():
        state = new_state(build(heads_of[name], sizes, trained=True), config, n_train=len(graphs))
        jobs[name] = lambda state=state, loss=loss: training_step(state, loss, graphs, fabric, 10.0)
    times = measure(jobs, max(3, sizes.repeats // 3), sizes.device, warm_up=1)
    seconds = medians(times)
    return {
        "frames": len(graphs),
        "seconds": seconds,
        "steps_per_second": {name: 1 / value for name, value in seconds.items()},
        "ratios": {name: ratio(times, name, REFERENCE) for name in jobs if name != REFERENCE},
    }
