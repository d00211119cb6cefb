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
        error: How an error is counted: as it is, over the number of atoms or its root, or over a third of the label's trace.
        modulo_quantum: Whether values that differ by e times a lattice vector are the same.
        defined: For which frames a value means something: all, ``"molecules"`` (no periodic direction), or ``"crystals"``
            (periodic in three directions).
    """

    name: str
    per: Literal["atom", "frame"]
    shape: tuple[int, ...]
    unit: str
    symbol: str
    keys: tuple[str, ...]
    error: Literal["absolute", "per_atom", "per_root_atom", "relative"] = "absolute"
    modulo_quantum: bool = False
    defined: Literal["everywhere", "molecules", "crystals"] = "everywhere"


_TABLE = (
    Property("born_effective_charges", "atom", (3, 3), "e", r"Z^*",
             ("REF_becs", "REF_bec", "REF_born_effective_charges", "born_effective_charges", "becs", "bec", "BEC",
              "born_charge", "born_charges", "apt", "MACE_BEC")),
    Property(DEVIATION, "atom", (3, 3), "e", r"\sigma_{Z^*}", ()),
    Property("energy", "frame", (), "eV", r"E", ("REF_energy", "energy", "free_energy"), error="per_atom"),
    Property("forces", "atom", (3,), "eV/Å", r"F", ("REF_forces", "forces")),
    Property("stress", "frame", (3, 3), "eV/Å^3", r"\sigma", ("REF_stress", "stress"), defined="crystals"),
    Property("dipole", "frame", (3,), "e Å", r"\mu", ("REF_dipole", "dipole"), error="per_root_atom",
             defined="molecules"),
    Property("polarization", "frame", (3,), "e Å", r"P", ("REF_polarization", "polarization"),
             error="per_root_atom", modulo_quantum=True),
    Property("polarizability", "frame", (3, 3), "Å^3", r"\alpha", ("REF_polarizability", "polarizability"),
             error="relative"),
    Property("dielectric_tensor", "frame", (3, 3), "1", r"\varepsilon_\infty",
             ("REF_dielectric_tensor", "dielectric_tensor", "eps_inf"), error="relative", defined="crystals"),
    Property("charges", "atom", (), "e", r"q", ("REF_charges", "charges", "initial_charges")),
    Property("dipoles", "atom", (3,), "e Å", r"\mu_i", ("REF_dipoles", "dipoles")),
)

PROPERTIES: dict[str, Property] = {row.name: row for row in _TABLE}
"""Every known property by name."""
