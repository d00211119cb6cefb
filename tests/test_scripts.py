"""The scripts behind the figures of dynamics in a field and of speed."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bec_mace.config.model import ModelConfig
from bec_mace.data import Statistics
from bec_mace.models import build_model, load_model, save_model
from bec_mace.models.checkpoint import update_metadata

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
    config = ModelConfig(
        r_max=4.0,
        channels=4,
        max_l=1,
        num_interactions=1,
        num_radial=4,
        radial_mlp=[8],
        readout_mlp=[4],
        heads=["monopole", "energy"],
    )
    model = build_model(config, [1, 8], Statistics(20.0, {1: 0.4, 8: -0.8}, {1: -10.0, 8: -400.0}, 1.0), torch.float64)
    with torch.no_grad():
        for parameter in model.heads["monopole"].parameters():
            parameter.mul_(8.0)
    return save_model(model, tmp_path / "monopole")


def test_field_conservation(
    tmp_path: Path, monopole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(
        monkeypatch,
        "field_conservation.py",
        "--steps",
        "20",
        "--equilibration",
        "2",
        "--loop-points",
        "16",
        "--json",
        str(tmp_path / "out.json"),
    )
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
    run(
        monkeypatch,
        "field_conservation.py",
        "--steps",
        "0",
        "--loop-points",
        "16",
        "--monopole-model",
        str(monopole),
        "--json",
        str(tmp_path / "out.json"),
    )
    figures = json.loads((tmp_path / "out.json").read_text())
    assert "drift_ev_per_atom_ps" not in figures
    assert figures["monopole"]["loop_work_ev"] > max(1e-6, 10 * figures["monopole"]["loop_error_ev"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--loop-points", "7"], "--loop-points must be even"),
        (["--steps", "5"], "--steps must be 0, or at least 20 for a fit"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "field_conservation.py", *arguments) == 2
    assert message in capsys.readouterr().err


def test_benchmark_md(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(
            monkeypatch,
            "benchmark_md.py",
            "--repeats",
            "1",
            "--heads",
            "monopole",
            "--max-l",
            "1",
            "--correlation",
            "1",
            "--json",
            str(tmp_path / "out.json"),
        )
        == 0
    )
    figures = json.loads((tmp_path / "out.json").read_text())
    assert set(figures["extra_cost"]) == set(figures["limits"]) == {"monopole", "monopole, field forces only"}
    assert "energy+forces" in capsys.readouterr().out


def small_figures() -> dict[str, Any]:
    system = {"n_edges": 9, "block_size": None, "seconds": 1.0, "microseconds_per_atom": 1000.0, "peak_memory_gb": 0.5}
    return {
        "ratios": {"monopole": 1.125, "dipole": 1.5},
        "field_forces": {"monopole": 1.0},
        "field_forces_extra": {"monopole": 0.25},
        "mace": {"seconds": {"mace": 1.0, "bec_mace": 0.25}, "speedup": 4.0},
        "sizes": {
            "systems": [
                {**system, "n_atoms": 2187, "atoms_per_second": 1000.0},
                {**system, "n_atoms": 20577, "atoms_per_second": 800.0, "microseconds_per_atom": 1250.0},
            ]
        },
    }


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program runs itself for some parts and finds its parts beside it."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setenv("PYTHONPATH", str(SCRIPTS.parent))


@pytest.mark.usefixtures("benchmark")
def test_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Parts of a file that are not measured stay, and the keys of the ratios are those of the heads."""
    out = tmp_path / "out.json"
    out.write_text(json.dumps({"mace": {"speedup": 4.0, "seconds": {"mace": 1.0, "bec_mace": 0.25}}, "machines": {"mace": {}}}))
    assert run(monkeypatch, "benchmark_response.py", "--quick", "--json", str(out)) == 0
    assert (
        run(
            monkeypatch,
            "benchmark.py",
            "--quick",
            "--only",
            "sizes",
            "--sizes",
            "100",
            "--json",
            str(out),
            "--plot",
            str(tmp_path / "out.png"),
        )
        == 0
    )
    figures = json.loads(out.read_text())
    assert set(figures["ratios"]) == {"monopole", "dipole", "charge_transfer", "monopole+dipole", "phase"}
    assert figures["mace"]["speedup"] == 4.0 and set(figures["machines"]) == {"mace", "ratios", "sizes"}
    assert figures["machines"]["ratios"]["torch"] == torch.__version__
    (system,) = figures["sizes"]["systems"]
    assert system["n_atoms"] == 108 and 0.05 < system["peak_memory_gb"] < 8
    assert "mace's energy+forces over ours" in capsys.readouterr().out and (tmp_path / "out.png").stat().st_size > 1000


