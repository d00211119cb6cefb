import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from bec_mace.config.heads import HEADS
from bec_mace.config.model import ModelConfig
from bec_mace.config.schema import (
    DataConfig,
    LossConfig,
    OptimizerConfig,
    RunConfig,
    TrainingConfig,
    format_config,
    load_config,
    save_config,
)
from bec_mace.errors import ConfigError

GOOD = """\
data:
  train: water.extxyz
  validation: 0.2
model:
  r_max: 4.5
  heads: [monopole, {dipole: {}}]
training:
  epochs: 1e2
  optimizer:
    learning_rate: 1e-3
"""


@pytest.fixture
def write(tmp_path):
    def _write(text, name="config.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def problems(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value).replace(f"{path.parent}/", "")


def test_values_and_defaults(write):
    config = load_config(write(GOOD, "small.yaml"))
    assert config.training.optimizer.learning_rate == 1e-3
    assert config.training.epochs == 100 and isinstance(config.training.epochs, int)
    assert config.data.validation == 0.2 and config.data.test is None
    assert config.output == Path("runs/small")
    assert config.model.head_options == {"monopole": {}, "dipole": {}}
    assert config.training.loss.weights == {"born_effective_charges": 1.0}


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("1E5", 1e5), ("2.5e+1", 25.0), (".5", 0.5), ("5.", 5.0), ("3", 3.0)]
)
def test_numbers_as_people_write_them(write, text, value):
    path = write(GOOD)
    assert load_config(path, [f"training.optimizer.weight_decay={text}"]).training.optimizer.weight_decay == value


def test_yaml_1_1_surprises_are_text(write):
    text = GOOD + "  loss:\n    element_weights: {No: 2.0, Y: 1, O: 3}\n"
    assert load_config(write(text)).training.loss.element_weights == {"No": 2.0, "Y": 1.0, "O": 3.0}
    assert "expected true or false, got 'on'" in problems(write(GOOD), "model.reference_charges=on")


def test_round_trip_of_the_resolved_file(write, tmp_path):
    text = GOOD.replace("validation: 0.2", "validation: {indices: '1e-3'}\n  test: [a.xyz, b.xyz]")
    config = load_config(write(text))
    save_config(config, tmp_path / "resolved.yaml")
    again = load_config(tmp_path / "resolved.yaml")
    assert again == config
    assert again.data.validation.indices == "1e-3"
    assert yaml.safe_load(format_config(config))["model"]["channels"] == 32


def test_model_config_survives_json(write):
    model = load_config(write(GOOD)).model
    assert ModelConfig.model_validate(model.model_dump(mode="json")) == model


def test_all_mistakes_at_once_with_lines(write):
    path = write("""\
data:
  train: water.extxyz
  validation: 0.6
  test: 0.5
model:
  r_max: "4.5"
  heads: [monopol]
  radial_basis: besel
training:
  optimizer:
    learning_rte: 1e-3
  schedule: {name: cosine}
  schedule: {name: plateau}
""")
    assert (
        problems(path)
        == """\
7 mistakes in config.yaml:
  config.yaml:4: data.test: validation and test fractions add up to 1.1 and leave nothing to train on; they must sum \
to less than 1
  config.yaml:6: model.r_max: expected a number, got '4.5'
  config.yaml:7: model.heads.0: unknown head 'monopol'; did you mean 'monopole'?
  config.yaml:8: model.radial_basis: expected one of 'bessel', 'gaussian', got 'besel'; did you mean \
'bessel'?
  config.yaml:9: training.epochs: missing key; Passes over the training set.
  config.yaml:11: training.optimizer.learning_rte: unknown key; did you mean 'learning_rate'?
  config.yaml:12: training.schedule: given twice (again in line 13); keep one of them"""
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rate=1", "unknown key; did you mean 'training.optimizer.learning_rate'"),
        ("training.zzz=1", "training.zzz: unknown key; known keys here are epochs, batch_size"),
        ("trainig.epochs=1", "trainig: unknown key; did you mean 'training'?"),
        ("training.epochs=1.5", "expected a whole number, got 1.5"),
        ("training.epochs=many", "expected a whole number, got 'many'"),
        ("training.epochs=true", "expected a whole number, got true"),
        ("training.epochs=", r"expected a whole number, got nothing (null)"),
        ("training.epochs=0", "must be at least 1, got 0"),
        ("training.ema_decay=1.0", "must be less than 1, got 1.0"),
        ("training.gradient_clip=0", "must be greater than 0, got 0"),
        ("training.schedule.final_fraction=2", "must be at most 1, got 2"),
        ("training.optimizer.learning_rate=.inf", "expected a finite number"),
        ("training.optimizer=adam", "expected a section of keys and values, got 'adam'"),
        ("model.readout_mlp=16", "expected a list, got 16"),
        ("training.schedule.patience=3", "'patience' has no effect with the cosine schedule"),
        ("model.heads=[]", "must not be empty; One or more of monopole"),
        ("model.heads=[dipole, {dipole: {}}]", "the head 'dipole' is named 2 times"),
        ("model.heads=[{dipole: {}, direct: {}}]", "expected one head per list item"),
        ("model.heads=[{dipole: 3}]", "expected the options of a head as keys"),
        ("model.hidden_irreps=32", "expected text, got 32"),
        ("model.hidden_irreps=32x0", "expected irreducible representations such as '32x0e + 32x1o', got '32x0'"),
        ("model.hidden_irreps=8x1o", "needs scalar features"),
        (
            "model.acoustic_sum_rule=projekt",
            "expected one of 'project', 'weighted', 'none', got 'projekt'; did you mean 'project'?",
        ),
        ("model.kind=kernal", "expected one of 'network', 'kernel', got 'kernal'; did you mean 'kernel'?"),
        ("data.train=[]", "expected a file name, a glob or a list of them"),
        ("data.validation=true", "expected a fraction, a file name, a list of file names or {indices: FILE}, got true"),
        ("data.validation=null", "expected a fraction, a file name"),
        ("data.validation=1.5", "a fraction must be at least 0 and less than 1, got 1.5"),
        ("data.validation={index: a}", "expected {indices: FILE}, got keys (index)"),
        ("data.keys.bec=Z", "'bec' is not a known property; did you mean 'born_effective_charges'?"),
        ("data.allow_missing=[enrgy]", "'enrgy' is not a known property; did you mean 'energy'?"),
        ("training.loss.weights.force=1", "'force' is not a known property; did you mean 'forces'?"),
        ("training.loss.weights.energy=1", "no head of this model gives 'energy' (heads: monopole, dipole); add energy"),
        ("training.loss.weights={polarizability: 1}", "no head of this model gives 'polarizability'"),
        ("training.loss.weights={born_effective_charges: 0}", "all weights are zero"),
        ("training.loss.weights={}", "must not be empty"),
        ("training.loss.weights.dipole=-1", "must be at least 0, got -1"),
        ("training.loss.element_weights.ox=1", "'ox' is not the symbol of an element; did you mean 'O'?"),
        ("device=gpu", "cannot be 'gpu'; auto, cpu, cuda, cuda:N, mps or xpu"),
        ("output=3", "expected a path, got 3"),
        ("model.heads=[energy]", "no head of this model gives 'born_effective_charges' (heads: energy)"),
    ],
)
def test_each_mistake_in_plain_words(write, override, message):
    text = problems(write(GOOD), override)
    assert message in text
    assert text.startswith(f"--set {override}: ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "expected key=value"),
        ("=5", "expected key=value"),
        ("training..epochs=5", "expected key=value"),
        ("training.epochs=[1", "not valid YAML"),
    ],
)
def test_overrides_that_are_none(write, override, message):
    assert message in problems(write(GOOD), override)


