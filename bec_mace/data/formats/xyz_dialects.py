"""Dialects of extended XYZ that ASE does not read as they are meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bec_mace.errors import DataError

if TYPE_CHECKING:
    pass

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


def translate_header(text: str, source: str) -> tuple[str, dict[str, str]]:
    """A frame with a header that ASE reads as it is meant.

    Keys in any case, periodic directions in brackets, and columns with colons in their names are brought into the form that
    ASE knows.

    Args:
        text: Of one frame: number of atoms, header, atoms.
        source: How messages name it.

    Returns:
        The text, and names of columns as ASE will give them, with what they are called in the file.

    Raises:
        DataError: Something stands there twice, or cannot be understood.
    """
    start = text.find("\n") + 1
    end = text.find("\n", start)
    header = text[start:] if end < 0 else text[start:end]
    renamed: dict[str, str] = {}
    translated = _PAIR.sub(lambda match: _pair(match, header, renamed, source), header)
    return (text if translated == header else text[:start] + translated + text[start + len(header) :]), renamed


def without_isotopes(text: str) -> tuple[str, list[float | None]]:
    """A frame with H in place of the symbols of its isotopes, which ASE does not know, and their masses by atom, in u."""
    count, header, *lines = text.split("\n")
    column, masses = _species_column(header), []
    for number, line in enumerate(lines[: int(count)]):
        words = line.split()
        mass = ISOTOPES.get(words[column]) if column is not None and len(words) > column else None
        masses.append(mass)
        if mass is not None:
            lines[number] = " ".join([*words[:column], "H", *words[column + 1 :]]) if column is not None else line
    return "\n".join([count, header, *lines]), masses


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
