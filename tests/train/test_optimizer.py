import math

import pytest
import torch
from torch import nn

from bec_mace.errors import TrainingError
from bec_mace.train.optimizer import MovingAverage, Schedule, build_optimizer


@pytest.fixture
def model():
    layer = nn.Linear(2, 2)
    layer.reference_charges = nn.Parameter(torch.ones(2))
    return layer


@pytest.fixture
def optimizer(model):
    return build_optimizer(model, learning_rate=0.1)


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_only_weights_decay(model, name, kind):
    optimizer = build_optimizer(model, name, learning_rate=0.01, amsgrad=True, weight_decay=0.5)
    assert type(optimizer) is kind
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {id(model.weight): 0.5, id(model.bias): 0.0, id(model.reference_charges): 0.0}
    assert all(group["amsgrad"] for group in optimizer.param_groups)


def test_unknown_optimizer_is_refused(model):
    with pytest.raises(TrainingError, match="unknown name 'sgd'; choose one of adam, adamw"):
        build_optimizer(model, "sgd")


def test_a_frozen_model_is_refused(model):
    with pytest.raises(TrainingError, match="no trainable parameter"):
        build_optimizer(model.requires_grad_(False))


def rates(schedule, steps):
    found = []
    for _ in range(steps):
        found.append(schedule.learning_rate())
        schedule.step()
    return found


def test_cosine_rises_linearly_then_falls_to_the_final_fraction(optimizer):
    schedule = Schedule(optimizer, "cosine", total_steps=14, warmup_steps=4, final_fraction=0.1)
    found = rates(schedule, 14)
    assert found[:5] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert found[9] == pytest.approx(0.1 * (0.1 + 0.9 * 0.5))
    assert schedule.learning_rate() == pytest.approx(0.01)


def test_constant_stays(optimizer):
    assert rates(Schedule(optimizer, "constant", 10, warmup_steps=2), 5) == pytest.approx([0.05, 0.1, 0.1, 0.1, 0.1])


def test_plateau_cuts_after_patience_validations_without_gain(optimizer):
    schedule = Schedule(optimizer, "plateau", 10, patience=2, factor=0.5)
    found = []
    for loss in (1.0, 0.9, 0.95, 0.9, 0.95, 0.8, 0.8, 0.8):
        schedule.observe(loss)
        found.append(schedule.learning_rate())
    assert found == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.025])


def test_other_schedules_ignore_the_validation_loss(optimizer):
    schedule = Schedule(optimizer, "constant", 10, patience=1)
    for _ in range(5):
        schedule.observe(1.0)
    assert schedule.learning_rate() == pytest.approx(0.1)


def test_schedule_goes_on_from_its_state(model):
    first = Schedule(build_optimizer(model, learning_rate=0.1), "cosine", 20, warmup_steps=3)
    rates(first, 7)
    second = Schedule(build_optimizer(model, learning_rate=0.1), "cosine", 20, warmup_steps=3)
    second.load_state_dict(first.state_dict())
    assert rates(second, 5) == rates(first, 5)


def test_unknown_schedule_is_refused(optimizer):
    with pytest.raises(TrainingError, match="unknown name 'step'"):
        Schedule(optimizer, "step", 10)


def set_weight(model, value):
    with torch.no_grad():
        model.weight.fill_(value)


def test_average_uses_the_corrected_decay(model):
    set_weight(model, 0.0)
    average = MovingAverage(model, decay=0.15)
    expected = 0.0
    for update, value in enumerate([1.0, 2.0, -1.0]):
        set_weight(model, value)
        average.update()
        decay = min(0.15, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
    with average.applied():
        assert model.weight[0, 0].item() == pytest.approx(expected, rel=1e-6)
    assert model.weight[0, 0].item() == -1.0


def test_average_is_taken_out_again_after_an_error(model):
    set_weight(model, 0.0)
    average = MovingAverage(model, decay=0.9)
    set_weight(model, 5.0)
    with pytest.raises(ValueError, match="inside"), average.applied():
        raise ValueError("inside")
    assert model.weight[0, 0].item() == 5.0


def test_average_goes_on_from_its_state(model):
    first = MovingAverage(model, decay=0.9)
    set_weight(model, 2.0)
    first.update()
    second = MovingAverage(model, decay=0.9)
    second.load_state_dict(first.state_dict())
    for average in (first, second):
        average.update()
    found = [average.state_dict()["average"]["weight"] for average in (first, second)]
    assert torch.equal(*found)
    assert second.updates == 2


@pytest.mark.parametrize("decay", [1.0, -0.1, math.inf])
def test_impossible_decay_is_refused(model, decay):
    with pytest.raises(TrainingError, match="at least 0 and below 1"):
        MovingAverage(model, decay)
