"""The script behind the figures of exactness."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_exactness.py"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return stopped.value.code


def test_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--layers", "1", "--json", str(tmp_path / "out.json")) == 0
    figures = json.loads((tmp_path / "out.json").read_text())
    assert set(figures["oracle"]) == set(figures["invariance"])
    assert "monopole+charge_transfer+dipole" in figures["oracle"]
    errors = [value for kind in ("oracle", "invariance") for row in figures[kind].values() for value in row.values()]
    assert 0 < max(errors) == figures["max_error"] < figures["limit"] == 1e-10
    assert "| monopole |" in capsys.readouterr().out
