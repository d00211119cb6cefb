"""Docstrings as Markdown: their equations and cross references are those of reStructuredText.

An extension of griffe, which mkdocs.yml names.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_EQUATION = re.compile(
    r"^(?P<indent> *)\.\. math::(?P<first>[^\n]*)(?:\n|\Z)"
    # Lines that are indented further, and blank lines between them.
    r"(?P<rest>(?:(?P=indent) +\S[^\n]*(?:\n|\Z)|[ \t]*\n(?=(?P=indent) +\S))*)",
    re.MULTILINE,
)
_TABLE = re.compile(r"^(?P<indent> *)(?P<rule>=+(?: +=+)+)\n(?P<rows>.*?\n)(?P=indent)(?P=rule)$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r":math:`([^`]*)`")
_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj):`~?([^`]*)`")


def to_markdown(text: str) -> str:
    """The same text with equations between dollars, names of Python as code, and tables as they stand."""
    text = _EQUATION.sub(_displayed, text)
    text = _TABLE.sub(_as_it_stands, text)
    text = _INLINE.sub(lambda match: f"${' '.join(match[1].split())}$", text)
    text = _ROLE.sub(lambda match: f"`{match[1]}`", text)
    return re.sub(r"::$", ":", text, flags=re.MULTILINE)


def _displayed(match: re.Match[str]) -> str:
    lines = [line.strip() for line in (match["first"], *match["rest"].splitlines())]
    body = "\n".join(match["indent"] + line for line in lines if line)
    return f"{match['indent']}$$\n{body}\n{match['indent']}$$\n"


def _as_it_stands(match: re.Match[str]) -> str:
    indent, rows = match["indent"], match["rows"].replace("``", "")
    return f"{indent}```text\n{rows}{indent}```"


class MarkdownDocstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
