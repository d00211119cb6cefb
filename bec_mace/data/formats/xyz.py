"""Extended XYZ files frame by frame, as text.

ASE looks for all frames of a file before it gives the first, and remembers where each is. Here a frame is read when it is
asked for, so a file of any length takes the memory of one frame, and its text can be parsed in another process.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from bec_mace.data.formats.xyz_dialects import BYTE_ORDER_MARK, ISOTOPES, translate_header, without_isotopes
from bec_mace.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

_STRUCTURE = ("lattice", "properties", "pbc", "virtual_pbc")  # keys of the comment line with a meaning of their own
_EMPTY = re.compile(r"""(?P<empty>(?<!\S)[^\s="'{}\[\]]+=(?:""|'')?\s+(?=[^\s="'{}\[\]]+=))""")
_QUOTED_OR_EMPTY = re.compile(
    r"""[^\s="'{}\[\]]+=(?:"(?:\\.|[^"\\])+"|'(?:\\.|[^'\\])+'|\{[^}]*\}|\[[^\]]*\])|""" + _EMPTY.pattern
)
_MARK = BYTE_ORDER_MARK.encode().decode("latin-1")
_LONGEST_LINE, _MOST_BLANK = 1 << 24, 100_000
_MOST_VECTORS = 3  # Cell vectors may follow the atoms, as lines that begin with VEC.


def is_extxyz(path: Path, head: str) -> bool:
    """Whether ASE takes a file that begins like this for extended XYZ, or would without a byte order mark."""
    from ase.io.formats import UnknownFileTypeError, filetype

    if head.startswith(_MARK):
        return head.removeprefix(_MARK).split("\n")[0].strip().isdigit()
    try:
        return bool(filetype(str(path), read=True) == "extxyz")
    except (UnknownFileTypeError, OSError, EOFError):
        return False  # The reading that follows says what is wrong.


def read_texts(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the text of each frame and its number of atoms. Blank lines between frames are skipped.

    Raises:
        DataError: A frame does not begin with the number of its atoms.
    """
    from ase.io.formats import open_with_compression

    number = blank = 0
    with open_with_compression(str(path), "r") as file:
        rest = _lines(file, path)
        line = next(rest, "").removeprefix(BYTE_ORDER_MARK)
        while line:
            if not line.strip():
                blank += 1
                if blank > _MOST_BLANK:
                    raise DataError(f"{path}: holds more than {_MOST_BLANK} empty lines; it is no file of structures.")
                line = next(rest, "")
                continue
            n_atoms = _count(line, f"{path}, frame {number}")
            lines = [line, *islice(rest, 1 + n_atoms)]  # fewer at the end of a file that was cut
            line = next(rest, "")
            while line.lstrip().startswith("VEC") and len(lines) < 2 + n_atoms + _MOST_VECTORS:
                lines.append(line)
                line = next(rest, "")
            yield "".join(lines), n_atoms
            number, blank = number + 1, 0


def _lines(file: IO[str], path: Path) -> Iterator[str]:
    """Lines of a file, of bounded length: a file may be of any length, a line may not."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise DataError(f"{path}: has a line of more than {_LONGEST_LINE} characters; it is no file of structures.")
        yield line


def _count(line: str, source: str) -> int:
    try:
        count = int(line)
    except ValueError:
        count = -1
    if count < 0:
        raise DataError(
            f"{source}: ASE cannot read it (expected the number of atoms, found {line.strip()[:40]!r}). "
            "Check the file and its format."
        )
    return count


def readable_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata in the form that ASE reads back as they are from the comment line of extended XYZ.

    Texts that it would read as something else, such as empty ones, "T", "12" or several lines, are written as JSON. Keys that
    would end early or mean the structure itself have underscores in place of what does not fit.
    """
    out = {}
    for key, value in info.items():
        name = re.sub(r"[^\w .:+*/@%#!?$&;,()<>|~^-]", "_", str(key)) or "_"
        name += "_" if name.lower() in _STRUCTURE else ""
        if isinstance(value, str):
            value = str(value) if _read_back(name, value) == {name: value} else _as_json(value)
        elif isinstance(value, complex | np.complexfloating):
            value = _as_json(str(value))
        out[name] = value
    return out


def _read_back(key: str, value: str) -> dict[str, Any]:
    from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict

    if not value.isprintable():
        return {}
    found: dict[str, Any] = key_val_str_to_dict(key_val_dict_to_str({key: value}))
    return {name: text for name, text in found.items() if isinstance(text, str)}


def _as_json(value: str) -> str:
    # ASE's reader takes one backslash of each pair away; its writer puts one before quotes alone.
    return ("_JSON " + json.dumps(value)).replace("\\", "\\\\")


def parse_text(text: str, source: str = "extended XYZ") -> Atoms:
    """The structure that a text of :func:`read_texts` describes; raises whatever ASE's reader meets.

    Args:
        text: Of one frame.
        source: How messages of our own name it.
    """
    from ase.io.extxyz import read_xyz

    held, promised = text.count("\n") - 2 + (not text.endswith("\n")), int(text.partition("\n")[0])
    if held < promised:  # ASE would make room for all of them first.
        raise ValueError(f"the file ends behind {max(0, held)} of {promised} atoms, it was cut off or the number is wrong")
    text, renamed = translate_header(_without_empty_values(text), source)
    atoms: Atoms
    try:
        atoms = next(read_xyz(io.StringIO(text), 0))
    except KeyError as error:
        if error.args[0] not in ISOTOPES:
            raise
        text, masses = without_isotopes(text)
        atoms = next(read_xyz(io.StringIO(text), 0))
        known = atoms.get_masses()
        atoms.set_masses([own if mass is None else mass for mass, own in zip(masses, known, strict=True)])
    for inner, name in renamed.items():
        atoms.arrays[name] = atoms.arrays.pop(inner)
    return atoms


def _without_empty_values(text: str) -> str:
    """The text without keys that have no value: ASE's reader would take the next key and its value for it, pbc for example."""
    count, newline, rest = text.partition("\n")
    comment, end, atoms = rest.partition("\n")
    if not _EMPTY.search(comment):
        return text
    kept = _QUOTED_OR_EMPTY.sub(lambda match: "" if match["empty"] else match[0], comment)
    return f"{count}{newline}{kept}{end}{atoms}"
