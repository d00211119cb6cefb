"""Dialects of extended XYZ that ASE does not read as they are meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bec_mace.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

BYTE_ORDER_MARK = "\ufeff"
ISOTOPES = {"D": 2.01410177812, "T": 3.01604928199}
"""Masses of isotopes of hydrogen that have symbols of their own, in u."""

_VALUE = r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\{[^}]*\}|\[[^\]]*\]|[^\s"'{}\[\]]*)"""
_PAIR = re.compile(rf"""(?<!\S)(?P<key>"[^"]*"|[^\s="'{{}}\[\]]+)=(?P<value>{_VALUE})""")
_NAMES = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
_COLUMN = re.compile(r"(?P<name>.+?):(?P<kind>[RISLrisl]):(?P<count>\d+)(?::|$)")
_LOGICAL = {"t": "T", "true": "T", "1": "T", "f": "F", "false": "F", "0": "F"}
_INNER = "__of__"
"""In place of the colons in the name of a column while ASE reads it."""


def translate(text: str, source: str = "extended XYZ") -> tuple[str, dict[str, str], list[float | None]]:
    """A frame as ASE reads it right.

    Keys of the header in any case, periodic directions in brackets, columns with colons in their names, and symbols of
    isotopes are brought into the form that ASE knows.

    Args:
        text: Of one frame: number of atoms, header, atoms.
        source: How messages name it.

    Returns:
        The text; names of columns as ASE will give them, with what they are called in the file; masses of isotopes, by atom,
        empty where there are none.
    """
    count, newline, rest = text.partition("\n")
    header, end, body = rest.partition("\n")
    renamed: dict[str, str] = {}
    translated = _PAIR.sub(lambda match: _pair(match, header, renamed, source), header)
    masses: list[float | None] = []
    column = _species_column(translated)
    if column is not None and re.search(r"(?m)(?:^|\s)[DT](?:\s|$)", body):
        body, masses = _without_isotopes(body, column, int(count))
    if translated == header and not masses:
        return text, {}, []
    return f"{count}{newline}{translated}{end}{body}", renamed, masses


def _pair(match: re.Match[str], header: str, renamed: dict[str, str], source: str) -> str:
    key, value = match["key"], match["value"]
    name = _NAMES.get(key.lower())
    if name is None:
        return match[0]
    if key != name and re.search(rf"(?<!\S){name}=", header):
        raise DataError(f"{source}: the header has both {name!r} and {key!r}; leave one out.")
    if name == "pbc":
        return f"pbc={_directions(value, source)}"
    if name == "Properties":
        value = _columns(value, renamed)
    return f"{name}={value}"


def _directions(value: str, source: str) -> str:
    words = [word for word in re.split(r"[\s,;]+", value.strip("\"'[]{}()").strip()) if word]
    letters = [_LOGICAL.get(word.lower()) for word in words]
    if len(letters) not in (1, 3) or None in letters:
        raise DataError(f'{source}: pbc={value} is not understood; write three of T and F, as in pbc="T T F".')
    return '"' + " ".join(letter for letter in letters * (3 // len(letters)) if letter) + '"'


def _columns(value: str, renamed: dict[str, str]) -> str:
    quote = value[:1] if value[:1] in "\"'" else ""
    parts = []
    for match in _COLUMN.finditer(value.strip("\"'")):
        name = match["name"]
        inner = name.replace(":", _INNER)
        if inner != name:
            renamed[inner] = name
        if name.lower() in ("pos", "species") and name != name.lower():
            inner = name.lower()
        parts.append(f"{inner}:{match['kind'].upper()}:{match['count']}")
    return f"{quote}{':'.join(parts)}{quote}" if parts else value


def _species_column(header: str) -> int | None:
    """Place of the symbols among the words of a line; None where the header does not say."""
    found = re.search(r"(?<!\S)Properties=(\"[^\"]*\"|'[^']*'|\S+)", header)
    if found is None:
        return 0
    place = 0
    for match in _COLUMN.finditer(found[1].strip("\"'")):
        if match["name"] == "species":
            return place
        place += int(match["count"])
    return None


def _without_isotopes(body: str, column: int, count: int) -> tuple[str, list[float | None]]:
    masses: list[float | None] = []
    lines = body.split("\n")
    for number, line in enumerate(lines[:count]):
        words = line.split()
        mass = ISOTOPES.get(words[column]) if len(words) > column else None
        masses.append(mass)
        if mass is not None:
            words[column] = "H"
            lines[number] = " ".join(words)
    return "\n".join(lines), masses if any(mass is not None for mass in masses) else []


def restore(atoms: Atoms, renamed: dict[str, str], masses: list[float | None]) -> None:
    """Give columns their names, and isotopes their masses."""
    for inner, name in renamed.items():
        if inner in atoms.arrays:
            atoms.arrays[name] = atoms.arrays.pop(inner)
    if masses:
        known = atoms.get_masses()
        atoms.set_masses([mass if mass is not None else own for mass, own in zip(masses, known, strict=True)])
