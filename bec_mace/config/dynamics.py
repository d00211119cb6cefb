"""The schema of a molecular dynamics run, read from YAML.

Every key, its default and its meaning stand here and nowhere else. Mistakes are found as in training configurations:
all at once, each with its line, before torch is imported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from bec_mace.config.checks import Whole, check_path, one_of, show, wrong
from bec_mace.config.document import Mistake
from bec_mace.config.ensembles import ENSEMBLES
from bec_mace.config.messages import raise_together
from bec_mace.config.schema import LARGEST_SEED, read_config
from bec_mace.config.section import Device, Precision, Section

_OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def _vector(value: Any) -> Any:
    if not (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(isinstance(item, int | float) and not isinstance(item, bool) for item in value)
    ):
        raise wrong(f"expected three numbers such as [0, 0, 0.1], got {show(value)}")
    return [float(item) for item in value]


def _counts(value: Any) -> Any:
    if not (isinstance(value, list) and len(value) == 3 and all(type(item) is int and item > 0 for item in value)):
        raise wrong(f"expected three positive whole numbers such as [2, 2, 1], got {show(value)}")
    return value


def _object(value: Any) -> Any:
    if value is not None and not (isinstance(value, str) and _OBJECT.fullmatch(value)):
        raise wrong(f"expected 'module:name', such as 'my_module:my_name', got {show(value)}")
    return value


def _ensemble(value: Any) -> Any:
    if not isinstance(value, str) or value not in ENSEMBLES:
        raise wrong(one_of(value, list(ENSEMBLES)))
    return value


def _temperature(value: Any) -> Any:
    """Accept a number, ``{from: K, to: K}``, or a list of points ``[step, K]``."""
    numbers = [value]
    if isinstance(value, dict):
        if set(value) != {"from", "to"}:
            raise wrong(f"expected a number in K, {{from: K, to: K}} or [[0, K], [step, K], ...], got {show(value)}")
        numbers = list(value.values())
    elif isinstance(value, list):
        if not (len(value) > 1 and all(isinstance(point, list | tuple) and len(point) == 2 for point in value)):
            raise wrong(f"expected at least two points [step, K], such as [[0, 100], [5000, 300]], got {show(value)}")
        steps, numbers = [point[0] for point in value], [point[1] for point in value]
        whole = all(type(step) is int for step in steps)
        if not whole or steps[0] != 0 or any(late <= early for early, late in pairwise(steps)):
            raise wrong(f"the steps of the points must be whole numbers that begin with 0 and grow, got {steps}")
    for number in numbers:
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
            raise wrong(f"expected a number in K, {{from: K, to: K}} or [[0, K], [step, K], ...], got {show(number)}")
        if number is not None and not (0 < number < math.inf):
            raise wrong(f"must be greater than 0, got {show(number)}")
    return float(value) if isinstance(value, int | float) else value


Vector = Annotated[list[float], BeforeValidator(_vector)]
Importable = Annotated[str | None, BeforeValidator(_object)]
Counts = Annotated[list[int], BeforeValidator(_counts)]
EnsembleName = Annotated[str, BeforeValidator(_ensemble)]
Temperature = Annotated[float | dict[str, int | float] | list[list[int | float]] | None, BeforeValidator(_temperature)]


def _only_one(section: Section, names: Sequence[str]) -> None:
    given = [name for name in names if getattr(section, name) is not None]
    if len(given) != 1:
        raise wrong(f"expected exactly one of {', '.join(names)}, got {' and '.join(given) or 'none'}")


class PotentialConfig(Section):
    """What gives energy and forces. A plain text stands for ``model``."""

    model: str | None = Field(default=None, description="A model of ours with an energy head: file, run folder or name.")
    mace: str | None = Field(
        default=None, description="A model file of mace-torch. It is a pickle: loading it runs the code inside."
    )
    calculator: Importable = Field(default=None, description="Any ASE calculator, as 'module:Class'.")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of the calculator, or more of them for mace."
    )

    @model_validator(mode="before")
    @classmethod
    def _text_is_a_model(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_potential(self) -> PotentialConfig:
        _only_one(self, ("model", "mace", "calculator"))
        if self.arguments and self.model is not None:
            raise wrong("'arguments' has no effect with model; remove it")
        return self


class EnsembleConfig(Section):
    """Which ensemble is sampled, and how. A plain text stands for ``name``."""

    name: EnsembleName = Field(
        description="nve: velocity Verlet; langevin: with friction and noise; nose_hoover: a chain of thermostats; "
        "npt_isotropic, npt_triclinic: that and constant pressure, at which the volume or the whole cell changes."
    )
    temperature: Temperature = Field(
        default=None,
        description="All but nve: temperature in K; {from: K, to: K} changes it evenly over all steps, "
        "[[0, K], [step, K], ...] from point to point.",
    )
    time_constant: float = Field(
        default=100.0, gt=0, description="langevin: 1/friction in fs; others but nve: time of the thermostat in fs."
    )
    pressure: float | None = Field(default=None, description="npt_isotropic, npt_triclinic: pressure in GPa; 0.0001 is 1 bar.")
    pressure_time_constant: float = Field(
        default=1000.0, gt=0, description="npt_isotropic, npt_triclinic: time of the barostat in fs."
    )

    @model_validator(mode="before")
    @classmethod
    def _text_is_a_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _temperature_where_it_is_needed(self) -> EnsembleConfig:
        if not ENSEMBLES[self.name].has_thermostat:
            for key in ("temperature", "time_constant"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise wrong(f"'{key}' has no effect with {self.name}; remove it (initial_temperature sets the velocities)")
        elif self.temperature is None:
            raise wrong(f"{self.name} needs a 'temperature' in K")
        return self

    @model_validator(mode="after")
    def _pressure_where_it_is_needed(self) -> EnsembleConfig:
        if not ENSEMBLES[self.name].has_barostat:
            for key in ("pressure", "pressure_time_constant"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    known = " or ".join(name for name, row in ENSEMBLES.items() if row.has_barostat)
                    raise wrong(f"'{key}' has no effect with {self.name}; remove it or choose {known}")
        elif self.pressure is None:
            raise wrong(f"{self.name} needs a 'pressure' in GPa; 0.0001 is 1 bar")
        return self


class SinusoidConfig(Section):
    """E(t) = amplitude sin(2 pi c frequency_cm t + phase), as ``bec_mace.electric_field.SinusoidField``."""

    amplitude: Vector = Field(description="Amplitude in V/Å.")
    frequency_cm: float = Field(gt=0, description="Frequency in cm^-1.")
    phase: float = Field(default=0.0, description="Phase in radians.")


class PulseConfig(Section):
    """A Gaussian pulse, with or without a carrier wave, as ``bec_mace.electric_field.GaussianPulse``."""

    amplitude: Vector = Field(description="Amplitude in V/Å.")
    center_fs: float = Field(description="Time of the maximum in fs.")
    width_fs: float = Field(gt=0, description="Standard deviation in fs.")
    frequency_cm: float = Field(default=0.0, ge=0, description="Frequency of the carrier in cm^-1.")
    phase: float = Field(default=0.0, description="Phase of the carrier in radians.")


class FieldConfig(Section):
    """A uniform electric field. Three numbers stand for ``constant``, a plain text for ``function``."""

    constant: Vector | None = Field(default=None, description="Constant field in V/Å.")
    sinusoid: SinusoidConfig | None = Field(default=None, description="Oscillating field.")
    pulse: PulseConfig | None = Field(default=None, description="Gaussian pulse.")
    function: Importable = Field(
        default=None, description="'module:function' of the time in fs that returns three numbers in V/Å."
    )

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        return {"constant": value} if isinstance(value, list) else {"function": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_field(self) -> FieldConfig:
        _only_one(self, ("constant", "sinusoid", "pulse", "function"))
        return self


class SamplingConfig(Section):
    """How often things are written, in steps."""

    currents: Whole | None = Field(default=4, ge=1, description="Steps between two currents, each from one Z*. Null: none.")
    trajectory: Whole = Field(default=50, ge=1, description="Steps between two frames of the trajectory.")
    born_effective_charges: bool = Field(default=False, description="Whether frames of the trajectory hold Z*.")
    charges: bool = Field(default=False, description="Whether frames of the trajectory hold the charges of the model's heads.")
    log: Whole = Field(default=100, ge=1, description="Steps between two lines of the log.")
    checkpoint: Whole = Field(default=1000, ge=1, description="Steps between two states to resume from.")


class LimitsConfig(Section):
    """When a run has gone wrong and stops."""

    temperature: float = Field(default=5000.0, gt=0, description="Highest temperature in K, looked at in every step.")
    distance: float = Field(
        default=0.3, ge=0, description="Shortest distance of two atoms in Å, looked at with the log and every state."
    )


class MDConfig(Section):
    """Everything that defines a molecular dynamics run."""

    output: Annotated[Path, BeforeValidator(check_path)] = Field(
        default=Path("runs/md"),
        strict=False,
        description="Run folder. Default when read from a file: runs/ and the name of the file.",
    )
    structure: str = Field(
        min_length=1,
        description="FILE or FILE@INDEX of any format that ASE reads (the last structure without an index), "
        "bec_mace:NAME of an included data set, or a run folder of bec-mace md, of which the "
        "last positions and velocities are taken.",
    )
    repeat: Counts = Field(default=[1, 1, 1], description="Supercell: number of copies along each lattice vector.")
    potential: PotentialConfig = Field(description="Energy and forces: a model, mace or any ASE calculator.")
    charges: str | None = Field(
        default=None, description="Model for Z*: file, run folder or name. Null: the potential where it is one of ours."
    )
    ensemble: EnsembleConfig = Field(description=f"One of {', '.join(ENSEMBLES)}.")
    time_step: float = Field(gt=0, le=1000, description="Time step in fs; 0.5 where there is hydrogen.")
    steps: Whole = Field(ge=0, le=10**15, description="Number of steps of the whole run.")
    initial_temperature: float | None = Field(
        default=None,
        ge=0,
        description="Draw velocities at this temperature in K. Null: take those of the structure; "
        "where it has none, those of the thermostat's temperature.",
    )
    electric_field: FieldConfig | None = Field(
        default=None, description="Field in V/Å: [x, y, z], {sinusoid: ...}, {pulse: ...} or 'module:function'."
    )
    seed: Whole = Field(default=0, ge=0, le=LARGEST_SEED, description="Seed of velocities and Langevin noise.")
    sampling: SamplingConfig = Field(default_factory=SamplingConfig, description="How often things are written.")
    limits: LimitsConfig = Field(default_factory=LimitsConfig, description="When a run that explodes is stopped.")
    time_limit_minutes: float | None = Field(
        default=None, gt=0, description="Stop cleanly after this time; the run can be resumed. Null: no limit."
    )
    device: Device = Field(default="auto", description="auto, cpu, cuda, cuda:N, mps or xpu, for models and mace.")
    precision: Precision = Field(default="float32", description="Floating-point type of models and mace.")

    @model_validator(mode="after")
    def _keys_fit_together(self) -> MDConfig:
        raise_together(self, cross_check(self.model_dump(mode="json")))
        return self


def cross_check(values: Mapping[str, Any]) -> list[Mistake]:
    """Check keys against each other.

    Args:
        values: Plain values as read from a file. They may be incomplete or wrong elsewhere.

    Returns:
        What does not fit together.
    """
    return [*_check_pressure(values), *_check_charges(values)]


def _check_pressure(values: Mapping[str, Any]) -> list[Mistake]:
    ensemble = values.get("ensemble")
    name = ensemble.get("name") if isinstance(ensemble, Mapping) else ensemble
    if name not in ENSEMBLES or not ENSEMBLES[name].has_barostat or values.get("electric_field") is None:
        return []
    text = f"there is no stress in an electric field, and {name} needs one; remove it, or choose an ensemble of constant volume"
    return [Mistake(("electric_field",), text)]


def _check_charges(values: Mapping[str, Any]) -> list[Mistake]:
    potential = values.get("potential")
    ours = isinstance(potential, str) or (isinstance(potential, Mapping) and potential.get("model") is not None)
    if potential is None or ours or values.get("charges") is not None:
        return []
    advice = "name a model under charges"
    mistakes = []
    if values.get("electric_field") is not None:
        mistakes.append(Mistake(("electric_field",), f"the potential gives no Z*, so nothing feels the field; {advice}"))
    sampling = values.get("sampling")
    for name in ("born_effective_charges", "charges"):
        if isinstance(sampling, Mapping) and sampling.get(name) is True:
            mistakes.append(Mistake(("sampling", name), f"the potential gives no {name}; {advice}"))
    return mistakes


def load_md_config(path: str | Path, overrides: Sequence[str] = ()) -> MDConfig:
    """Read and check the configuration of a molecular dynamics run.

    Args:
        path: The YAML file.
        overrides: Texts such as ``"steps=500"`` that win over the file and pass the same checks.

    Returns:
        The complete configuration, defaults filled in.

    Raises:
        ConfigError: Something is wrong. The message lists every mistake with its line.
    """
    return read_config(path, overrides, MDConfig, cross_check, "'structure:', 'potential:' and 'ensemble:'")
