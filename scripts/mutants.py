"""Do the tests notice wrong physics? One mistake at a time is put into a copy of the package, and its tests must fail.

The mistakes are listed in scripts/mutants/*.yaml: signs, factors, transposed indices, missing images, arms of the wrong end,
units, windows, averages. For each the file, a text that stands there once, what stands there instead, and the tests that must
notice. Before that the same tests must pass without a mistake. The checkout itself is never changed.

    OMP_NUM_THREADS=1 python scripts/mutants.py --json mutants.json
    OMP_NUM_THREADS=1 python scripts/mutants.py --only engine/ "two indices of Z"

The exit status is 0 if all are noticed and 1 if some survive.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bec_mace.errors import BecMaceError, DataError
from bec_mace.storage.files import replace_text

ROOT = Path(__file__).resolve().parents[1]
LISTS = Path(__file__).with_suffix("")
COPIED = (
    "bec_mace",
    "tests",
    "configs",
    "scripts",
    "docs",
    "mkdocs.yml",
    "pyproject.toml",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
)
TIMEOUT = 900.0
"""Seconds; a mistake that makes the tests run on for ever is noticed too."""


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        file: Of the package, from the root of the checkout.
        breaks: What is wrong with it, in words; with the file the name of the mutant.
        text: Stands in the file exactly once.
        replacement: Stands there instead.
        tests: Files or folders of tests, of which at least one test must fail.
    """

    file: str
    breaks: str
    text: str
    replacement: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        """The mutant in messages."""
        return f"{self.file}: {self.breaks}"

    def apply(self, source: str) -> str:
        """The source of the file with the mistake.

        Raises:
            DataError: The text does not stand there exactly once.
        """
        count = source.count(self.text)
        if count != 1:
            raise DataError(
                f"{self.name}: the text {self.text!r} stands {count} times in the file, not once. Bring the list of mutants up "
                "to date with the code."
            )
        return source.replace(self.text, self.replacement)


def read_lists(paths: Iterable[Path]) -> list[Mutant]:
    """The mutants of some lists.

    Raises:
        DataError: A list cannot be read, or two mutants have the same name.
    """
    mutants: dict[str, Mutant] = {}
    for path in paths:
        try:
            entries = yaml.safe_load(path.read_text(encoding="utf-8"))
            found = [
                Mutant(entry["file"], row["breaks"], row["text"], row["with"], tuple(row.get("tests", entry["tests"])))
                for entry in entries
                for row in entry["mutants"]
            ]
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(
                f"{path}: is no list of mutants ({reason}); write file, tests and mutants, each with breaks, text and with."
            ) from None
        for mutant in found:
            if mutant.name in mutants:
                raise DataError(f"{path}: {mutant.name}: two mutants have this name; choose another word for one.")
            mutants[mutant.name] = mutant
    return list(mutants.values())


def chosen(mutants: Sequence[Mutant], parts: Sequence[str]) -> list[Mutant]:
    """Those whose name has one of the parts; all without parts.

    Raises:
        DataError: A part is in no name.
    """
    for part in parts:
        if not any(part in mutant.name for mutant in mutants):
            raise DataError(f"--only: no mutant has {part!r} in its name.")
    return [mutant for mutant in mutants if not parts or any(part in mutant.name for part in parts)]


def run_tests(folder: Path, tests: Sequence[str]) -> tuple[bool, str]:
    """Whether the tests pass in a copy of the checkout, and the one that does not or what pytest says.

    Raises:
        DataError: They cannot be run at all.
    """
    environment = {**os.environ, "PYTHONPATH": str(folder), "MPLBACKEND": "Agg"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return False, f"not done after {TIMEOUT:g} s"
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    # 1 is a test that failed, 2 what could not even be collected.
    if done.returncode not in (0, 1, 2) or (done.returncode == 2 and not lines):
        raise DataError(f"{' '.join(tests)}: pytest ended with status {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
    return done.returncode == 0, lines[0] if lines else ""


def copy_checkout(folder: Path) -> None:
    """What tests need of the checkout."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy2(source, folder / name)


def write(path: Path, source: str) -> None:
    """Write a module; what Python has compiled of it before must not answer for it."""
    path.write_text(source, encoding="utf-8")
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


def try_mutants(mutants: Sequence[Mutant]) -> list[dict[str, Any]]:
    """What becomes of each mutant, in order.

    Raises:
        DataError: A mutant does not fit its file, or its tests fail without it.
    """
    rows = []
    with tempfile.TemporaryDirectory(prefix="mutants_") as temporary:
        folder = Path(temporary)
        copy_checkout(folder)
        sources = {mutant.file: (folder / mutant.file).read_text(encoding="utf-8") for mutant in mutants}
        wrong = [mutant.apply(sources[mutant.file]) for mutant in mutants]  # All fit before the first is tried.
        tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
        passed, failed = run_tests(folder, tests)
        if not passed:
            raise DataError(f"the tests fail without any mutant ({failed}); mend that first.")
        for number, (mutant, source) in enumerate(zip(mutants, wrong, strict=True), start=1):
            start = time.monotonic()
            write(folder / mutant.file, source)
            survived, killer = run_tests(folder, mutant.tests)
            write(folder / mutant.file, sources[mutant.file])
            seconds = round(time.monotonic() - start, 1)
            rows.append({**asdict(mutant), "survived": survived, "killed_by": killer, "seconds": seconds})
            state = "SURVIVED" if survived else "killed"
            print(f"{number:4d}/{len(mutants)}  {state:<9}{seconds:6.1f} s  {mutant.name}", flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what became of each mutant to this file")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORDS", help="mutants whose name has one of these")
    parser.add_argument("--lists", nargs="+", type=Path, metavar="FILE", help="other lists than scripts/mutants/*.yaml")
    options = parser.parse_args()
    try:
        rows = try_mutants(chosen(read_lists(options.lists or sorted(LISTS.glob("*.yaml"))), options.only))
        survivors = [row for row in rows if row["survived"]]
        if options.json is not None:
            figures = {"mutants": len(rows), "killed": len(rows) - len(survivors), "rows": rows}
            text = json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
            replace_text(options.json, text)
    except BecMaceError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(f"{len(rows) - len(survivors)} of {len(rows)} mutants are noticed")
    for row in survivors:
        print(f"survived: {row['file']}: {row['breaks']} ({' '.join(row['tests'])})")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
