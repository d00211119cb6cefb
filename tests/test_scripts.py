"""The scripts behind the figures of dynamics in a field."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from bec_mace.config import ModelConfig
from bec_mace.data import Statistics
from bec_mace.models import build_model, save_model

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")
        raise SystemExit(0)
    return stopped.value.code


@pytest.fixture
def monopole(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(r_max=4.0, channels=4, max_l=1, num_interactions=1, num_radial=4, radial_mlp=[8], readout_mlp=[4],
                         heads=["monopole", "energy"])
    model = build_model(config, [1, 8], Statistics(20.0, {1: 0.4, 8: -0.8}, {1: -10.0, 8: -400.0}, 1.0), torch.float64)
    with torch.no_grad():
        for parameter in model.heads["monopole"].parameters():
            parameter.mul_(8.0)
    return save_model(model, tmp_path / "monopole")


def test_field_conservation(
    tmp_path: Path, monopole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(monkeypatch, "field_conservation.py", "--steps", "20", "--equilibration", "2", "--loop-points", "16",
               "--json", str(tmp_path / "out.json"))
    figures = json.loads((tmp_path / "out.json").read_text())
    assert 100 < figures["temperature_K"] < 1000
    assert figures["fluctuation_ev_per_atom"] < 1e-3 and figures["drift_standard_error"] > 0
    # Already 16 points show a closed path: hundreds of meV come and go.
    assert figures["loop_work_ev"] < 1e-5 * figures["loop_absolute_work_ev"]
    limits = figures["limits"]
    assert limits == {"drift_ev_per_atom_ps": 1e-5, "loop_work_ev": 1e-8}
    assert code == (0 if all(figures[name] < limits[name] for name in limits) else 1)
    assert "| drift_ev_per_atom_ps |" in capsys.readouterr().out


def test_a_monopole_model_does_work_around_a_closed_path(
    tmp_path: Path, monopole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, "field_conservation.py", "--steps", "0", "--loop-points", "16", "--monopole-model", str(monopole),
        "--json", str(tmp_path / "out.json"))
    figures = json.loads((tmp_path / "out.json").read_text())
    assert "drift_ev_per_atom_ps" not in figures
    assert figures["monopole"]["loop_work_ev"] > max(1e-6, 10 * figures["monopole"]["loop_error_ev"])


@pytest.mark.parametrize("arguments, message", [
    (["--loop-points", "7"], "--loop-points must be even"),
    (["--steps", "5"], "--steps must be 0, or at least 20 for a fit"),
])
def test_mistakes_are_named(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "field_conservation.py", *arguments) == 2
    assert message in capsys.readouterr().err


def test_benchmark_md(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "benchmark_md.py", "--repeats", "1", "--heads", "monopole", "--max-l", "1", "--correlation", "1",
               "--json", str(tmp_path / "out.json")) == 0
    figures = json.loads((tmp_path / "out.json").read_text())
    assert set(figures["extra_cost"]) == set(figures["limits"]) == {"monopole", "monopole, field forces only"}
    assert "energy+forces" in capsys.readouterr().out
