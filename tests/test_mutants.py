"""The list of wrong physics fits the code, and the program that tries it says what is noticed and what is not."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "scripts" / "mutants.py"
SOURCE = "def energy(charge, field, length):\n    return -charge * field * length\n"
TEST = "from bec_mace.dipoles import energy\n\n\ndef test_energy():\n    assert energy(1.0, 2.0, 1.0) == -2.0\n"
LIST = """
- file: bec_mace/dipoles.py
  tests: [tests/test_dipoles.py]
  mutants:
    - {breaks: the sign, text: "-charge", with: "charge"}
    - {breaks: the arm, text: "* length", with: "* length**2"}
"""


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mutants", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one module with one test, which is blind to the arm."""
    for name, content in (
        ("bec_mace/__init__.py", ""),
        ("bec_mace/dipoles.py", SOURCE),
        ("tests/test_dipoles.py", TEST),
        ("list.yaml", LIST),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(program, "ROOT", tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take longer than the test
    return tmp_path


def run(program: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mutants.py", *map(str, arguments)])
    status: int = program.main()
    return status


def test_each_mutant_fits_its_file(program: ModuleType) -> None:
    mutants = program.read_lists(sorted(PROGRAM.with_suffix("").glob("*.yaml")))
    assert len(mutants) > 150
    for mutant in mutants:
        source = (ROOT / mutant.file).read_text(encoding="utf-8")
        wrong = mutant.apply(source)
        assert wrong != source, mutant.name
        ast.parse(wrong)
        assert mutant.tests and all((ROOT / test).exists() for test in mutant.tests), mutant.name


def test_what_is_noticed_and_what_is_not(
    program: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = checkout / "figures.json"
    assert run(program, monkeypatch, "--lists", checkout / "list.yaml", "--json", figures) == 1
    said = capsys.readouterr().out
    assert "1 of 2 mutants are noticed" in said
    assert "survived: bec_mace/dipoles.py: the arm (tests/test_dipoles.py)" in said
    written = json.loads(figures.read_text())
    assert (written["mutants"], written["killed"]) == (2, 1)
    assert [row["survived"] for row in written["rows"]] == [False, True]
    assert "test_energy" in written["rows"][0]["killed_by"]
    assert (checkout / "bec_mace/dipoles.py").read_text() == SOURCE
    assert run(program, monkeypatch, "--lists", checkout / "list.yaml", "--only", "the sign") == 0


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "bec_mace/dipoles.py",
            "-charge",
            "-q",
            "dipoles.py: the sign: the text '-charge' stands 0 times in the file",
        ),
        ("bec_mace/dipoles.py", "length\n", "length  # -charge\n", "the text '-charge' stands 2 times in the file"),
        ("list.yaml", "the arm", "the sign", "list.yaml: bec_mace/dipoles.py: the sign: two mutants have this name"),
        ("list.yaml", "breaks: the arm, ", "", "list.yaml: is no list of mutants (KeyError: 'breaks')"),
        ("tests/test_dipoles.py", "== -2", "== 2", "the tests fail without any mutant (FAILED tests/test_dipoles.py"),
        ("list.yaml", "/test_dipoles", "/test_poles", "tests/test_poles.py: pytest ended with status 4"),
    ],
)
def test_mistakes_are_named(
    program: ModuleType,
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    old: str,
    new: str,
    message: str,
) -> None:
    (checkout / name).write_text((checkout / name).read_text().replace(old, new))
    assert run(program, monkeypatch, "--lists", checkout / "list.yaml") == 2
    assert message in capsys.readouterr().err


def test_words_that_are_in_no_name(
    program: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(program, monkeypatch, "--lists", checkout / "list.yaml", "--only", "engine/") == 2
    assert "no mutant has 'engine/' in its name" in capsys.readouterr().err
