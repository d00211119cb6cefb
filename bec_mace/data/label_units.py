"""Labels of a file in other units than those of the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bec_mace.data.frames import Frame
from bec_mace.errors import DataError
from bec_mace.properties import PROPERTIES
from bec_mace.units import BOHR, HARTREE

_RYDBERG = HARTREE / 2
_KCAL, _KJ = 4184 / 96485.33212331002, 1000 / 96485.33212331002
"""Per mol, in eV: joules over the Faraday constant."""
_GPA = 1 / 160.2176634
LENGTH = "positions"
"""The name of positions and cell among units."""
DEBYE = 1e-11 / 299792458 / 1.602176634e-19
"""In e Å: 1e-21 / c coulomb metres."""

_ENERGIES = {
    "eV": 1.0,
    "meV": 1e-3,
    "hartree": HARTREE,
    "Ha": HARTREE,
    "rydberg": _RYDBERG,
    "Ry": _RYDBERG,
    "kcal/mol": _KCAL,
    "kJ/mol": _KJ,
}
_LENGTHS = {"Å": 1.0, "A": 1.0, "angstrom": 1.0, "bohr": BOHR, "nm": 10.0}
_OF_UNIT: dict[str, dict[str, float]] = {
    "e": {"e": 1.0},
    "eV": _ENERGIES,
    "eV/Å": {f"{one}/{other}": size / length for one, size in _ENERGIES.items() for other, length in _LENGTHS.items()},
    "eV/Å^3": {
        **{f"{one}/{other}^3": size / length**3 for one, size in _ENERGIES.items() for other, length in _LENGTHS.items()},
        "GPa": _GPA,
        "kbar": 0.1 * _GPA,
        "bar": 1e-4 * _GPA,
    },
    "e Å": {**{f"e {name}": size for name, size in _LENGTHS.items()}, "D": DEBYE, "debye": DEBYE},
    "e Å^2": {f"e {name}^2": size**2 for name, size in _LENGTHS.items()},
    "Å^3": {f"{name}^3": size**3 for name, size in _LENGTHS.items()},
    "Å^2": {f"{name}^2": size**2 for name, size in _LENGTHS.items()},
    "Å": _LENGTHS,
    "1": {"1": 1.0},
}
"""What a value in another unit is multiplied by, by the unit of the package."""


def factor(name: str, unit: str) -> float:
    """What a label in a unit is multiplied by to be in that of the package.

    Args:
        name: A property, or ``"positions"``, which stands for positions and cell.
        unit: Its unit in the file, such as ``"hartree/bohr"``; ``"a.u."`` is the atomic unit, and capitals do not count.

    Raises:
        DataError: An unknown property or unit.
    """
    if name != LENGTH and name not in PROPERTIES:
        raise DataError(f"units: {name!r} is no property; known are {LENGTH}, {', '.join(PROPERTIES)}.")
    ours = "Å" if name == LENGTH else PROPERTIES[name].unit
    known = {other.lower(): size for other, size in _OF_UNIT.get(ours, {ours: 1.0}).items()}
    atomic = ours.replace("eV", "hartree").replace("Å", "bohr").lower()
    size = known.get(atomic if unit.lower() in ("a.u.", "au") else unit.lower())
    if size is None:
        raise DataError(
            f"units: {unit!r} is no unit of {name}; known are {', '.join(_OF_UNIT.get(ours, {ours: 1.0}))} and a.u."
        )
    return size


def in_units_of_the_package(frame: Frame, units: Mapping[str, str]) -> Frame:
    """A frame with labels, positions and cell multiplied by what their units in the file ask for.

    Args:
        frame: As read.
        units: Unit in the file, by property; others are in those of the package.
    """
    factors = {name: factor(name, unit) for name, unit in units.items()}
    labels = {name: value * factors.get(name, 1.0) for name, value in frame.labels.items()}
    length = factors.get(LENGTH, 1.0)
    return replace(frame, labels=labels, positions=frame.positions * length, cell=frame.cell * length)
