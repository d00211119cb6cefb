import pytest
import torch

from bec_mace.data import collate
from bec_mace.train.loop import train
from bec_mace.train.run_folder import read_metrics
from bec_mace.train.steps import displace, epoch_batches


def test_an_epoch_sees_every_frame_once():
    batches = epoch_batches(10, 4, seed=1, epoch=2)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(i for batch in batches for i in batch) == list(range(10))


def test_order_depends_on_seed_and_epoch_only():
    first = epoch_batches(10, 4, seed=1, epoch=2)
    assert epoch_batches(10, 4, seed=1, epoch=2) == first
    assert epoch_batches(10, 4, seed=1, epoch=3) != first
    assert epoch_batches(10, 4, seed=2, epoch=2) != first


@pytest.mark.parametrize("seed", [0, 2**31])
def test_any_seed_will_do(seed):
    assert epoch_batches(1, 4, seed=seed, epoch=1) == [[0]]


def test_displacements_have_the_size_asked_for_and_change_with_epoch_and_frame(make_graph):
    graph = collate([make_graph([8] * 20, {})] * 100)
    shift = displace(graph, 0.03, seed=1, epoch=2, number=5).positions - graph.positions
    assert float(shift.std()) == pytest.approx(0.03, rel=0.03) and float(shift.mean()) == pytest.approx(0.0, abs=2e-3)
    assert torch.equal(displace(graph, 0.03, seed=1, epoch=2, number=5).positions, graph.positions + shift)
    for seed, epoch, number in ((2, 2, 5), (1, 3, 5), (1, 2, 6)):
        other = displace(graph, 0.03, seed, epoch, number).positions - graph.positions
        assert abs(float(torch.corrcoef(torch.stack([shift.flatten(), other.flatten()]))[0, 1])) < 0.06
    assert displace(graph, None, seed=1, epoch=2, number=5) is graph


def test_training_frames_alone_are_displaced(make_config):
    still = {"epochs": 1, "optimizer": {"learning_rate": 1e-12}, "ema_decay": None}
    for noise in (None, 0.2):
        train(make_config(str(noise), position_noise=noise, **still))
    first, second = (read_metrics(make_config(str(noise)).output / "metrics.csv")[0] for noise in (None, 0.2))
    assert abs(first["train_loss"][0] - second["train_loss"][0]) > 1e-3 * first["train_loss"][0]
    assert first["validation_loss"][0] == pytest.approx(second["validation_loss"][0], rel=1e-6)
