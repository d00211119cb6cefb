"""TensorBoard and Weights & Biases, the second played by a module of the same calls."""

import importlib.util
import sys
from types import ModuleType

import pytest
import yaml

from bec_mace.config.schema import LoggingConfig, RunConfig
from bec_mace.errors import TrainingError
from bec_mace.train.loop import train
from bec_mace.train.run_folder import read_metrics


class FakeRun:
    def __init__(self, options):
        self.options, self.rows, self.finished = options, [], False

    def log(self, values, step):
        self.rows.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """A package that notes what it is told; its runs."""
    runs, module = [], ModuleType("wandb")
    module.__spec__ = importlib.util.spec_from_loader("wandb", None)

    def init(**options):
        runs.append(FakeRun(options))
        return runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return runs


def with_logging(config, **values):
    return config.model_copy(update={"logging": LoggingConfig(**values)})


def test_wandb_gets_every_epoch_and_a_resumed_run_goes_on(make_config, wandb):
    config = with_logging(make_config(), wandb="charges")
    train(config)
    (first,) = wandb
    assert first.finished and [step for step, _ in first.rows] == [1, 2]
    columns, _ = read_metrics(config.output / "metrics.csv")
    errors = [values["validation/born_effective_charges_rmse"] for _, values in first.rows]
    assert errors == pytest.approx(columns["validation_born_effective_charges_rmse"])
    assert first.options["project"] == "charges" and first.options["name"] == "run"
    assert first.options["config"]["training"]["epochs"] == 2
    train(with_logging(make_config(epochs=3), wandb="charges"), resume=True)
    assert wandb[1].options["id"] == first.options["id"] and [step for step, _ in wandb[1].rows] == [3]


def test_a_tracker_that_fails_is_named_before_the_first_step(make_config, wandb, monkeypatch):
    def no_account(**options):
        raise ValueError("api_key not configured\nand more")

    monkeypatch.setattr(sys.modules["wandb"], "init", no_account)
    config = with_logging(make_config(), wandb="charges")
    with pytest.raises(TrainingError, match=r"logging.wandb: cannot be opened \(ValueError: api_key not configured\); mend it"):
        train(config)
    assert not (config.output / "metrics.csv").exists()


@pytest.mark.parametrize(("values", "package"), [({"tensorboard": True}, "tensorboard"), ({"wandb": "p"}, "wandb")])
def test_a_package_that_is_missing_is_said_before_anything_is_done(make_config, monkeypatch, values, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))
    config = with_logging(make_config(), **values)
    with pytest.raises(
        TrainingError, match=rf"logging.{package}: the package {package} is not installed; `pip install {package}`"
    ):
        train(config)
    assert not config.output.exists()


def test_nothing_is_imported_unasked(make_config, monkeypatch):
    for name in ("tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)  # an import would fail
    assert train(make_config())["epochs"] == 2


def test_tensorboard_holds_the_numbers(make_config):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = with_logging(make_config(), tensorboard=True)
    train(config)
    train(with_logging(make_config(epochs=3), tensorboard=True), resume=True)
    events = EventAccumulator(str(config.output / "tensorboard")).Reload()
    columns, _ = read_metrics(config.output / "metrics.csv")
    found = events.Scalars("validation/born_effective_charges_rmse")
    assert [event.step for event in found] == [1, 2, 3]
    assert [event.value for event in found] == pytest.approx(columns["validation_born_effective_charges_rmse"])


def test_the_keys_in_yaml(make_config):
    values = make_config().model_dump(mode="json")
    values["logging"] = yaml.safe_load("{tensorboard: true, wandb: charges}")
    assert RunConfig.model_validate(values).logging == LoggingConfig(tensorboard=True, wandb="charges")


def test_pandas_reads_metrics(make_config):
    pandas = pytest.importorskip("pandas")
    config = make_config(epochs=3, validate_every=2)
    train(config)
    table = pandas.read_csv(config.output / "metrics.csv")
    assert table["epoch"].tolist() == [1, 2, 3] and table["train_loss"].dtype == float
    assert table["validation_loss"].isna().tolist() == [True, False, False]
