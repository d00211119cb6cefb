"""Numbers do not depend on where and how a model is called: autograd's state, threads, the place of the frame."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bec_mace.data import Frame, build_graph
from bec_mace.engine.contract import Sources
from bec_mace.errors import ModelError
from bec_mace.integrations.ase import BECCalculator
from bec_mace.models import PolarizationModel
from bec_mace.models.heads.monopole import MonopoleHead
from bec_mace.predict import predict
from bec_mace.testing.physics import CHECKS
from bec_mace.testing.small_models import copy_model, make_model
from bec_mace.testing.structures import molecule, rocksalt, triclinic, triclinic_pair
from tests.models.kernel_regression.kernel_systems import make_kernel_model

HEADS = ("monopole", "charge_transfer", "dipole", "energy")
ASKED = ("born_effective_charges", "forces", "energy", "charges")


def evaluate(model: PolarizationModel, frame: Frame, **options: object) -> dict[str, Tensor]:
    return model(build_graph(frame, model.r_max), [name for name in ASKED if name in model.provides], **options)


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize(
    "surroundings",
    [
        torch.inference_mode,
        torch.no_grad,
        torch.enable_grad,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        lambda: torch.set_grad_enabled(False),
    ],
    ids=["inference_mode", "no_grad", "enable_grad", "autocast", "set_grad_enabled"],
)
@pytest.mark.parametrize("kernel", [False, True], ids=["network", "kernel"])
@pytest.mark.parametrize("block_size", [None, 3])
def test_the_state_of_autograd(
    surroundings: Callable[[], AbstractContextManager], kernel: bool, block_size: int | None
) -> None:
    model, frame = make_kernel_model(("monopole", "dipole")) if kernel else make_model(HEADS), triclinic()
    expected = evaluate(model, frame, block_size=block_size)
    with surroundings():
        assert largest_difference(evaluate(model, frame, block_size=block_size), expected) < 1e-13


def test_inference_mode_in_what_users_call() -> None:
    model, frame = make_model(HEADS), triclinic()
    expected = evaluate(model, frame)
    with torch.inference_mode():
        (found,) = predict(model, [frame], ASKED)
        atoms = frame.to_atoms()
        atoms.calc = BECCalculator(model, dtype="float64")
        forces = atoms.get_forces()
    for name in ASKED:
        np.testing.assert_allclose(found[name], expected[name].numpy().reshape(np.shape(found[name])), atol=1e-13)
    np.testing.assert_allclose(forces, expected["forces"].numpy(), atol=1e-13)


def test_a_model_made_in_inference_mode() -> None:
    expected = evaluate(make_model(HEADS), triclinic())
    with torch.inference_mode():
        model = copy_model(make_model(HEADS))
    assert largest_difference(evaluate(model, triclinic()), expected) < 1e-13
    with torch.inference_mode():
        model.reference_charges = torch.nn.Parameter(model.reference_charges.clone())
    with pytest.raises(ModelError, match=r"was made in torch.inference_mode\(\) and cannot be differentiated"):
        evaluate(model, triclinic())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_too_coarse_a_precision_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ModelError, match="which is too coarse for derivatives"):
        evaluate(copy_model(make_model(("monopole",))).to(dtype), triclinic())


class Detached(MonopoleHead):
    def read(self, layer: int, node_feats: Tensor, env: object) -> Sources:
        return Sources(charges=self.readouts(layer, node_feats.detach()))


class DetachedEnergy(MonopoleHead):
    def read(self, layer: int, node_feats: Tensor, env: object) -> Sources:
        return Sources(energies=self.readouts(layer, node_feats.detach()))


class Constant(MonopoleHead):
    def read(self, layer: int, node_feats: Tensor, env: object) -> Sources:
        return Sources(charges=torch.full_like(node_feats[:, 0, 0].detach(), 0.25), constant=True)


def with_head(heads: tuple[str, ...], kind: type[MonopoleHead], name: str) -> PolarizationModel:
    """A model one head of which has changed its ways."""
    model = copy_model(make_model(heads))
    model.heads[name].__class__ = kind
    return model


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    ("heads", "kind", "changed"),
    [
        (("monopole",), Detached, "monopole"),
        (("monopole", "dipole"), Detached, "monopole"),
        (("monopole", "energy"), DetachedEnergy, "monopole"),
    ],
    ids=["alone", "beside a dipole", "beside an energy"],
)
def test_a_head_that_detaches_is_an_error(
    heads: tuple[str, ...], kind: type[MonopoleHead], changed: str, create_graph: bool
) -> None:
    """Its response would be zero. Others beside it, and weights that are trained, hide nothing."""
    model = with_head(heads, kind, changed).requires_grad_(create_graph)
    with pytest.raises(ModelError, match="do not depend on its features|nothing leads from them"):
        evaluate(model, triclinic(), create_graph=create_graph)


def test_a_head_may_say_that_it_is_constant() -> None:
    model = with_head(("monopole",), Constant, "monopole")
    frame = triclinic()
    z = evaluate(model, frame)["born_effective_charges"]
    own = model.config.num_interactions * 0.25
    references = model.reference_charges[torch.tensor([model.elements.index(int(number)) for number in frame.atomic_numbers])]
    expected = (own + references - references.mean()).view(-1, 1, 1) * torch.eye(3, dtype=torch.float64)
    assert (z - expected).abs().max() < 1e-12


def test_positions_are_no_leaf_of_the_dipole() -> None:
    """Edges are differentiated by the engine; a derivative by the positions alone would be that of a part."""
    model = make_model(("monopole", "energy"))
    graph = build_graph(molecule(), model.r_max)
    live = replace(graph, positions=graph.positions.clone().requires_grad_(True))
    out = model(live, ("dipole", "energy"), create_graph=True)
    for name in ("dipole", "energy"):
        with pytest.raises(RuntimeError, match="not have been used in the graph|does not require grad"):
            torch.autograd.grad(out[name].sum(), live.positions)


@pytest.mark.parametrize("own", [False, True], ids=["one model", "a model each"])
def test_four_threads(own: bool) -> None:
    frames = [triclinic(), molecule(), rocksalt(), triclinic_pair()]
    model = make_model(HEADS)
    expected = [evaluate(model, frame) for frame in frames]
    differences: list[float] = []

    def work(number: int, model: PolarizationModel) -> None:
        for _ in range(5):
            differences.append(largest_difference(evaluate(model, frames[number]), expected[number]))

    models = [copy_model(model) if own else model for _ in frames]
    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(models)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(differences) == 20
    assert max(differences) < 1e-13


@pytest.mark.parametrize("block_size", [None, 3])
@pytest.mark.parametrize("away", ["1000 Å", "10,000 Å", "50 cells", "500 cells"])
def test_float32_is_as_precise_far_from_the_origin(away: str, block_size: int | None, device: torch.device) -> None:
    """Forces in float32 where the frame is and elsewhere; a cast of the positions alone would lose up to 0.06 eV/Å."""
    model = copy_model(make_model(("monopole", "dipole", "energy"), acoustic_sum_rule=None), torch.float32, device)
    frame, rng = triclinic(), np.random.default_rng(3)
    length, unit = away.split()
    size = float(length.replace(",", ""))
    shift = np.full(3, size) if unit == "Å" else rng.integers(-int(size), int(size) + 1, (len(frame), 3)) @ frame.cell
    moved = replace(frame, positions=frame.positions + shift)

    def compute(frame: Frame) -> dict[str, Tensor]:
        graph = build_graph(frame, model.r_max, torch.float32).to(device)
        return model(graph, ("born_effective_charges", "forces", "polarization"), block_size=block_size)

    near, far = compute(frame), compute(moved)
    for name in ("born_effective_charges", "forces") + (("polarization",) if unit == "Å" else ()):
        assert float((near[name] - far[name]).abs().max()) < 1e-6 * float(near[name].abs().max()), name


@pytest.mark.parametrize("kernel", [False, True], ids=["network", "kernel"])
def test_constants_stay_exact_through_float32(kernel: bool) -> None:
    """A model that was in float32 once is invariant under rotations to the precision of float64 again."""
    model = copy_model(make_kernel_model(("monopole", "dipole")) if kernel else make_model(HEADS, hidden_max_l=2))
    model = model.to(torch.float32).to(torch.float64)
    for name in ("rotation", "inversion"):
        CHECKS[name](model)
    fresh = copy_model(model)
    buffers = dict(fresh.named_buffers())
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())


def test_building_and_importing_leave_the_process_as_it_was() -> None:
    """In a new process: torch's default dtype, what may be unpickled, the root logger, warnings, the allocator."""
    code = """
import logging, threading, warnings, torch
before = (torch.get_default_dtype(), slice in torch.serialization.get_safe_globals(), list(logging.getLogger().filters),
          list(warnings.filters))
from bec_mace import load_model
import bec_mace.train.loop
threads = [threading.Thread(target=load_model, args=("water",)) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
after = (torch.get_default_dtype(), slice in torch.serialization.get_safe_globals(), list(logging.getLogger().filters))
assert before[:3] == after, (before[:3], after)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