def test_overrides_win_and_mend(write):
    path = write(GOOD + "    learning_rte: 1\n  loss: 5\n")
    assert "learning_rte" in problems(path)
    config = load_config(
        path,
        ["training.optimizer={learning_rate: 0.5}", "training.loss.weights.dipole=2", "training.epochs=7", "training.epochs=8"],
    )
    assert (config.training.optimizer.learning_rate, config.training.epochs) == (0.5, 8)
    assert config.training.loss.weights == {"dipole": 2.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected keys such as 'data:'.*got an empty file"),
        ("- a\n", "expected keys such as 'data:'.*got list"),
        ("data: [\n", "config.yaml:2: not valid YAML"),
        ("data: &x {train: a}\nmodel: *x\n", "config.yaml:2: not valid YAML: aliases"),
        ("data:\n  ? [a]\n  : 1\n", "config.yaml:2: not valid YAML: a key must be plain text"),
        ("data: !!python/object/apply:os.getcwd []\n", "data: expected|missing key"),
        ("seed: !!python/name:os.system x\n", "not valid YAML: could not determine a constructor"),
    ],
)
def test_files_that_are_no_configuration(write, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(text))


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read as a text file"):
        load_config(tmp_path)


def test_missing_sections_name_what_they_are_for(write):
    text = problems(write("seed: 3\n"))
    assert "data: missing key; Structures and labels." in text
    assert "model: missing key" in text and "training: missing key" in text


def test_sections_made_in_python_are_checked_too():
    sections = {"data": DataConfig(train="a.xyz"), "model": ModelConfig(r_max=4.0, heads=["monopole"])}
    with pytest.raises(ConfigError, match="no head of this model gives 'forces'"):
        RunConfig(**sections, training=TrainingConfig(epochs=1, loss=LossConfig(weights={"forces": 1.0})))
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig(**sections, training=TrainingConfig(epochs=1)).seed = 3


def test_every_key_is_described():
    def check(model):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            if hasattr(field.annotation, "model_fields"):
                check(field.annotation)

    check(RunConfig)


def test_heads_agree_with_the_models():
    from bec_mace.models.heads import head_class

    assert all(head_class(name).row is row for name, row in HEADS.items())


def test_reading_a_config_imports_neither_torch_nor_mace(write):
    code = (
        f"import sys; from bec_mace.config.schema import load_config; load_config({str(write(GOOD))!r}); "
        "print(sorted({'torch', 'mace', 'e3nn'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_each_optimizer_has_a_rate_of_its_own():
    assert OptimizerConfig().learning_rate == OptimizerConfig(name="adamw").learning_rate == 0.01
    assert OptimizerConfig(name="soap").learning_rate == 0.1
    assert OptimizerConfig(name="soap", learning_rate=0.01).learning_rate == 0.01
