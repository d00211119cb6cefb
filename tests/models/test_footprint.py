"""Estimates of memory against measured peaks, and the choice of blocks."""

from __future__ import annotations

import re
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bec_mace.config.model import KernelModelConfig, ModelConfig
from bec_mace.data import Frame, Statistics, build_graph
from bec_mace.data.graph import Graph
from bec_mace.models import PolarizationModel, build_kernel_model, build_model
from bec_mace.models import footprint as memory
from bec_mace.models.footprint import (
    choose_block_size,
    estimate_memory,
    free_memory,
)
from bec_mace.testing.small_models import make_model

Z = ("born_effective_charges",)
STATISTICS = Statistics(40.0, {1: 0.4, 8: -0.8}, {1: -13.0, 8: -430.0}, 0.7)


def crowd(n_atoms: int, r_max: float) -> Graph:
    """Atoms at random on a grid, at the density of water."""
    side = round(n_atoms ** (1 / 3))
    generator = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)
    positions = 2.15 * (places + generator.uniform(-0.2, 0.2, places.shape))
    numbers = np.where(generator.random(len(places)) < 1 / 3, 8, 1)
    frame = Frame(numbers, positions, 2.15 * side * np.eye(3), np.ones(3, bool))
    return build_graph(frame, r_max, dtype=torch.float32)


def make(heads: list[str], **sizes: object) -> PolarizationModel:
    config = ModelConfig.model_validate({"r_max": 5.0, "channels": 32, "max_l": 3, "correlation": 2, "heads": heads, **sizes})
    with torch.random.fork_rng(devices=[]):
        return build_model(config, [1, 8], STATISTICS)


def make_kernels() -> PolarizationModel:
    config = KernelModelConfig.model_validate(
        {
            "kind": "kernel",
            "r_max": 5.0,
            "num_radial": 8,
            "max_l": 5,
            "heads": ["monopole", "dipole"],
            "num_representatives": 50,
        }
    )
    return build_kernel_model(config, [1, 8], STATISTICS)


class Peak(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.most = 0, 0
        self.known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor) and value.untyped_storage()._cdata not in self.known:
                self.take(value.untyped_storage())
        return out

    def take(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        self.known[key] = storage.nbytes()
        self.alive += storage.nbytes()
        self.most = max(self.most, self.alive)
        weakref.finalize(storage, self.release, key)

    def release(self, key: int) -> None:
        self.alive -= self.known.pop(key)


def peak(model: PolarizationModel, graph: Graph, wanted: tuple[str, ...], block_size: int | None) -> int:
    """Most bytes of tensors that are alive in an evaluation."""
    with Peak() as counter:
        model(graph, wanted, block_size=block_size)
    return counter.most


@pytest.mark.parametrize(
    ("heads", "wanted"),
    [(["monopole"], Z), (["monopole", "dipole"], Z), (["charge_transfer"], Z), (["energy"], ("energy", "forces"))],
)
def test_estimate_of_a_network(heads: list[str], wanted: tuple[str, ...]) -> None:
    model, graph = make(heads), crowd(343, 5.0)
    measured = peak(model, graph, wanted, None)
    assert 1 / 1.5 < estimate_memory(model, graph.n_atoms, graph.n_edges, wanted) / measured < 1.5


def test_estimate_of_a_deeper_network() -> None:
    model, graph = make(["monopole"], num_interactions=3, max_l=2, channels=24), crowd(343, 5.0)
    measured = peak(model, graph, Z, None)
    assert 1 / 1.5 < estimate_memory(model, graph.n_atoms, graph.n_edges, Z) / measured < 1.5


def test_estimate_of_a_kernel_model() -> None:
    model, graph = make_kernels(), crowd(1000, 5.0)
    measured = peak(model, graph, Z, None)
    assert 1 / 1.5 < estimate_memory(model, graph.n_atoms, graph.n_edges, Z) / measured < 1.5


def test_estimate_of_blocks() -> None:
    model, graph = make(["monopole", "dipole"]), crowd(1728, 5.0)
    measured = peak(model, graph, Z, 96)
    assert 1 / 1.5 < estimate_memory(model, graph.n_atoms, graph.n_edges, Z, 96) / measured < 1.5
    assert measured < 0.3 * estimate_memory(model, graph.n_atoms, graph.n_edges, Z)


def test_estimates_grow_with_what_is_asked_for() -> None:
    model = make_model(("monopole", "dipole", "energy"), 3)
    wants = (("charges",), ("forces",), Z, (*Z, "forces"))
    of_edge = [estimate_memory(model, 0, 10_000, wanted) for wanted in wants]
    of_atom = [estimate_memory(model, 10_000, 0, wanted) for wanted in wants]
    assert of_edge == sorted(set(of_edge)) and of_atom == sorted(set(of_atom))
    single = make_model(("monopole", "dipole", "energy"), 3, dtype=torch.float32)
    assert estimate_memory(single, 0, 10_000, Z) < 0.6 * estimate_memory(model, 0, 10_000, Z)


def test_a_block_is_as_large_as_the_memory_allows() -> None:
    model = make_model(("monopole", "energy"))
    n_atoms, n_edges = 100_000, 5_000_000
    whole = estimate_memory(model, n_atoms, n_edges, Z)
    found = [choose_block_size(model, n_atoms, n_edges, Z, int(share * whole)) for share in (0.003, 0.1, 0.101, 0.102, 2.0)]
    sizes = [size for size in found if size is not None]
    assert len(sizes) == len(found) and sizes == sorted(sizes)
    assert sizes[0] == 1 and sizes[-1] == memory.BLOCK_ATOMS["cpu"]
    for share in (0.2, 0.5):
        size = choose_block_size(model, n_atoms, n_edges, Z, int(share * whole))
        assert estimate_memory(model, n_atoms, n_edges, Z, size) <= share * whole


def test_small_systems_are_taken_at_once() -> None:
    model = make_model(("monopole",))
    whole = estimate_memory(model, 300, 12_000, Z)
    assert choose_block_size(model, 300, 12_000, Z, 2 * whole) is None
    size = choose_block_size(model, 300, 12_000, Z, whole // 2)
    assert size is not None and 1 <= size < 192
    assert choose_block_size(model, 0, 0, Z, 10**9) is None


def test_free_memory_is_no_more_than_the_machine_has() -> None:
    total = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    assert total is not None
    assert 10**6 < free_memory("cpu") <= 1024 * int(total[1])


def test_limits_of_control_groups_count(tmp_path: Path) -> None:
    """The limit of a group above the process's own; the pages that files left behind are free."""
    inner = tmp_path / "fs" / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "memory.max").write_text("5000\n")
    (inner.parent / "memory.current").write_text("3000\n")
    (inner.parent / "memory.stat").write_text("anon 1500\ninactive_file 1200\n")
    membership = tmp_path / "cgroup"
    membership.write_text("1:name=systemd:/elsewhere\n0::/outer/inner\n")
    assert memory.left_by_groups(membership, tmp_path / "fs") == [3200]
    assert memory.left_by_groups(tmp_path / "missing", tmp_path / "fs") == []


def test_the_first_version_of_control_groups(tmp_path: Path) -> None:
    group = tmp_path / "fs" / "memory" / "job"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("9000\n")
    (group / "memory.usage_in_bytes").write_text("2000\n")
    (group / "memory.stat").write_text("total_inactive_file 500\n")
    membership = tmp_path / "cgroup"
    membership.write_text("5:memory:/job\n2:cpu:/job\n")
    assert memory.left_by_groups(membership, tmp_path / "fs") == [7500]
