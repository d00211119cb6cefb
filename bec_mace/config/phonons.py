"""The schema of a phonon calculation, read from YAML.

Every key, its default and its meaning stand here and nowhere else. Mistakes are found as in training configurations:
all at once, each with its line, before torch or phonopy are imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from bec_mace.config.checks import Whole, check_path, show, wrong
from bec_mace.config.document import Mistake
from bec_mace.config.dynamics import PotentialConfig, Vector
from bec_mace.config.messages import raise_together
from bec_mace.config.schema import read_config
from bec_mace.config.section import Device, Precision, Section

FROM_FILES = ("force_sets", "force_constants")
_SOURCES = ("model", "mace", "calculator", *FROM_FILES)


def _supercell(value: Any) -> Any:
    rows = value if isinstance(value, list) and len(value) == 3 else []
    if rows and all(type(item) is int and item > 0 for item in rows):
        return value
    if rows and all(isinstance(row, list) and len(row) == 3 and all(type(item) is int for item in row) for row in rows):
        return value
    raise wrong(f"expected three positive whole numbers such as [2, 2, 2], or three rows of three, got {show(value)}")


def _directions(value: Any) -> Any:
    if isinstance(value, list) and any(isinstance(row, list) and row and not any(row) for row in value):
        raise wrong(f"a direction must not be zero, got {show(value)}")
    return value


def _tensor(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or (number and value >= 1):
        return value
    rows = value if isinstance(value, list) and len(value) == 3 else []
    if rows and all(isinstance(row, list) and len(row) == 3 for row in rows):
        return value
    raise wrong(f"expected a number from 1, or three rows of three numbers, got {show(value)}")


Supercell = Annotated[list[int] | list[list[int]], BeforeValidator(_supercell)]
Directions = Annotated[list[Vector], BeforeValidator(_directions), Field(min_length=1)]
Tensor = Annotated[float | list[Vector] | None, BeforeValidator(_tensor)]


class PhononPotentialConfig(PotentialConfig):
    """Where force constants come from. A plain text stands for ``model``."""

    force_sets: str | None = Field(
        default=None, description="FORCE_SETS of phonopy, in eV/Å: displacements and forces that another program has computed."
    )
    force_constants: str | None = Field(
        default=None, description="FORCE_CONSTANTS or force_constants.hdf5 of phonopy, in eV/Å^2."
    )

    @model_validator(mode="after")
    def _one_potential(self) -> PhononPotentialConfig:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise wrong(f"expected exactly one of {', '.join(_SOURCES)}, got {' and '.join(given) or 'none'}")
        if self.arguments and given[0] not in ("mace", "calculator"):
            raise wrong(f"'arguments' has no effect with {given[0]}; remove it")
        return self


class ChargesConfig(Section):
    """Where Z* and the dielectric tensor come from. A plain text stands for ``model``."""

    model: str | None = Field(default=None, description="A model of ours for Z*: file, run folder or name.")
    born: str | None = Field(default=None, description="BORN file of phonopy.")
    epsilon_infinity: Tensor = Field(
        default=None, description="Dielectric constant or tensor of the electrons, where the model gives none."
    )

    @model_validator(mode="before")
    @classmethod
    def _text_is_a_model(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> ChargesConfig:
        if (self.model is None) == (self.born is None):
            raise wrong(f"expected exactly one of model, born, got {'both' if self.model else 'none'}")
        if self.born is not None and self.epsilon_infinity is not None:
            raise wrong("'epsilon_infinity' has no effect with born, which holds a dielectric tensor; remove it")
        return self


class BandsConfig(Section):
    """The path of the phonon bands. A plain text stands for ``path``."""

    path: str | None = Field(
        default=None,
        min_length=1,
        description="Special points by ASE's names, such as 'GXWKGL,UX'. Null: the path of the lattice.",
    )
    points: Whole = Field(default=200, ge=2, le=100_000, description="Number of wavevectors on the whole path.")

    @model_validator(mode="before")
    @classmethod
    def _text_is_a_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class OpticsConfig(Section):
    """The infrared spectrum."""

    damping: float = Field(
        default=10.0, gt=0, description="Damping of all modes in cm^-1: the full width of an absorption line."
    )
    polarizations: Directions = Field(
        default=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        description="Cartesian directions of the electric field of the light.",
    )
    max_wavenumber: float | None = Field(
        default=None, gt=0, description="Last wavenumber in cm^-1. Null: 1.3 times the highest mode."
    )
    spacing: float = Field(default=1.0, gt=0, description="Between wavenumbers, in cm^-1.")


class PhononConfig(Section):
    """Everything that defines a phonon calculation."""

    output: Annotated[Path, BeforeValidator(check_path)] = Field(
        default=Path("runs/phonons"),
        strict=False,
        description="Run folder. Default when read from a file: runs/ and the name of the file.",
    )
    structure: str = Field(
        min_length=1, description="FILE or FILE@INDEX of any format that ASE reads, with a relaxed unit cell of a crystal."
    )
    supercell: Supercell = Field(description="Copies of the unit cell along each vector, or phonopy's 3x3 matrix.")
    potential: PhononPotentialConfig = Field(
        description="Forces: a model, mace, any ASE calculator, or force_sets or force_constants of phonopy."
    )
    charges: ChargesConfig | None = Field(
        default=None,
        description="Z* and dielectric tensor: a model or {born: FILE}. Null: the potential where it gives both.",
    )
    primitive: Literal["auto", "none"] = Field(
        default="auto", description="auto: modes of the primitive cell that phonopy finds; none: of the cell as it is."
    )
    symmetry_tolerance: float = Field(default=1e-5, gt=0, le=1, description="Of the space group, in Å.")
    relax: Literal["none", "positions", "cell"] = Field(
        default="none", description="Relax with the potential first: positions alone, or with the cell. Symmetry is kept."
    )
    max_force: float = Field(
        default=1e-3, gt=0, description="Where relaxation ends, in eV/Å; a larger force at the start is warned of."
    )
    displacement: float = Field(default=0.01, gt=0, le=1, description="Of atoms for the force constants, in Å.")
    directions: Directions = Field(
        default=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        description="Cartesian directions in which the wavevector goes to zero, for the longitudinal modes.",
    )
    bands: BandsConfig | None = Field(default_factory=BandsConfig, description="Path of the bands. Null: none.")
    spectrum: OpticsConfig = Field(default_factory=OpticsConfig, description="Infrared absorption and reflectivity.")
    raman: bool = Field(
        default=False, description="Raman activities of the modes at Gamma, from the polarizability of the model of charges."
    )
    device: Device = Field(default="auto", description="auto, cpu, cuda, cuda:N, mps or xpu, for models and mace.")
    precision: Precision = Field(default="float64", description="Floating-point type of models and mace.")

    @model_validator(mode="after")
    def _keys_fit_together(self) -> PhononConfig:
        raise_together(self, cross_check(self.model_dump(mode="json")))
        return self


def cross_check(values: Mapping[str, Any]) -> list[Mistake]:
    """Check keys against each other.

    Args:
        values: Plain values as read from a file. They may be incomplete or wrong elsewhere.

    Returns:
        What does not fit together.
    """
    potential = values.get("potential")
    source = next((name for name in FROM_FILES if isinstance(potential, Mapping) and potential.get(name)), None)
    if source is None:
        return []
    mistakes = []
    if values.get("relax", "none") != "none":
        mistakes.append(Mistake(("relax",), f"{source} belongs to one structure, which cannot be relaxed with it; remove it"))
    if values.get("displacement", 0.01) != 0.01:
        mistakes.append(Mistake(("displacement",), f"has no effect with {source}; remove it"))
    return mistakes


def load_phonon_config(path: str | Path, overrides: Sequence[str] = ()) -> PhononConfig:
    """Read and check the configuration of a phonon calculation.

    Args:
        path: The YAML file.
        overrides: Texts such as ``"spectrum.damping=5"`` that win over the file and pass the same checks.

    Returns:
        The complete configuration, defaults filled in.

    Raises:
        ConfigError: Something is wrong. The message lists every mistake with its line.
    """
    return read_config(path, overrides, PhononConfig, cross_check, "'structure:', 'supercell:' and 'potential:'")
