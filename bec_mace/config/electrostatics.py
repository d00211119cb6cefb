"""The section ``model.electrostatics``: what acts through Coulomb's law, how it yields, and how it is screened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from bec_mace.config.checks import check_element, show, suggest, wrong
from bec_mace.config.document import Mistake
from bec_mace.config.section import Section

COUPLED = ("monopole", "charge_transfer")
"""Heads whose charges can act through Coulomb's law and give a polarization."""
_ALONE = "static_charges"
MULTIPOLES = ("dipole", "quadrupole")
"""Heads of higher multipoles that can act."""
_ONLY_STATIC = (_ALONE, "quadrupole")
"""Heads that do nothing of themselves."""
_SOURCES = (*COUPLED, _ALONE, *MULTIPOLES)


def _source(value: str) -> str:
    if value not in _SOURCES:
        raise wrong(f"what acts comes from {' or '.join(_SOURCES)}, got '{value}'{suggest(value, list(_SOURCES))}")
    return value


class ResponseConfig(Section):
    """How the sources yield to the potential and the field of each other, once."""

    dipoles: Literal["none", "isotropic", "anisotropic"] = Field(
        default="none", description="Dipoles that the field induces, with a learned polarizability of each atom."
    )
    charges: Literal["none", "edges", "atoms"] = Field(
        default="none",
        description="Charge that differences of the potential move. edges: between neighbours. atoms: between each "
        "atom and the whole frame.",
    )

    @model_validator(mode="after")
    def _yields(self) -> ResponseConfig:
        if self.dipoles == "none" and self.charges == "none":
            raise wrong(
                "nothing yields; give dipoles: isotropic or anisotropic, charges: edges or atoms, or leave response out"
            )
        return self

    @property
    def has_enthalpy(self) -> bool:
        """Whether a uniform field has an energy of second order."""
        return self.charges != "atoms"


def _signs(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise wrong(f"expected signs by element, such as {{O: -1}}, got {show(value)}")
    for symbol, sign in value.items():
        check_element(str(symbol))
        if sign not in (-1, 1) or isinstance(sign, bool):
            raise wrong(f"the sign of {symbol} must be 1 or -1, got {show(sign)}")
    return value


class ElectrostaticsConfig(Section):
    """Coulomb's law between the charges of some heads."""

    sources: Annotated[list[Annotated[str, AfterValidator(_source)]], Field(min_length=1)] = Field(
        description="Heads that act: monopole, charge_transfer or both, dipole, quadrupole; static_charges for screening: "
        "independent."
    )
    screening: Literal["independent", "fixed", "global", "local"] = Field(
        default="local",
        description="What ties Z* to the charges. independent: nothing. fixed: the root of epsilon_infinity, for Z* from "
        "energies and forces alone. global: one learned number. local: a learned number of each atom.",
    )
    smearing: float = Field(default=1.0, gt=0.1, le=5.0, description="Width of the charges in Å; nearer the network has all.")
    tolerance: float = Field(default=1e-6, gt=0, le=1e-2, description="Error that is allowed in an energy, in eV/e^2.")
    method: Literal["auto", "direct", "reciprocal", "mesh"] = Field(
        default="auto", description="How periodic sums are done; auto takes a mesh for large cells."
    )
    epsilon_infinity: float | None = Field(
        default=None, ge=1, le=1000, description="Dielectric constant at clamped nuclei; fixed needs it, others start from it."
    )
    response: ResponseConfig | None = Field(default=None, description="How the sources yield; nothing does without it.")
    charge_sign: Annotated[dict[str, int], BeforeValidator(_signs)] = Field(
        default_factory=dict,
        description="Sign of the charges of some elements, such as {O: -1}: energies and forces leave it open.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> ElectrostaticsConfig:
        if len(set(self.sources)) < len(self.sources):
            raise wrong("a head stands twice among the sources; leave one out")
        alone = _ALONE in self.sources
        if self.screening == "independent" and not (alone and set(self.sources) <= set(_ONLY_STATIC)):
            raise wrong(
                "screening: independent takes sources: [static_charges] or [static_charges, quadrupole], which give no "
                "polarization"
            )
        if not alone and not set(self.sources) & set(COUPLED):
            raise wrong(f"multipoles act beside charges; add {' or '.join(COUPLED)} to the sources")
        if self.screening != "independent" and alone:
            raise wrong(
                f"static_charges give no polarization to screen; take screening: independent, or sources: [{COUPLED[0]}]"
            )
        if self.screening == "fixed" and self.epsilon_infinity is None:
            raise wrong("screening: fixed needs epsilon_infinity, the dielectric constant at clamped nuclei")
        return self

    @property
    def first_screening(self) -> float:
        """Gamma of ``fixed``, and where it starts where it is learned."""
        return math.sqrt(self.epsilon_infinity) if self.epsilon_infinity is not None else 1.3

    @property
    def exchanges(self) -> bool:
        """Whether atoms exchange charge with the whole frame, which polarizes."""
        return self.response is not None and self.response.charges == "atoms" and self.screening != "independent"

    @property
    def has_enthalpy(self) -> bool:
        """Whether the energy of a uniform field is known to second order."""
        return self.response is not None and self.response.has_enthalpy and self.screening in ("fixed", "global")


def check_electrostatics(values: Mapping[str, Any]) -> list[Mistake]:
    """What must stand elsewhere for charges to act, in the plain values of a training configuration."""
    model = values.get("model")
    if not isinstance(model, Mapping) or not isinstance(model.get("heads"), list):
        return []
    heads = [head if isinstance(head, str) else next(iter(head), "") for head in model["heads"] if isinstance(head, str | dict)]
    section = model.get("electrostatics")
    if not isinstance(section, Mapping):
        if _ALONE in heads and section is None:
            cure = "add model.electrostatics: {sources: [static_charges], screening: independent}"
            return [Mistake(("model", "heads"), f"static_charges do nothing of themselves; {cure}")]
        if "quadrupole" in heads and section is None:
            cure = "add model.electrostatics with quadrupole among its sources"
            return [Mistake(("model", "heads"), f"quadrupole does nothing of itself; {cure}")]
        return []
    mistakes = []
    sources = section.get("sources")
    sources = [name for name in sources if isinstance(name, str)] if isinstance(sources, list) else []
    for name in sources:
        if name in _SOURCES and name not in heads:
            mistakes.append(Mistake(("model", "electrostatics", "sources"), f"'{name}' is not among model.heads; add it there"))
    for name in _ONLY_STATIC:
        if name in heads and name not in sources:
            mistakes.append(Mistake(("model", "heads"), f"{name} is not among model.electrostatics.sources; add it there"))
    mistakes += _check_sign(values, section)
    if "energy" not in heads and model.get("backbone") is None:
        mistakes.append(
            Mistake(("model", "heads"), "charges that act through Coulomb's law are part of an energy; add the head energy")
        )
    return mistakes


_TELL_THE_SIGN = ("born_effective_charges", "dipole", "polarization")


def _check_sign(values: Mapping[str, Any], section: Mapping[str, Any]) -> list[Mistake]:
    """Energies and forces do not say which way round the charges are, and neither does a start from none."""
    training = values.get("training")
    loss = training.get("loss") if isinstance(training, Mapping) else None
    weights = loss.get("weights") if isinstance(loss, Mapping) else None
    if not isinstance(weights, Mapping) or section.get("charge_sign") or any(weights.get(name) for name in _TELL_THE_SIGN):
        return []
    text = "nothing that is trained tells the sign of the charges; give charge_sign, such as {O: -1}"
    return [Mistake(("model", "electrostatics"), text)]
