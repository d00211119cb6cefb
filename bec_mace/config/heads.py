"""The table of heads: what each gives and where it is. A new head is one file and one line here.

Neither torch nor a head is imported: mistakes in a configuration are told before that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bec_mace.errors import ConfigError
from bec_mace.outside import import_object

_POLARIZATION = frozenset({"born_effective_charges", "dipole", "polarization"})


@dataclass(frozen=True)
class HeadRow:
    """What is known of a head without its code.

    Attributes:
        provides: The properties that it makes possible and can be trained on.
        place: ``module:Class``; a head from outside the package leaves it out.
        conserves: Whether its Z* is the derivative of a polarization in any cell, so that a field does work that depends on
            the ends of a path alone.
        sums_to_zero: Whether its Z* sums to zero over the atoms of every frame by itself.
        in_kernel_models: Whether a kernel model has it too.
        options: The kind of value of each option. Those of a head from outside are left to its class.
    """

    provides: frozenset[str]
    place: str = ""
    conserves: bool = False
    sums_to_zero: bool = False
    in_kernel_models: bool = False
    options: Mapping[str, type] = field(default_factory=dict)


_FOLDER = "bec_mace.models.heads"

HEADS: dict[str, HeadRow] = {
    # Charges that change as atoms move give no polarization of a periodic cell: it would depend on the origin.
    "monopole": HeadRow(
        frozenset({"born_effective_charges", "charges", "dipole"}), f"{_FOLDER}.monopole:MonopoleHead", in_kernel_models=True
    ),
    "charge_transfer": HeadRow(
        _POLARIZATION | {"charges"}, f"{_FOLDER}.charge_transfer:ChargeTransferHead", conserves=True, sums_to_zero=True
    ),
    "dipole": HeadRow(_POLARIZATION, f"{_FOLDER}.dipole:DipoleHead", conserves=True, sums_to_zero=True, in_kernel_models=True),
    "direct": HeadRow(frozenset({"born_effective_charges"}), f"{_FOLDER}.direct:DirectHead"),
    "energy": HeadRow(frozenset({"energy", "forces", "stress"}), f"{_FOLDER}.energy:EnergyHead", options={"wall": bool}),
    # Of themselves they do nothing: the section ``electrostatics`` lets them act.
    "static_charges": HeadRow(frozenset({"charges"}), f"{_FOLDER}.static_charges:StaticChargesHead", sums_to_zero=True),
    "quadrupole": HeadRow(frozenset({"quadrupoles"}), f"{_FOLDER}.quadrupole:QuadrupoleHead"),
    "polarizability": HeadRow(
        frozenset({"polarizability", "dielectric_tensor"}), f"{_FOLDER}.polarizability:PolarizabilityHead"
    ),
}
"""Heads by the name that they have in a configuration."""


def is_outside(name: str) -> bool:
    """Whether a name means a head from outside the package, ``module:Class``."""
    return ":" in name


def short_name(name: str) -> str:
    """What a head is called in a model and in figures: the class alone, of one from outside."""
    return name.rpartition(":")[2]


def head_row(name: str) -> HeadRow:
    """The row of a head; that of one from outside is the attribute ``row`` of its class, whose module is run.

    Raises:
        ConfigError: There is no such head.
    """
    if not is_outside(name):
        if name not in HEADS:
            raise ConfigError(f"unknown head '{name}'; known names are {', '.join(HEADS)}")
        return HEADS[name]
    row = getattr(import_object(name, "model.heads", ConfigError), "row", None)
    if not isinstance(row, HeadRow):
        raise ConfigError(f"model.heads: {name} is no head; it needs the attribute `row`, a bec_mace.config.heads.HeadRow")
    return row


def providers(target: str) -> list[str]:
    """Names of the heads of the package that give a property."""
    return [name for name, row in HEADS.items() if target in row.provides]
