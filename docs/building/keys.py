"""Tables of the keys of YAML files, from the classes that check them.

A hook of mkdocs: a line ``<!-- keys: module:Class -->`` of a page becomes one table for each section of the class.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from bec_mace.config.section import Section

_PLACE = re.compile(r"^<!-- keys: ([\w.]+):(\w+) -->$", re.MULTILINE)
_NOT_A_KEY = "never given"
"""What the description of a field says that is stored and not written by hand."""


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Called by mkdocs for each page."""
    return _PLACE.sub(lambda match: tables(getattr(import_module(match[1]), match[2])), markdown)


def tables(section: type[Section], prefix: str = "") -> str:
    """The keys of a section, and below them those of the sections in it."""
    rows = ["| key | meaning | default |", "|---|---|---|"]
    below = []
    for name, field in section.model_fields.items():
        if _NOT_A_KEY in (field.description or ""):
            continue
        rows.append(f"| `{prefix}{field.alias or name}` | {_cell(field.description or '')} | {_default(field)} |")
        below += [tables(inner, f"{prefix}{field.alias or name}.") for inner in _sections(field.annotation)]
    summary = (section.__doc__ or "").strip().split("\n\n")[0].replace("``", "`")
    return "\n\n".join(["\n".join([summary, "", *rows]), *below])


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """The sections that a value may be, inside of lists and alternatives too."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, Section) or value in ([], {}):
        return ""
    return f"`{_cell(str(value) if isinstance(value, (str, Path)) else json.dumps(value))}`"


def _cell(text: str) -> str:
    """One line without what ends a cell or begins a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
