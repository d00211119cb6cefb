"""The pages of the documentation and their code blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (not run|slow)(?:: (\S.*?))? -->")


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        language: After the fence; empty where there is none.
        code: Its lines.
        mark: ``not run``, ``slow`` or nothing.
        reason: Why it is not run, as the mark says.
        line: Number of its first line.
    """

    language: str
    code: str
    mark: str
    reason: str
    line: int


def name_of(page: Path) -> str:
    """A page in messages."""
    return page.relative_to(ROOT).as_posix()


def read(page: Path) -> str:
    """The text of a page."""
    return page.read_text(encoding="utf-8")


def blocks(text: str) -> Iterator[Block]:
    """Yield the code blocks of a Markdown text, each with the mark on the line before it."""
    for match in _FENCE.finditer(text):
        before = text[: match.start()].rstrip("\n").rsplit("\n", 1)[-1].strip()
        mark = _MARK.fullmatch(before)
        kind, reason = (mark[1], mark[2] or "") if mark else ("", "")
        yield Block(match[1].strip(), match[2], kind, reason, text.count("\n", 0, match.start()) + 2)


def without_code(text: str) -> str:
    """The text with its code blocks emptied, line for line."""
    return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
