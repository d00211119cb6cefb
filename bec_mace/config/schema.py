"""The schema of a training run, read from YAML.

Every key, its default and its meaning stand here and nowhere else. A mistake in the file never starts a run:
:func:`load_config` lists all of them at once, each with its line.

Neither torch nor mace is imported here, so that a mistake is reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from bec_mace.config.checks import (
    PropertyName,
    Whole,
    check_element,
    check_optional_split,
    check_path,
    check_schedule,
    check_split,
    import_outside_heads,
)
from bec_mace.config.checks import (
    cross_check as check_sections,
)
from bec_mace.config.data_entries import TrainingFiles, check_entries
from bec_mace.config.document import Mistake, apply_overrides, dump_text, read_document, write_document
from bec_mace.config.electrostatics import check_electrostatics
from bec_mace.config.messages import explain, raise_mistakes, raise_together
from bec_mace.config.model import KernelModelConfig, ModelConfig
from bec_mace.config.section import Device, Precision, Section
from bec_mace.errors import ConfigError

Schema = TypeVar("Schema", bound=Section)


LARGEST_SEED = 2**32 - 1


def cross_check(values: Mapping[str, Any]) -> list[Mistake]:
    """What does not fit together in plain values, which may be incomplete."""
    return [*check_sections(values), *check_electrostatics(values), *check_entries(values)]


class IndexFile(Section):
    """A set given by frame numbers of the training files."""

    indices: str = Field(description="Text file of frame numbers, counted from 0 over all training files.")


Split = float | str | list[str] | IndexFile


class DataConfig(Section):
    """Which structures and labels to train on. Paths are relative to the working directory."""

    train: TrainingFiles = Field(
        description="File, glob or list of files of training structures; anything ASE reads. An item of the list may be "
        "{files: ..., reference: ..., weights: ...}."
    )
    validation: Annotated[Split, BeforeValidator(check_split)] = Field(
        default=0.1, description="Fraction of the training files (0: no set), file(s) of its own, or {indices: FILE}."
    )
    test: Annotated[Split | None, BeforeValidator(check_optional_split)] = Field(
        default=None, description="As validation; evaluated once at the end. Null for no test set."
    )
    group: str | None = Field(
        default=None,
        min_length=1,
        description="What must not be in two sets: formula, chemical_system, or a key of the frames such as a name of their "
        "trajectory. Null: identical structures.",
    )
    keys: dict[PropertyName, str] = Field(
        default_factory=dict, description="Key in the files for a property, where the usual names do not fit."
    )
    index_order: Literal["polarization_first", "displacement_first"] = Field(
        default="polarization_first", description="Order of the two indices of Z* in the files."
    )
    allow_missing: list[PropertyName] = Field(
        default_factory=list, description="Properties that some frames may lack; those frames do not count for them."
    )
    egg_box: Literal["keep", "remove"] = Field(
        default="keep", description="Whether to train on labels without the error of the real-space grid, where one is found."
    )
    seed: Whole = Field(default=0, ge=0, le=LARGEST_SEED, description="Seed of the random split by fraction.")


RATE_OF_SOAP = 0.1
"""The learning rate of soap where none is given."""


class OptimizerConfig(Section):
    """How a gradient becomes a step."""

    name: Literal["adam", "adamw", "soap"] = Field(
        default="adam", description="Optimizer. soap needs about half the steps of adam, at ten times its rate."
    )
    learning_rate: float = Field(
        default=0.01, gt=0, le=1e6, description="Highest learning rate, after the warm-up; of soap 0.1 by default."
    )
    amsgrad: bool = Field(default=True, description="adam, adamw: use the largest second moment so far.")
    weight_decay: float = Field(default=0.0, ge=0, le=1e6, description="Decay of the weights.")

    @model_validator(mode="before")
    @classmethod
    def _rate_of_soap(cls, value: Any) -> Any:
        wanting = isinstance(value, dict) and value.get("name") == "soap" and "learning_rate" not in value
        return {**value, "learning_rate": RATE_OF_SOAP} if wanting else value


class ScheduleConfig(Section):
    """How the learning rate changes during the run."""

    name: Literal["cosine", "plateau", "constant"] = Field(default="cosine", description="Kind of schedule.")
    warmup_epochs: float = Field(default=1.0, ge=0, description="Epochs of linear increase from zero.")
    final_fraction: float = Field(default=0.01, ge=0, le=1, description="cosine: last rate over the highest rate.")
    patience: Whole = Field(default=20, ge=1, description="plateau: validations without gain before a cut.")
    factor: float = Field(default=0.5, gt=0, lt=1, description="plateau: factor of each cut.")

    @model_validator(mode="after")
    def _only_options_of_this_schedule(self) -> ScheduleConfig:
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        check_schedule(self.name, {name: getattr(self, name) != default for name, default in defaults.items()})
        return self


class LossConfig(Section):
    """What is minimised: a weighted sum of mean squared errors."""

    weights: Annotated[dict[PropertyName, Annotated[float, Field(ge=0)]], Field(min_length=1)] = Field(
        default={"born_effective_charges": 1.0}, description="Weight of each property that is trained."
    )
    element_weights: dict[Annotated[str, AfterValidator(check_element)], Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="Weight of the atoms of an element in per-atom properties; 1 if not named."
    )
    huber: dict[PropertyName, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Error of a property beyond which its loss grows only linearly, against outliers "
        "and for a low mean absolute error; squares throughout if not named.",
    )


class TrainingConfig(Section):
    """How long and how to train."""

    epochs: Whole = Field(ge=1, le=10_000_000, description="Passes over the training set.")
    batch_size: Whole = Field(default=1, ge=1, le=1_000_000, description="Frames per step, over all processes.")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="Optimizer.")
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig, description="Schedule of the learning rate.")
    ema_decay: float | None = Field(
        default=0.99, gt=0, lt=1, description="Decay per step of the averaged weights. Null: no average."
    )
    gradient_clip: float | None = Field(default=10.0, gt=0, description="Largest norm of the gradient. Null: no limit.")
    position_noise: float | None = Field(
        default=None,
        gt=0,
        le=1.0,
        description="Training frames get new random displacements of this standard deviation in Å in each "
        "epoch, and keep their labels; for structures at rest. Null: none.",
    )
    loss: LossConfig = Field(default_factory=LossConfig, description="Loss.")
    early_stopping_patience: Whole | None = Field(
        default=None, ge=1, description="Stop after this many validations without gain. Null: never."
    )
    validate_every: Whole = Field(default=1, ge=1, description="Epochs between validations.")
    time_limit_minutes: float | None = Field(
        default=None, gt=0, description="Stop cleanly after this time; the run can be resumed. Null: no limit."
    )


class LoggingConfig(Section):
    """Where the numbers of each epoch go beside metrics.csv."""

    tensorboard: bool = Field(default=False, description="Whether to write them for TensorBoard, into the run folder.")
    wandb: str | None = Field(
        default=None, min_length=1, description="Project of Weights & Biases to send them to. Null: none."
    )


class FitConfig(Section):
    """How the weights of a kernel model are found."""

    noise: float | None = Field(
        default=None, gt=0, description="Standard deviation of what the model cannot describe, in e. Null: by the evidence."
    )
    prior: float | None = Field(
        default=None, gt=0, description="Standard deviation of the model before it sees data, in e. Null: by the evidence."
    )
    memory_gb: float = Field(default=2.0, gt=0, description="Memory that the design matrix and the solve may take.")
    calibration_folds: Whole = Field(
        default=5, ge=0, description="Parts of the training set held out in turn to calibrate the uncertainty; 0: none."
    )


class CommonConfig(Section):
    """What every run has."""

    output: Annotated[Path, BeforeValidator(check_path)] = Field(
        default=Path("runs/run"),
        strict=False,
        description="Run folder. Default when read from a file: runs/ and the name of the file.",
    )
    seed: Whole = Field(default=0, ge=0, le=LARGEST_SEED, description="Seed of the initial weights and of the order of frames.")
    device: Device = Field(
        default="auto", description="auto, cpu, cuda, cuda:N, mps or xpu. auto takes a GPU when there is one."
    )
    precision: Precision = Field(default="float32", description="Floating-point type.")

    @model_validator(mode="after")
    def _sections_fit_together(self) -> CommonConfig:
        raise_together(self, cross_check(self.model_dump(mode="json")))
        return self


class RunConfig(CommonConfig):
    """Everything that defines a training run of a network."""

    num_processes: Whole = Field(
        default=1, ge=1, description="Processes (GPUs) to start here; torchrun and SLURM set this by themselves."
    )
    data: DataConfig = Field(description="Structures and labels.")
    model: ModelConfig = Field(description="Network and heads.")
    training: TrainingConfig = Field(description="Length, optimizer, loss.")
    logging: LoggingConfig = Field(
        default_factory=LoggingConfig, description="TensorBoard and Weights & Biases, where they are wanted."
    )


class KernelRunConfig(CommonConfig):
    """Everything that defines the fit of a kernel model."""

    data: DataConfig = Field(description="Structures and labels.")
    model: KernelModelConfig = Field(description="Descriptors, kernel and heads.")
    fit: FitConfig = Field(default_factory=FitConfig, description="The linear solve.")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig | KernelRunConfig:
    """Read and check a configuration file; ``model.kind`` says of which kind.

    Args:
        path: The YAML file.
        overrides: Texts such as ``"training.epochs=5"`` that win over the file and pass the same checks.

    Returns:
        The complete configuration, defaults filled in.

    Raises:
        ConfigError: Something is wrong. The message lists every mistake with its line.
    """
    document = read_document(path)
    apply_overrides(document, overrides)
    model = document.values.get("model")
    if isinstance(model, dict) and model.get("kind") == "kernel":
        return read_config(path, overrides, KernelRunConfig, cross_check)
    return read_config(path, overrides, RunConfig, cross_check)


def read_config(
    path: str | Path,
    overrides: Sequence[str],
    schema: type[Schema],
    cross_check: Callable[[Mapping[str, Any]], list[Mistake]],
    example: str = "'data:', 'model:' and 'training:'",
) -> Schema:
    """Read and check a configuration file of any schema; the key ``output`` where it has one is by default runs/ and the name.

    Args:
        path: The YAML file.
        overrides: Texts ``"key=value"`` that win over the file.
        schema: What the file must hold.
        cross_check: Finds what does not fit together in plain values, which may be incomplete.
        example: Keys that such a file has, for messages.

    Raises:
        ConfigError: Something is wrong. The message lists every mistake with its line.
    """
    document = read_document(path, example)
    apply_overrides(document, overrides)
    output = {"output": f"runs/{Path(path).stem}"} if "output" in schema.model_fields else {}
    values = {**output, **document.values}
    import_outside_heads(values)
    mistakes = list(document.mistakes)
    config: Schema | None = None
    try:
        config = schema.model_validate(values)
    except ValidationError as error:
        mistakes += explain(error, schema)
        mistakes += [
            mistake
            for mistake in cross_check(values)
            if not any(other.location[: len(mistake.location)] == mistake.location for other in mistakes)
        ]
    except ConfigError:
        mistakes += cross_check(values)
    lines = []
    for mistake in mistakes:
        line, origin = document.source(mistake.location)
        lines.append((line, f"{origin}: {'.'.join(map(str, mistake.location))}: {mistake.message}"))
    raise_mistakes(str(path), lines)
    if config is None:
        raise ConfigError(f"{path}: the configuration could not be read")
    return config


def save_config(config: Section, path: str | Path) -> None:
    """Write a complete configuration as YAML that :func:`load_config` reads back to the same values."""
    write_document(config.model_dump(mode="json"), path)


def format_config(config: Section) -> str:
    """Return a complete configuration as YAML text."""
    return dump_text(config.model_dump(mode="json"))
