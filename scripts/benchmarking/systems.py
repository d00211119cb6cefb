"""Networks and water boxes of any size, and a clock that other programs do not disturb."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bec_mace.config.electrostatics import ElectrostaticsConfig
from bec_mace.config.model import ModelConfig
from bec_mace.data import Frame, build_graph, collate, compute_statistics, read_frames
from bec_mace.data.graph import Graph
from bec_mace.models import PolarizationModel, build_model

Z = "born_effective_charges"
R_MAX = 5.0
WARM_UP = 3  # The first calls allocate and compile.
_SITE = 3.1  # Å; one molecule in a cube of this edge is liquid water.


@dataclass(frozen=True)
class Sizes:
    """What the network and the measurements look like; small numbers are for tests."""

    channels: int
    max_l: int
    correlation: int
    repeats: int
    device: str
    data: str

    def frames(self) -> list[Frame]:
        return read_frames(self.data)


def build(
    heads: list[str], sizes: Sizes, trained: bool = False, electrostatics: Mapping[str, Any] | None = None
) -> PolarizationModel:
    config = ModelConfig(
        r_max=R_MAX,
        channels=sizes.channels,
        max_l=sizes.max_l,
        hidden_max_l=1,
        correlation=sizes.correlation,
        num_interactions=2,
        radial_mlp=[64, 64, 64],
        heads=heads,
        electrostatics=None if electrostatics is None else ElectrostaticsConfig.model_validate(electrostatics),
    )
    torch.manual_seed(0)
    model = build_model(config, [1, 8], compute_statistics(sizes.frames()[:1], R_MAX), torch.float32)
    return model.to(sizes.device).train(trained).requires_grad_(trained)


def graph_of(frame: Frame, sizes: Sizes, dtype: torch.dtype = torch.float32) -> Graph:
    return collate([build_graph(frame, R_MAX)]).to(dtype=dtype).to(device=sizes.device)


def water_box(n_atoms: int, seed: int = 0) -> Frame:
    """A periodic box of at least so many atoms: molecules of any orientation near the sites of a lattice, at 1 g/cm^3."""
    side = max(1, round((n_atoms / 3) ** (1 / 3)))
    shape = np.array([side, side, max(1, -(-n_atoms // (3 * side * side)))])
    rng = np.random.default_rng(seed)
    oxygens = _SITE * (
        np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3)
        + rng.uniform(-0.05, 0.05, (shape.prod(), 3))
    )
    axes = np.linalg.qr(rng.normal(size=(len(oxygens), 3, 3)))[0]
    half = np.radians(104.5) / 2
    bonds = 0.97 * np.array([[np.cos(half), np.sin(half), 0.0], [np.cos(half), -np.sin(half), 0.0]])
    atoms = np.concatenate([oxygens[:, None], oxygens[:, None] + np.einsum("ka,nab->nkb", bonds, axes)], axis=1)
    return Frame(np.tile([8, 1, 1], len(oxygens)), atoms.reshape(-1, 3), np.diag(_SITE * shape), np.ones(3, dtype=bool))


def now(device: str) -> float:
    """Seconds of processor time on the CPU, of the wall once the device has finished elsewhere."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def measure(jobs: Mapping[str, Callable[[], Any]], repeats: int, device: str, warm_up: int = WARM_UP) -> dict[str, list[float]]:
    """Seconds of each job, in turns, so that a busy machine slows all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(repeats + warm_up):
        for name, job in jobs.items():
            start = now(device)
            job()
            if number >= warm_up:
                times[name].append(now(device) - start)
    return times


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in times.items()}


def ratio(times: Mapping[str, list[float]], name: str, reference: str) -> float:
    """Median of the ratios of neighbouring runs."""
    return statistics.median(a / b for a, b in zip(times[name], times[reference], strict=True))
