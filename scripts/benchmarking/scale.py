r"""Systems of any size, streams of frames, and how far a device is from what it could do.

The floor of a Z* evaluation is the larger of FLOPs / peak and bytes / bandwidth, where peak and bandwidth are measured on the
device with one large matrix product and one large copy. With C channels, for each edge and layer with p paths, d components of
the sender's features, :math:`s = \sum_{paths} (2 l_1 + 1)(2 l_3 + 1)`, and n channels of the sweep (for a monopole head 1 in
the last layer, 4 below):

* FLOPs: radial network with slopes :math:`4 \sum_k h_k h_{k+1}` (the last h is p C), messages 2 s C, pull-back
  (4 n + 2 n [not the first layer]) s C. For each atom: product basis
  :math:`2 C o M (1 + \nu^{-1})`, with o M the size of its Jacobian's coefficients, and linear maps
  :math:`2 C^2` (1 + n) times the components that they map.
* bytes: every array that one dense kernel hands to another is written once and read once: weights and slopes
  (2 p C floats; read twice), gathered features (d C; read twice), their cotangents (n d C).

Neighbour lists, gathers by index, elementwise work inside a kernel and launches count as nothing, so 100 % cannot be reached.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from math import comb
from pathlib import Path
from typing import Any

import torch

from bec_mace.data import Frame
from bec_mace.models import PolarizationModel
from bec_mace.models.footprint import choose_block_size, free_memory
from benchmarking.systems import Sizes, Z, build, graph_of, measure, medians, now, water_box

GB = 1e9


def in_process(arguments: list[str]) -> dict[str, Any]:
    """Run this program for one measurement alone, so that its peak memory is its own."""
    done = subprocess.run([sys.executable, sys.argv[0], *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def peak_memory(device: str) -> float:
    """Largest memory of this process so far, in GB: resident on the CPU, allocated on a GPU."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / GB
    status = Path("/proc/self/status")
    if status.exists():  # What getrusage tells on Linux begins with the peak of the process that started this one.
        (peak,) = (line.split()[1] for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(peak) * 1024 / GB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB


def one_size(sizes: Sizes, n_atoms: int, memory_gb: float) -> dict[str, Any]:
    """Z* of a monopole model for one box of water, in blocks where it does not fit."""
    model = build(["monopole"], sizes)
    model(graph_of(water_box(100), sizes), (Z,))
    before = peak_memory(sizes.device)
    start = time.process_time()
    graph = graph_of(water_box(n_atoms), sizes)
    neighbours = time.process_time() - start
    free = min(free_memory(sizes.device), int(memory_gb * GB))
    block_size = choose_block_size(model, graph.n_atoms, graph.n_edges, (Z,), free)
    repeats = max(1, min(sizes.repeats, 4000 // n_atoms))
    times = measure({"": lambda: model(graph, (Z,), block_size=block_size)}, repeats, sizes.device, warm_up=n_atoms < 4000)
    seconds = medians(times)[""]
    return {
        "n_atoms": graph.n_atoms,
        "n_edges": graph.n_edges,
        "block_size": block_size,
        "seconds": seconds,
        "atoms_per_second": graph.n_atoms / seconds,
        "microseconds_per_atom": 1e6 * seconds / graph.n_atoms,
        "neighbour_list_seconds": neighbours,
        "peak_memory_gb": peak_memory(sizes.device),
        "before_gb": before,
    }


def predict(sizes: Sizes, n_frames: int) -> dict[str, Any]:
    """Share of the time of a stream that is spent in the model."""
    import bec_mace

    model = build(["monopole"], sizes)
    model(graph_of(sizes.frames()[0], sizes), (Z,))
    inside, forward = [0.0], model.forward

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = now(sizes.device)
        try:
            return forward(*args, **kwargs)
        finally:
            inside[0] += now(sizes.device) - start

    model.forward = timed  # type: ignore[method-assign]
    start, count = now(sizes.device), 0
    for _ in bec_mace.predict(model, stream(sizes.frames(), n_frames), (Z,)):
        count += 1
    total = now(sizes.device) - start
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "frames": count,
        "seconds": total,
        "frames_per_second": count / total,
        "share_in_model": inside[0] / total,
        "peak_memory_gb": peak_memory("cpu"),
        "peak_memory_of_a_worker_gb": workers.ru_maxrss * 1024 / GB,
    }


def stream(frames: list[Frame], count: int) -> Iterator[Frame]:
    """So many frames, one by one."""
    for number in range(count):
        yield frames[number % len(frames)]


def floor(sizes: Sizes, model: PolarizationModel, n_atoms: int, n_edges: int) -> dict[str, float]:
    """The least time that the dense work of one Z* evaluation can take, see the module, in seconds."""
    flops, data = 0.0, 0.0
    n_channels, layers = sizes.channels, list(model.backbone.layers)
    for number, layer in enumerate(layers):
        n, inner = (1 if number == len(layers) - 1 else 4), float(number > 0)
        pairs = sum(path.d1 * path.d3 for path in layer._paths)
        widths = list(layer.interaction.conv_tp_weights.hs)
        made, taken = layer.irreps_out.dim // n_channels, layer.irreps_in.dim // n_channels
        messages = sum(path.d3 for path in layer._paths)
        components = sum(ir.dim for _, ir in layer.product.symmetric_contractions.irreps_in)
        jacobian = made * components * comb(components + sizes.correlation - 1, sizes.correlation - 1)
        flops += n_edges * (
            4 * sum(a * b for a, b in zip(widths, widths[1:], strict=False))
            + 2 * pairs * n_channels
            + (4 + 2 * inner) * n * pairs * n_channels
        )
        flops += (
            n_atoms
            * n_channels
            * (2 * jacobian * (1 + 1 / sizes.correlation) + 2 * n_channels * (1 + n) * (messages + 2 * made + taken))
        )
        data += 4 * n_edges * n_channels * (3 * 2 * len(layer._paths) + 3 * taken + 2 * n * taken * inner)
    peak, bandwidth = device_limits(sizes.device)
    return {
        "flops": flops,
        "bytes": data,
        "measured_peak_flops": peak,
        "measured_bandwidth": bandwidth,
        "floor_seconds": max(flops / peak, data / bandwidth),
    }


def device_limits(device: str) -> tuple[float, float]:
    """FLOP/s of a large float32 matrix product and bytes/s of a large copy, as measured here."""
    n = 2048 if device == "cpu" else 16384
    a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
    source = torch.randn(n * n * 8, device=device)
    target = torch.empty_like(source)
    times = medians(measure({"product": lambda: a @ b, "copy": lambda: target.copy_(source)}, 5, device))
    return 2 * n**3 / times["product"], 2 * source.nbytes / times["copy"]


def small(sizes: Sizes) -> dict[str, Any]:
    """192 atoms: seconds of Z*, and the share of the floor in it."""
    graph, model = graph_of(sizes.frames()[0], sizes), build(["monopole"], sizes)
    seconds = medians(measure({"": lambda: model(graph, (Z,))}, sizes.repeats, sizes.device))[""]
    found = floor(sizes, model, graph.n_atoms, graph.n_edges)
    return {
        "n_atoms": graph.n_atoms,
        "milliseconds": 1e3 * seconds,
        "share_of_floor": found["floor_seconds"] / seconds,
        **found,
    }
