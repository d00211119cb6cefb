"""The blocked form of the engine gives the numbers of the unblocked one."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pytest
import torch

from bec_mace.config.model import ModelConfig
from bec_mace.data import Frame, Statistics, build_graph, collate
from bec_mace.data.graph import Graph
from bec_mace.engine.environments import Environments, build_blocks, build_environments
from bec_mace.errors import ModelError
from bec_mace.models import PolarizationModel, build_model
from bec_mace.testing.small_models import ALL_HEADS, copy_model, make_model
from bec_mace.testing.structures import ELEMENTS, FRAMES, atom, molecule, rocksalt, slab, triclinic, triclinic_pair
from tests.models.kernel_regression.kernel_systems import make_kernel_model

SIZES = (3, 100)
BATCH = (molecule(), triclinic_pair(), atom(), triclinic(), slab(), rocksalt())
"""Frames of every kind; their atoms are mixed in the blocks."""


def flatten(out: dict[str, object]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in out.items():
        if isinstance(value, dict):
            yield from ((f"{name} {part}", tensor) for part, tensor in value.items())
        else:
            assert isinstance(value, torch.Tensor)
            yield name, value


def assert_same(
    model: PolarizationModel,
    graph: Graph,
    wanted: Collection[str],
    directions: torch.Tensor | None = None,
    sizes: tuple[int, ...] = SIZES,
) -> None:
    whole = dict(flatten(model(graph, wanted, directions=directions)))
    for size in sizes:
        parts = dict(flatten(model(graph, wanted, directions=directions, block_size=size)))
        assert parts.keys() == whole.keys()
        for name, value in parts.items():
            assert not value.requires_grad
            assert value.shape == whole[name].shape and value.dtype == whole[name].dtype
            assert float((value - whole[name]).abs().max()) < 1e-12 * max(1.0, float(whole[name].abs().max())), (size, name)


def make_graph(frames: Collection[Frame], model: PolarizationModel) -> Graph:
    return collate([build_graph(frame, model.r_max) for frame in frames]).to(model.reference_charges.device)


def everything(model: PolarizationModel) -> set[str]:
    return set(model.provides) - {"stress"}


@pytest.mark.parametrize(
    "heads",
    [
        ("monopole",),
        ("charge_transfer",),
        ("dipole",),
        ("direct",),
        ("energy",),
        ("monopole", "charge_transfer", "energy"),
        (*ALL_HEADS, "energy"),
    ],
)
def test_head_sets(heads: tuple[str, ...], device: torch.device) -> None:
    model = copy_model(make_model(heads, acoustic_sum_rule=None), device=device)
    assert_same(model, make_graph(BATCH, model), everything(model))


@pytest.mark.parametrize("num_interactions", [1, 3])
def test_layers(num_interactions: int) -> None:
    model = make_model(("monopole", "charge_transfer", "dipole", "energy"), num_interactions)
    wanted = ("born_effective_charges", "charges", "polarization", "energy", "forces")
    assert_same(model, make_graph((triclinic_pair(), molecule()), model), wanted)


@pytest.mark.parametrize("name", FRAMES)
def test_single_frames(name: str) -> None:
    model = make_model(("monopole", "charge_transfer"), acoustic_sum_rule="project")
    assert_same(model, make_graph([FRAMES[name]()], model), ("born_effective_charges", "dipole"), sizes=(1, 5))


def test_stress() -> None:
    model = make_model(("monopole", "energy"))
    assert_same(model, make_graph((triclinic(), triclinic_pair(), rocksalt()), model), ("energy", "stress"))
    assert_same(model, make_graph((triclinic(), rocksalt()), model), ("forces", "stress", "born_effective_charges"))


def test_directions() -> None:
    model = make_model(ALL_HEADS, acoustic_sum_rule="weighted")
    directions = torch.tensor([[0.3, -0.2, 0.9], [1.1, 0.4, -0.7]], dtype=torch.float64)
    graph = make_graph(BATCH, model)
    assert_same(model, graph, ("born_effective_charges", "head_contributions"), directions)
    assert model(graph, directions=directions, block_size=4)["born_effective_charges"].shape == (graph.n_atoms, 2, 3)


@pytest.mark.parametrize("heads", [("monopole",), ("dipole",), ("monopole", "dipole")])
def test_kernel_models(heads: tuple[str, ...], device: torch.device) -> None:
    model = copy_model(make_kernel_model(heads, rule=None, uncertainty=True), device=device)
    assert_same(model, make_graph(BATCH, model), everything(model))


def test_elements_that_are_not_there_and_a_layer_of_scalars() -> None:
    model = make_model(("monopole",), hidden_irreps="3x0e")
    assert_same(model, make_graph((atom(), rocksalt()), model), ("born_effective_charges", "charges"))


def test_a_wall() -> None:
    config = ModelConfig(r_max=2.6, channels=2, radial_mlp=[4], readout_mlp=[4], heads=["monopole", "energy"])
    statistics = Statistics(3.0, {1: 0.4, 8: -0.8}, {1: -1.0, 8: -2.0}, 0.5, ((1, 1, 1.4), (1, 6, 1.2), (1, 8, 2.5)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = build_model(config, ELEMENTS, statistics, torch.float64)
        flat = build_model(
            config.model_copy(update={"heads": ["monopole", {"energy": {"wall": False}}]}), ELEMENTS, statistics, torch.float64
        )
    graph = make_graph((molecule(), triclinic_pair()), model)
    assert_same(model, graph, ("energy", "forces", "born_effective_charges"))
    flat.load_state_dict(model.state_dict())
    assert (model(graph, ("forces",))["forces"] - flat(graph, ("forces",))["forces"]).abs().max() > 1


def test_weights_do_not_matter_to_what_is_kept() -> None:
    """Nothing is left on the weights, and they may be trained or not."""
    model = make_model(("monopole", "energy"), acoustic_sum_rule="weighted")
    graph = make_graph((triclinic(),), model)
    before = model(graph, ("born_effective_charges",), block_size=2)["born_effective_charges"]
    assert all(parameter.grad is None for parameter in model.parameters())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.requires_grad_(False)
        with torch.no_grad():
            after = model(graph, ("born_effective_charges",), block_size=2)["born_effective_charges"]
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    assert torch.equal(before, after)


def test_what_cannot_be_in_blocks() -> None:
    model = make_model(("monopole",))
    graph = make_graph((molecule(),), model)
    with pytest.raises(ModelError, match="block_size must be at least 1, got 0"):
        model(graph, block_size=0)
    with pytest.raises(ModelError, match="cannot be given with create_graph"):
        model(graph, create_graph=True, block_size=2)


@pytest.mark.parametrize("size", [1, 4, 50])
def test_environments_of_blocks(size: int) -> None:
    """Each edge of the batch is in one block, at the receiver it belongs to."""
    graph = collate([build_graph(frame, 2.6) for frame in BATCH])
    species = (graph.atomic_numbers[:, None] == torch.tensor(ELEMENTS)).int().argmax(dim=1)
    whole, blocks = build_environments(graph, species, 4, 2.6), build_blocks(graph, species, 4, 2.6, size)
    found, counts = [], torch.zeros(4, dtype=torch.int64)
    for atoms in blocks.ranges():
        env = blocks.block(atoms)
        assert env.n_atoms <= size
        assert env.n_slots == max(1, int(blocks.degree[atoms].max()))
        assert torch.equal(env.species, env.species.sort().values)
        counts += torch.tensor(env.counts)
        assert (env.vectors[~env.filled].norm(dim=1) == 2.6).all()
        found.append(edges_of(env, blocks.order))
    assert tuple(counts.tolist()) == whole.counts
    assert set().union(*found) == edges_of(whole, whole.order)
    assert sum(map(len, found)) == graph.n_edges


def edges_of(env: Environments, all_atoms: torch.Tensor) -> set[tuple[float, ...]]:
    receiver = env.order.repeat_interleave(env.n_slots)[env.filled].tolist()
    sender, vectors = all_atoms[env.sender[env.filled]], env.vectors[env.filled]
    rows = zip(receiver, sender.tolist(), vectors.numpy().round(9).tolist(), strict=True)
    return {(to, come, *vector) for to, come, vector in rows}


def test_atoms_of_a_block_have_much_the_same_number_of_neighbours() -> None:
    graph = make_graph(BATCH, make_model(("monopole",)))
    blocks = build_blocks(graph, torch.zeros_like(graph.atomic_numbers), 1, 2.6, 4)
    assert torch.equal(blocks.degree, torch.bincount(graph.edge_index[1], minlength=graph.n_atoms).sort().values)


def test_a_batch_without_edges() -> None:
    model = make_model(("charge_transfer", "monopole"))
    assert_same(model, make_graph((atom(), atom()), model), ("born_effective_charges", "charges", "dipole"))


def test_sums_over_many_atoms_keep_their_digits() -> None:
    """A mean over 200,000 atoms in single precision, far from zero, and a dipole of many large terms that cancel."""
    n, generator = 200_000, torch.Generator().manual_seed(0)
    positions = 60 * torch.rand(n, 3, generator=generator)
    graph = Graph(
        positions,
        torch.ones(n, dtype=torch.int64),
        torch.zeros(n, dtype=torch.int64),
        torch.zeros(1, 3, 3),
        torch.zeros(1, 3, dtype=torch.bool),
        torch.zeros(2, 0, dtype=torch.int64),
        torch.zeros(0, 3),
    )
    blocks = build_blocks(graph, torch.zeros(n, dtype=torch.int64), 1, 2.6, n)
    values = 5 + torch.rand(n, 9, generator=generator)
    exact = values.double().sum(dim=0)
    assert ((blocks.sum_over_frames(values)[0] - exact) / exact).abs().max() < 1e-7
    plain = values.new_zeros(1, 9).index_add(0, blocks.frame_index, values)[0]
    assert ((plain - exact) / exact).abs().max() > 1e-6
