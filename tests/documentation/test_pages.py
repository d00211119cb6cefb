"""Pages are short, their links and those of the table of contents lead somewhere, and blocks that are not run say why."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.documentation.pages import DOCS, PAGES, ROOT, Block, blocks, name_of, read, without_code

MKDOCS = ROOT / "mkdocs.yml"
LANGUAGES = {"bash", "python", "yaml", "text"}
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
LONGEST_PAGE, LONGEST_LINE = 400, 150

every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def anchors(text: str) -> set[str]:
    """What the headings of a page are called in links, to GitHub and to mkdocs."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def broken_links(page: Path, text: str) -> Iterator[str]:
    """Relative links of a page that lead to no file, or to no heading of it; those of docs must stay in docs."""
    for link in LINK.findall(without_code(text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        inside = page.parent != ROOT and DOCS not in target.parents
        if not target.is_file() or inside or (anchor and anchor not in anchors(read(target))):
            yield link


def entries(nav: Any) -> Iterator[str]:
    """The files of a table of contents of mkdocs."""
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from entries(entry)


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page, read(page))) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    text = "# A b-c: d\n[a](#a-b-c-d) [b](#b) [c](no.md) ![d](no.png) [e](https://e.org/no)\n```bash\n[f](f.md)\n```\n"
    page = tmp_path / "page.md"
    page.write_text(text)
    assert list(broken_links(page, text)) == ["#a-b-c-d", "#b", "no.md", "no.png"]  # a page outside docs links nothing
    assert list(broken_links(ROOT / "README.md", "[a](docs/quickstart.md#install) [b](docs/quickstart.md#no)")) == [
        "docs/quickstart.md#no"
    ]
    assert list(broken_links(DOCS / "index.md", "[a](../README.md) [b](data.md#files) [c](#no)")) == ["../README.md", "#no"]


def test_the_table_of_contents_names_every_page_once() -> None:
    nav = yaml.safe_load(read(MKDOCS))["nav"]
    assert sorted(entries(nav)) == [path.relative_to(DOCS).as_posix() for path in sorted(DOCS.rglob("*.md"), key=str)]


@every_page
def test_pages_are_short(page: Path) -> None:
    lines = read(page).splitlines()
    longest = 200 if page.name == "README.md" else LONGEST_PAGE
    assert len(lines) < longest, f"{name_of(page)} has {len(lines)} lines; cut it into pages"
    assert not [line for line in lines if len(line) > LONGEST_LINE and not line.startswith("|")], "break these lines"


@every_page
def test_blocks_name_their_language_and_why_they_are_not_run(page: Path) -> None:
    for block in blocks(read(page)):
        where = f"{name_of(page)}:{block.line}"
        assert block.language in LANGUAGES, f"{where}: name the language of the block, one of {', '.join(sorted(LANGUAGES))}"
        assert block.mark != "not run" or block.reason, f"{where}: write <!-- not run: REASON -->"
    marks = re.findall(r"^ *<!-- *(?:not run|slow)", without_code(read(page)), re.MULTILINE)
    assert len(marks) == sum(bool(block.mark) for block in blocks(read(page))), "a mark is misspelt or before no block"


def test_marks_and_languages_are_understood() -> None:
    text = (
        "# A\n```bash\nls\n```\ntext\n<!-- slow -->\n```python\nx = 1\n\ny = 2\n```\n"
        "\n<!-- not run: it removes -->\n\n```bash\nrm\n```\n<!-- not run -->\n```\nrm\n```\n"
    )
    assert list(blocks(text)) == [
        Block("bash", "ls\n", "", "", 3),
        Block("python", "x = 1\n\ny = 2\n", "slow", "", 8),
        Block("bash", "rm\n", "not run", "it removes", 16),
        Block("", "rm\n", "not run", "", 20),
    ]


def test_the_readme_shows_how_to_use_it() -> None:
    languages = [block.language for block in blocks(read(ROOT / "README.md"))]
    assert languages.count("bash") >= 2 and "python" in languages


def building(name: str) -> ModuleType:
    """A module that mkdocs uses."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "building" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_of_keys_are_those_of_the_configurations() -> None:
    page = building("keys").on_page_markdown(read(DOCS / "configuration.md"))
    assert "<!--" not in page
    for row in (
        "| `data.validation` | Fraction of the training files (0: no set), file(s) of its own, or {indices: FILE}. | `0.1` |",
        "| `training.optimizer.learning_rate` | Highest learning rate, after the warm-up; of soap 0.1 by default. | `0.01` |",
        "| `ensemble.pressure` | npt_isotropic, npt_triclinic: pressure in GPa; 0.0001 is 1 bar. |  |",
        "| `time_step` | Time step in fs; 0.5 where there is hydrogen. | required |",
        "| `output` | Run folder. Default when read from a file: runs/ and the name of the file. | `runs/phonons` |",
    ):
        assert row in page.splitlines()
    assert "backbone.from_mace" in page and "backbone.sizes" not in page


def test_docstrings_become_markdown() -> None:
    pytest.importorskip("griffe")
    text = (
        "Of :func:`~bec_mace.predict`, :math:`a\n_b`::\n\n    .. math:: x = 1 \\\\\n\n              y = 2\n\n    After.\n\n"
        "====  ====\n``a``  1\n====  ====\n"
    )
    assert building("docstrings").to_markdown(text) == (
        "Of `bec_mace.predict`, $a _b$:\n\n    $$\n    x = 1 \\\\\n    y = 2\n    $$\n\n    After.\n\n```text\na  1\n```\n"
    )


HAS_MKDOCS = all(map(importlib.util.find_spec, ("mkdocs", "material", "mkdocstrings")))


@pytest.mark.skipif(not HAS_MKDOCS, reason="needs the extra docs")
def test_mkdocs_has_nothing_to_warn_of(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    for page in DOCS.rglob("*.md"):
        folder = page.relative_to(DOCS).with_suffix("")
        built = tmp_path / "site" / (folder.parent if folder.name == "index" else folder) / "index.html"
        html = built.read_text(encoding="utf-8")
        assert "<h1" in html and "Z<em>" not in html, f"{name_of(page)}: the asterisk of Z* is taken for emphasis"
