import pytest

from bec_mace.training.steps import epoch_batches


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