@pytest.mark.usefixtures("benchmark")
def test_benchmark_writes_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.json").write_text(json.dumps(small_figures()))
    assert run(monkeypatch, "benchmark.py", "--markdown", "--json", str(tmp_path / "out.json")) == 0
    text = capsys.readouterr().out
    assert "| Z* over energy and forces | 1.12 | 1.50 |" in text and "| 20,577 | 800 | 1,250 | 0.50 | all |" in text

    from benchmarking import report

    found = {name: (value, holds) for name, value, _, holds in report.judged(small_figures())}
    assert found["time per atom, 20,000 over 2,000 atoms"] == (1.25, False)
    assert found["Z* over energy+forces, monopole"] == (1.125, True) and found["mace's energy+forces over ours"] == (4.0, True)
    assert "peak memory at 100,000 atoms (GB)" not in found


@pytest.mark.usefixtures("benchmark")
def test_benchmark_counts_the_water_it_makes() -> None:
    from benchmarking.systems import water_box

    frame = water_box(2000)
    assert len(frame) == 2187 and len(frame) / frame.cell.diagonal().prod() == pytest.approx(0.1, abs=0.002)
    bonds = np.linalg.norm(frame.positions.reshape(-1, 3, 3)[:, 1:] - frame.positions.reshape(-1, 3, 3)[:, :1], axis=2)
    assert np.allclose(bonds, 0.97)


@pytest.mark.usefixtures("benchmark")
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--markdown"], "--markdown needs --json FILE"),
        (["--device", "cuda"], "torch finds no GPU"),
    ],
)
def test_mistakes_of_benchmark_are_named(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(monkeypatch, "benchmark.py", *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("benchmark")
def test_the_documentation_shows_the_figures_of_the_file() -> None:
    from benchmarking import report

    figures = SCRIPTS.parent / "docs" / "figures"
    path, page = figures / "benchmark_cpu.json", (figures / "cost.md").read_text(encoding="utf-8")
    if not path.exists():
        pytest.skip("docs/figures/benchmark_cpu.json is not there")
    for table in report.markdown(json.loads(path.read_text(encoding="utf-8"))).split("\n\n"):
        assert table in page, f"print the tables with benchmark.py --markdown; docs/figures/cost.md lacks\n{table}"


def test_a_shipped_model_names_no_folder_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], monopole: Path
) -> None:
    update_metadata(
        monopole,
        {
            "training_config": {"output": str(tmp_path / "run_7")},
            "members": [{"training_config": {"output": str(tmp_path / "run_8"), "seed": 3}}],
        },
    )
    options = "--description", "Three words here.", "--folder", str(tmp_path)
    assert run(monkeypatch, "ship_model.py", str(monopole), "salt", *options) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'salt.safetensors'}\n"
    shipped, before = load_model(tmp_path / "salt"), load_model(monopole)
    assert str(tmp_path).encode() not in (tmp_path / "salt.safetensors").read_bytes()
    assert shipped.metadata["training_config"]["output"] == "runs/run_7"
    assert shipped.metadata["members"] == [{"training_config": {"output": "runs/run_8", "seed": 3}}]
    assert shipped.metadata["description"] == "Three words here."
    for name, value in before.state_dict().items():
        assert torch.equal(shipped.state_dict()[name], value), name
    assert run(monkeypatch, "ship_model.py", str(tmp_path / "nothing"), "salt", *options) == 2
    assert "there is no model" in capsys.readouterr().err
