"""The engine against the oracle: every head, 1 to 3 layers, every periodicity."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from bec_mace.data import Frame, build_graph
from bec_mace.testing.oracle import build_cluster, oracle, subtract_mean
from bec_mace.testing.small_models import ALL_HEADS, HEAD_SETS, make_model
from bec_mace.testing.structures import FRAMES, PERIODIC, molecule, rocksalt, triclinic_pair

TOLERANCE = 1e-10


@cache
def references(layers: int, frame: str) -> dict[str, Tensor]:
    """Each head's Z* by the oracle."""
    return oracle(make_model(ALL_HEADS, layers), FRAMES[frame]())


def reference(heads: tuple[str, ...], layers: int, frame: str) -> Tensor:
    parts = references(layers, frame)
    return sum((parts[name] for name in heads), parts["reference"])


def response(heads: tuple[str, ...], layers: int, frame: Frame, rule: str = "none") -> Tensor:
    model = make_model(heads, layers, rule)
    return model(build_graph(frame, model.r_max))["born_effective_charges"]


def largest(difference: Tensor) -> float:
    return difference.abs().max().item()


@pytest.mark.parametrize(
    ("layers", "frame"),
    [
        *((layers, frame) for layers in (1, 2) for frame in (*PERIODIC, "molecule")),
        *((3, frame) for frame in ("triclinic_pair", "slab", "wire", "molecule")),
        *(pytest.param(3, frame, marks=pytest.mark.slow) for frame in ("rocksalt", "triclinic")),
    ],
)
@pytest.mark.parametrize("heads", HEAD_SETS, ids="+".join)
def test_engine_equals_oracle(heads: tuple[str, ...], layers: int, frame: str) -> None:
    expected = reference(heads, layers, frame)
    assert largest(expected) > 0.1
    assert largest(response(heads, layers, FRAMES[frame]()) - expected) < TOLERANCE


@pytest.mark.parametrize("frame", ["rocksalt", "slab", "molecule"])
def test_projection_subtracts_the_mean(frame: str) -> None:
    raw = reference(HEAD_SETS[-2], 2, frame)
    projected = response(HEAD_SETS[-2], 2, FRAMES[frame](), "project")
    assert largest(raw.sum(dim=0)) > 1e-2
    assert largest(projected - subtract_mean(raw)) < TOLERANCE


@pytest.mark.parametrize("frame", ["triclinic_pair", "wire"])
def test_head_contributions(frame: str) -> None:
    model, expected = make_model(ALL_HEADS, 2), references(2, frame)
    out = model(build_graph(FRAMES[frame](), model.r_max), ("head_contributions", "born_effective_charges"))
    shares = out["head_contributions"]
    assert set(shares) == {*ALL_HEADS, "reference"}
    for name, share in shares.items():
        assert largest(share - expected[name]) < TOLERANCE, name
    assert largest(sum(shares.values()) - out["born_effective_charges"]) < TOLERANCE


@pytest.mark.parametrize(
    "sizes",
    [
        {"correlation": 3, "max_l": 2, "hidden_max_l": 2},
        {"correlation": 1, "radial_basis": "gaussian"},
        {"hidden_irreps": "2x0e", "max_l": 1},
    ],
    ids=["rich", "gaussian", "scalars"],
)
def test_other_sizes_of_the_network(sizes: dict) -> None:
    heads = ("monopole", "charge_transfer") if "hidden_irreps" in sizes else ("monopole", "charge_transfer", "dipole")
    model, frame = make_model(heads, 2, **sizes), triclinic_pair()
    expected = oracle(model, frame)["total"]
    assert largest(expected) > 0.1
    assert largest(model(build_graph(frame, model.r_max))["born_effective_charges"] - expected) < TOLERANCE


@pytest.mark.parametrize("layers", [1, 2])
def test_arms_longer_than_the_minimum_image(layers: int) -> None:
    """In this cell the minimum image is wrong, so the agreement above means something."""
    model, frame = make_model(("monopole",), layers), rocksalt()
    field = layers * model.r_max
    cluster = build_cluster(frame, model.r_max, 2 * field)
    lengths = np.linalg.norm(frame.cell, axis=1)
    assert model.r_max > lengths.max()
    arms = (cluster.positions[: cluster.n_home, None] - cluster.positions[None]).norm(dim=-1)
    assert arms.max() > 2 * lengths.max()
    # Each home atom meets several images of its neighbour within the cutoff.
    met = (cluster.receiver == 0) & (cluster.owner[cluster.sender] == 1)
    assert met.sum() >= 3


def test_oracle_converges_with_the_cluster() -> None:
    """Atoms beyond twice the receptive field change nothing in the oracle."""
    model, frame = make_model(("monopole",), 1), triclinic_pair()
    small = build_cluster(frame, model.r_max, 2 * model.r_max)
    large = build_cluster(frame, model.r_max, 2 * model.r_max + 2.0)
    assert len(large.positions) > len(small.positions)
    complete = small.distance < model.r_max
    count = [torch.bincount(c.receiver, minlength=len(c.positions)) for c in (small, large)]
    order = {tuple(p): i for i, p in enumerate(large.positions.detach().numpy().round(6).tolist())}
    for index in torch.nonzero(complete).flatten().tolist():
        twin = order[tuple(small.positions[index].detach().numpy().round(6).tolist())]
        assert count[0][index] == count[1][twin]


def test_single_atom_keeps_its_charge() -> None:
    model, frame = make_model(("monopole", "charge_transfer", "dipole"), 2), FRAMES["atom"]()
    out = model(build_graph(frame, model.r_max), ("born_effective_charges", "charges"))
    assert largest(out["born_effective_charges"][0] - out["charges"] * torch.eye(3, dtype=torch.float64)) < 1e-14
    assert out["charges"].abs() > 0.1


def test_oracle_of_a_molecule_is_not_symmetric() -> None:
    """A wrong order of indices would be seen."""
    expected = reference(("monopole",), 2, "molecule")
    actual = response(("monopole",), 2, molecule())
    assert largest(actual.transpose(1, 2) - expected) > 0.05
