"""Every code block of the README and of the pages in docs runs, in a folder that looks like a fresh clone, one for each page.

``<!-- not run: REASON -->`` on the line before a block leaves it out; ``<!-- slow -->`` runs it only with ``-m slow``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bec_mace.config.driver import load_driver_config
from bec_mace.config.field_runs import load_field_runs
from bec_mace.config.phonons import load_phonon_config
from bec_mace.config.schema import load_config
from bec_mace.dynamics import load_md_config
from tests.documentation.pages import PAGES, ROOT, Block, blocks, name_of, read

# A key that only one kind of configuration has.
LOADERS: dict[str, Callable[[Path], Any]] = {
    "ensemble:": load_md_config,
    "supercell:": load_phonon_config,
    "address:": load_driver_config,
    "\nruns:": load_field_runs,
    "": load_config,
}


def runnable(*languages: str) -> list[Any]:
    """Parameters of what is to be run; a block that stands on two pages runs for the first."""
    found: dict[str, Any] = {}
    for page in PAGES:
        for block in blocks(read(page)):
            if block.language in languages and block.mark != "not run" and block.code not in found:
                marks = [pytest.mark.slow] if block.mark == "slow" else []
                found[block.code] = pytest.param(page, block, id=f"{name_of(page)}:{block.line}", marks=marks)
    return list(found.values())


@pytest.fixture(scope="module")
def clones(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """For each page a folder with links to what a clone holds and a place of its own for runs."""
    made: dict[Path, Path] = {}

    def clone(page: Path) -> Path:
        if page not in made:
            made[page] = tmp_path_factory.mktemp("clone")
            for entry in ROOT.iterdir():
                if not entry.name.startswith(".") and entry.name not in ("runs", "build", "dist", "site"):
                    (made[page] / entry.name).symlink_to(entry)
        return made[page]

    return clone


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
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


def execute(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"


@pytest.mark.parametrize("page, block", runnable("bash", "python"))
def test_block_runs(page: Path, block: Block, clones: Callable[[Path], Path], environment: dict[str, str]) -> None:
    command = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    execute([*command, block.code], clones(page), environment)


@pytest.mark.parametrize("page, block", runnable("yaml"))
def test_yaml_is_a_configuration(page: Path, block: Block, tmp_path: Path) -> None:
    path = tmp_path / "page.yaml"
    path.write_text(block.code, encoding="utf-8")
    next(load for key, load in LOADERS.items() if key in block.code)(path)
