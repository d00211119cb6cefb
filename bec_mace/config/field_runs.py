"""The schema of a file that names runs in electric fields, from whose forces Born effective charges follow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from bec_mace.config.checks import check_path
from bec_mace.config.document import Mistake
from bec_mace.config.dynamics import Vector
from bec_mace.config.messages import raise_together
from bec_mace.config.schema import read_config
from bec_mace.config.section import Section

_TOLERANCE = 1e-9


class FieldRun(Section):
    """One file of forces in a field."""

    file: Annotated[str, BeforeValidator(check_path)] = Field(description="File of structures with forces, beside this one.")
    field: Vector = Field(description="The field, three numbers; zero for the run without one.")


class FieldRunsConfig(Section):
    """Runs of the same structures in different fields."""

    unit: Literal["V/Å", "V/A", "a.u."] = Field(default="V/Å", description="Unit of the fields. One a.u. is 51.42 V/Å.")
    symmetry: bool = Field(
        default=False, description="Turn fields and forces by the space group of each structure, where directions are missing."
    )
    runs: Annotated[list[FieldRun], Field(min_length=2)] = Field(description="Each field with its opposite.")

    @model_validator(mode="after")
    def _keys_fit_together(self) -> FieldRunsConfig:
        raise_together(self, cross_check(self.model_dump(mode="json")))
        return self


def cross_check(values: Mapping[str, Any]) -> list[Mistake]:
    """Fields that are not paired, or there twice, in plain values."""
    runs = values.get("runs")
    fields = [_field(run) for run in runs] if isinstance(runs, list) else []
    if not fields or not all(fields):
        return []
    mistakes = []
    for number, one in enumerate(fields):
        opposite = sum(_alike(one, [-x for x in other]) for other in fields)
        if sum(_alike(one, other) for other in fields) > 1:
            mistakes.append(Mistake(("runs", number, "field"), f"the field {one} is there more than once; leave one run out"))
        elif any(one) and not opposite:
            text = f"no run has the opposite of {one}; the difference of the two is free of the even orders, so add it"
            mistakes.append(Mistake(("runs", number, "field"), text))
    if not any(any(one) for one in fields):
        mistakes.append(Mistake(("runs",), "all fields are zero"))
    return mistakes


def _field(run: Any) -> list[float]:
    """The three numbers of a run; nothing where they are something else, which is said elsewhere."""
    field = run.get("field") if isinstance(run, Mapping) else None
    good = isinstance(field, list) and len(field) == 3 and all(isinstance(x, int | float) for x in field)
    return [float(x) for x in field] if field and good else []


def _alike(one: list[float], other: list[float]) -> bool:
    size = max(abs(x) for x in one)
    return all(abs(a - b) <= _TOLERANCE * size for a, b in zip(one, other, strict=True))


def load_field_runs(path: str | Path) -> FieldRunsConfig:
    """Read a file that names runs in fields.

    Raises:
        ConfigError: Something is wrong. The message lists every mistake with its line.
    """
    return read_config(path, (), FieldRunsConfig, cross_check, "'runs:' and 'unit:'")
