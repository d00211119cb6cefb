"""Every code block of the README runs, in order, in a folder that looks like a fresh clone.

``<!-- not run -->`` on the line before a block leaves it out; ``<!-- slow -->`` runs it only with ``-m slow``.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bec_mace.config.field_runs import load_field_runs
from bec_mace.config.phonons import load_phonon_config
from bec_mace.config.schema import load_config
from bec_mace.dynamics import load_md_config

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    mark: str
    line: int


def blocks(text):
    """Yield the code blocks of a Markdown text, each with the mark on the line before it."""
    for match in FENCE.finditer(text):
        before = text[: match.start()].rstrip("\n").rsplit("\n", 1)[-1].strip()
        mark = re.fullmatch(r"<!-- (not run|slow) -->", before)
        yield Block(match[1], match[2], mark[1] if mark else "", text.count("\n", 0, match.start()) + 2)


def runnable(*languages):
    text = README.read_text(encoding="utf-8") if README.exists() else ""
    return [
        pytest.param(block, id=f"line{block.line}", marks=[pytest.mark.slow] if block.mark == "slow" else [])
        for block in blocks(text)
        if block.language in languages and block.mark != "not run"
    ]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder with links to what a clone holds and a place of its own for runs."""
    folder = tmp_path_factory.mktemp("clone")
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name not in ("runs", "build", "dist"):
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment of a user who has installed this very code."""
    bin_folder = tmp_path_factory.mktemp("bin")
    programs = {"bec-mace": "-m bec_mace", "torchrun": "-m torch.distributed.run", "python": "", "python3": ""}
    for name, command in programs.items():
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        script.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "Agg",
        "PYTHONWARNINGS": "default",
    }


def execute(command, clone, environment):
    result = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"


def test_the_readme_shows_how_to_use_it():
    languages = [block.language for block in blocks(README.read_text(encoding="utf-8"))]
    assert languages.count("bash") >= 2 and "python" in languages
    assert "" not in languages, "every block names its language"


@pytest.mark.parametrize("block", runnable("bash", "sh", "shell", "python"))
def test_block_runs(block, clone, environment):
    if block.language == "python":
        execute([sys.executable, "-c", block.code], clone, environment)
    else:
        execute(["bash", "-euo", "pipefail", "-c", block.code], clone, environment)


@pytest.mark.parametrize("block", runnable("yaml"))
def test_yaml_is_a_configuration(block, tmp_path):
    path = tmp_path / "readme.yaml"
    path.write_text(block.code, encoding="utf-8")
    loaders = {"ensemble:": load_md_config, "supercell:": load_phonon_config, "\nruns:": load_field_runs}
    next((load for key, load in loaders.items() if key in block.code), load_config)(path)


def test_marks_and_languages_are_understood():
    text = (
        "# A\n```bash\nls\n```\ntext\n<!-- slow -->\n```python\nx = 1\n\ny = 2\n```\n\n<!-- not run -->\n\n```bash\nrm\n```\n"
    )
    assert list(blocks(text)) == [
        Block("bash", "ls\n", "", 3),
        Block("python", "x = 1\n\ny = 2\n", "slow", 8),
        Block("bash", "rm\n", "not run", 16),
    ]
