"""The one table of physical properties: reading, batching, losses, logs and plots all look here.

Adding a property is adding one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DEVIATION = "born_effective_charges_std"
"""The spread of Z* that committees and kernel models give."""


@dataclass(frozen=True)
class Property:
    """One physical property.

    Attributes:
        name: The name used throughout the package and in configuration files.
        per: Whether there is one value per ``"atom"`` or per ``"frame"``.
        shape: The shape of one value, ``()`` for a scalar.
        unit: The unit as printed, ``"e"`` or ``"eV/Å"``.
        symbol: The symbol used on plots, in matplotlib's mathtext.
        keys: The names under which files store it, most specific first.
    """

    name: str
    per: Literal["atom", "frame"]
    shape: tuple[int, ...]
    unit: str
    symbol: str
    keys: tuple[str, ...]


_TABLE = (
    Property("born_effective_charges", "atom", (3, 3), "e", r"Z^*",
             ("REF_becs", "REF_bec", "REF_born_effective_charges", "born_effective_charges", "becs", "bec", "BEC",
              "born_charge", "born_charges", "apt", "MACE_BEC")),
    Property(DEVIATION, "atom", (3, 3), "e", r"\sigma_{Z^*}", ()),
    Property("energy", "frame", (), "eV", r"E", ("REF_energy", "energy", "free_energy")),
    Property("forces", "atom", (3,), "eV/Å", r"F", ("REF_forces", "forces")),
    Property("stress", "frame", (3, 3), "eV/Å^3", r"\sigma", ("REF_stress", "stress")),
    Property("dipole", "frame", (3,), "e Å", r"\mu", ("REF_dipole", "dipole")),
    Property("polarization", "frame", (3,), "e Å", r"P", ("REF_polarization", "polarization")),
    Property("polarizability", "frame", (3, 3), "Å^3", r"\alpha", ("REF_polarizability", "polarizability")),
    Property("dielectric_tensor", "frame", (3, 3), "1", r"\varepsilon_\infty",
             ("REF_dielectric_tensor", "dielectric_tensor", "eps_inf")),
    Property("charges", "atom", (), "e", r"q", ("REF_charges", "charges", "initial_charges")),
    Property("dipoles", "atom", (3,), "e Å", r"\mu_i", ("REF_dipoles", "dipoles")),
)

PROPERTIES: dict[str, Property] = {row.name: row for row in _TABLE}
"""Every known property by name."""
