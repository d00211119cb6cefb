"""The one table of physical properties: reading, batching, losses, logs, plots, files and the ASE calculator all look here.

Adding a property is adding one row; :func:`register` adds one from outside the package.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bec_mace.errors import DataError

DEVIATION = "born_effective_charges_std"
"""The spread of Z* that committees and kernel models give."""

WHERE = {
    "everywhere": "any structure",
    "molecules": "a structure that is not periodic",
    "crystals": "a cell that is periodic in three directions",
}
"""What ``Property.defined`` means, in words."""


@dataclass(frozen=True)
class Property:
    """One physical property.

    Attributes:
        name: The name used throughout the package and in configuration files.
        per: Whether there is one value per ``"atom"`` or per ``"frame"``.
        shape: The shape of one value, ``()`` for a scalar. Every index is one of a polar vector.
        unit: The unit as printed, ``"e"`` or ``"eV/Å"``.
        symbol: The symbol used on plots, in matplotlib's mathtext.
        keys: The names under which files store it as a label, most specific first.
        error: How an error is counted: as it is, over the number of atoms or its root, or over a third of the label's trace.
        modulo_quantum: Whether values that differ by e times a lattice vector are the same.
        defined: For which structures a value means something.
        why: What to say where it is not defined.
        instead: The property to use there.
        extensive: Of a frame: whether it grows with the cell, a sum over atoms; a mean over them where a head gives shares.
        is_tensor: Whether it turns with the structure.
        compared: Whether labels can be held against it; charges of atoms are a matter of definition.
        predicted_key: The key in extended XYZ files of predictions; ``predicted_`` and the name by default. None that ASE
            moves into a calculator on reading.
        written_unasked: Whether ``bec-mace predict`` writes it where a model gives it.
        double: Whether it is kept in float64 in training: float32 rounds a total energy to some meV.
    """

    name: str
    per: Literal["atom", "frame"]
    shape: tuple[int, ...]
    unit: str
    symbol: str
    keys: tuple[str, ...] = ()
    error: Literal["absolute", "per_atom", "per_root_atom", "relative"] = "absolute"
    modulo_quantum: bool = False
    defined: Literal["everywhere", "molecules", "crystals"] = "everywhere"
    why: str = ""
    instead: str = ""
    extensive: bool = False
    is_tensor: bool = True
    compared: bool = True
    predicted_key: str = ""
    written_unasked: bool = True
    double: bool = False

    def __post_init__(self) -> None:
        if not self.predicted_key:
            object.__setattr__(self, "predicted_key", f"predicted_{self.name}")
        if not self.why:
            object.__setattr__(self, "why", f"{self.name} needs {WHERE[self.defined]}")

    def is_defined(self, pbc: Iterable[bool]) -> bool:
        """Whether a structure with these periodic directions has a value."""
        periodic = [bool(direction) for direction in pbc]
        return {"everywhere": True, "molecules": not any(periodic), "crystals": all(periodic)}[self.defined]


# fmt: off
_TABLE = (
    Property("born_effective_charges", "atom", (3, 3), "e", r"Z^*",
             ("REF_becs", "REF_bec", "REF_born_effective_charges", "born_effective_charges", "becs", "bec", "BEC",
              "born_charge", "born_charges", "apt", "MACE_BEC"), predicted_key="predicted_becs"),
    Property(DEVIATION, "atom", (3, 3), "e", r"\sigma_{Z^*}", is_tensor=False, compared=False,
             predicted_key="predicted_becs_std", written_unasked=False),
    Property("charges", "atom", (), "e", r"q", ("REF_charges", "charges", "initial_charges"), compared=False),
    Property("quadrupoles", "atom", (3, 3), "e Å^2", r"Q_i", compared=False, written_unasked=False),
    Property("induced_charges", "atom", (), "e", r"\delta q_i", compared=False, written_unasked=False),
    Property("induced_dipoles", "atom", (3,), "e Å", r"\delta \mu_i", compared=False, written_unasked=False),
    Property("raman_tensors", "atom", (3, 3, 3), "Å^2", r"\partial \alpha / \partial r", compared=False, written_unasked=False),
    Property("screening", "atom", (), "1", r"\gamma", compared=False, is_tensor=False),
    Property("energy", "frame", (), "eV", r"E", ("REF_energy", "energy", "free_energy"), error="per_atom", extensive=True,
             double=True),
    Property("forces", "atom", (3,), "eV/Å", r"F", ("REF_forces", "forces", "force")),
    Property("stress", "frame", (3, 3), "eV/Å^3", r"\sigma", ("REF_stress", "stress"), defined="crystals",
             written_unasked=False),
    Property("dipole", "frame", (3,), "e Å", r"\mu", ("REF_dipole", "dipole"), error="per_root_atom", defined="molecules",
             why="the dipole of a periodic cell depends on the choice of the cell", instead="polarization", extensive=True,
             written_unasked=False),
    Property("polarization", "frame", (3,), "e Å", r"P", ("REF_polarization", "polarization"), error="per_root_atom",
             modulo_quantum=True, extensive=True, written_unasked=False),
    Property("polarizability", "frame", (3, 3), "Å^3", r"\alpha", ("REF_polarizability", "polarizability"), error="relative",
             extensive=True),
    Property("dielectric_tensor", "frame", (3, 3), "1", r"\varepsilon_\infty",
             ("REF_dielectric_tensor", "dielectric_tensor", "eps_inf"), error="relative", defined="crystals",
             why="a dielectric tensor needs a cell that is periodic in three directions", instead="polarizability"),
    Property("dipoles", "atom", (3,), "e Å", r"\mu_i", ("REF_dipoles", "dipoles"), compared=False, written_unasked=False),
)
# fmt: on

PROPERTIES: dict[str, Property] = {row.name: row for row in _TABLE}
"""Every known property by name."""


def register(row: Property) -> Property:
    """Add a row to the table, for a head from outside the package; the module of the head is the place to call it.

    Args:
        row: The property. To add the same row again changes nothing.

    Returns:
        The row.

    Raises:
        DataError: Another row has its name, or one of its keys.
    """
    if PROPERTIES.get(row.name, row) != row:
        raise DataError(f"the property {row.name!r} is known already, with another row; choose another name")
    for other in PROPERTIES.values():
        shared = sorted(({*row.keys, row.predicted_key} & {*other.keys, other.predicted_key}) if other.name != row.name else ())
        if shared:
            raise DataError(f"the property {row.name!r} has the key {shared[0]!r} of {other.name!r}; choose another key")
    PROPERTIES[row.name] = row
    return row
