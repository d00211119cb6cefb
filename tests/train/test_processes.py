from types import SimpleNamespace

import pytest
import torch

from bec_mace.devices import process_grid
from bec_mace.errors import TrainingError
from bec_mace.train.processes import launch, share, sum_gradients, sum_over_processes


@pytest.mark.parametrize(
    ("environment", "grid"),
    [
        ({}, (3, 1)),
        ({"LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}, (4, 2)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_NNODES": "2"}, (4, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, (3, 1)),
    ],
)
def test_processes_are_counted_from_the_environment(monkeypatch, environment, grid):
    for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_NNODES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert process_grid(3) == grid


def test_every_item_of_a_batch_goes_to_one_process():
    shares = [share(SimpleNamespace(global_rank=rank, world_size=3), list("abcd")) for rank in range(3)]
    assert shares == [["a", "d"], ["b"], ["c"]]
    assert share(SimpleNamespace(global_rank=2, world_size=3), ["a"]) == []


def test_gradients_are_summed_with_zeros_where_there_are_none():
    first, second = (torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 2), (3,)))
    first.grad = torch.arange(4.0).reshape(2, 2)
    doubling = SimpleNamespace(world_size=2, all_reduce=lambda value, reduce_op: 2 * value)
    sum_gradients(doubling, [first, second])
    assert first.grad.tolist() == [[0.0, 2.0], [4.0, 6.0]]
    assert second.grad.tolist() == [0.0, 0.0, 0.0]


def test_one_process_sums_nothing():
    fabric = launch("cpu")
    value = torch.ones(2)
    assert sum_over_processes(fabric, value) is value
    assert (fabric.world_size, fabric.device.type) == (1, "cpu")


def test_a_missing_device_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match="'cuda:1' asked for, but torch finds no CUDA device"):
        launch("cuda:1")


def test_an_unsupported_device_is_named():
    with pytest.raises(TrainingError, match="runs on cpu or cuda, not on 'xpu'"):
        launch("xpu")


def test_one_device_for_several_processes_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(TrainingError, match="names one device, but 2 processes run; use 'cuda'"):
        launch("cuda:0", num_processes=2)
