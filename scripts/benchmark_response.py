"""Cost of the full Z* over that of energy and forces with the same backbone, on one CPU thread.

192 atoms of water, 2 layers, 64x0e + 64x1o, r_max 5 Å. Beside the heads stands the common alternative: the polarization
as a phase, P = sum q exp(2 pi i x / L) L / (2 pi i), differentiated by plain autograd (three real and three imaginary
parts, so six backward passes).

    python scripts/benchmark_response.py --json ratios.json
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bec_mace.config import ModelConfig
from bec_mace.data import build_graph, collate, compute_statistics, read_frames
from bec_mace.data.graph import Graph
from bec_mace.models import PolarizationModel, build_model
from bec_mace.models.convolution import Convolution
from bec_mace.models.environments import Environments, build_environments

HEAD_SETS = {
    "monopole": ["monopole"],
    "charge_transfer": ["charge_transfer"],
    "dipole": ["dipole"],
    "monopole+dipole": ["monopole", "dipole"],
}


def phase_response(model: PolarizationModel, graph: Graph) -> torch.Tensor:
    """Z* of a monopole model by the phase form, through plain autograd from positions to charges; orthogonal cell."""
    species = model._species(graph)
    positions = graph.positions.detach().requires_grad_(True)
    env = build_environments(graph, species, len(model.elements), model.r_max)
    receiver = torch.arange(env.n_atoms).repeat_interleave(env.n_slots)
    ordered = positions[env.order]
    shift = env.vectors - (ordered[receiver] - ordered[env.sender]).detach()
    vectors = ordered[receiver] - ordered[env.sender] + shift
    charges = _charges(model, env, vectors)
    lengths = torch.diagonal(graph.cell[0])
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
    edges = model.backbone.embed_edges(vectors)
    total = torch.zeros(())
    for number, layer in enumerate(model.backbone.layers):
        sender_feats = env.gather(layer.prepare(node_feats))
        plan, radial = Convolution(layer._paths, env.n_slots), layer._radial_weights(edges)
        messages = _Messages.apply(sender_feats, edges.harmonics, edges.lengths, plan, radial)
        node_feats = layer.update(node_feats, messages, env, frozen=True)
        total = total + model.heads["monopole"].read(number, node_feats, env).charges
    return total


def build(heads: list[str], graph: Graph, args: argparse.Namespace) -> PolarizationModel:
    config = ModelConfig(
        r_max=5.0, channels=64, max_l=args.max_l, hidden_max_l=1, correlation=args.correlation, num_interactions=2,
        radial_mlp=[64, 64, 64], heads=heads)
    torch.manual_seed(0)
    model = build_model(config, [1, 8], args.statistics, torch.float32)
    return model.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="bec_mace:water_revpbe_d3.extxyz.gz", help="frames; the first is used")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--max-l", type=int, default=3)
    parser.add_argument("--correlation", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    frame = read_frames(args.data)[0]
    args.statistics = compute_statistics([frame], 5.0)
    graph = collate([build_graph(frame, 5.0)]).to(dtype=torch.float32)

    reference = build(["energy"], graph, args)
    jobs: dict[str, Callable[[], object]] = {"energy+forces": lambda: reference(graph, ("energy", "forces"))}
    for name, heads in HEAD_SETS.items():
        model = build(heads, graph, args)
        jobs[name] = lambda model=model: model(graph, ("born_effective_charges",))
    monopole = build(["monopole"], graph, args)
    jobs["phase"] = lambda: phase_response(monopole, graph)

    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(args.repeats + 3):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            if number >= 3:  # The first calls compile e3nn's kernels.
                times[name].append(time.process_time() - start)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(times[name], times["energy+forces"], strict=True))
        for name in jobs if name != "energy+forces"}
    print(f"{graph.n_atoms} atoms, {graph.n_edges} edges, correlation {args.correlation}, max_l {args.max_l}")
    print(f"{'':18s} {'seconds':>9s} {'ratio':>7s}")
    for name in jobs:
        print(f"{name:18s} {seconds[name]:9.4f} {ratios.get(name, 1.0):7.2f}")
    if args.json:
        args.json.write_text(json.dumps({"ratios": ratios, "seconds": seconds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
