"""The comparison of multipoles and response, on data that are made in a moment."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


def test_the_table_the_figures_and_the_picture(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from comparing import sets
    from comparing.ions import write_ions

    write_ions(tmp_path / sets.IONS, 5, n_atoms=8, seed=1)
    arguments = ["--data", str(tmp_path), "--output", str(tmp_path / "runs"), "--sets", "ions", "--labels", "ef"]
    arguments += ["--rungs", "none", "quQ", "edges", "--channels", "2", "--epochs", "0.04"]
    arguments += ["--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "ladder.png")]
    monkeypatch.setattr(sys, "argv", ["compare_multipoles.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPTS / "compare_multipoles.py"), run_name="__main__")
    assert stopped.value.code == 0
    table = capsys.readouterr().out
    assert "| q u Q, induced dipoles, edges |" in table and "charges (e)" in table
    figures = json.loads((tmp_path / "out.json").read_text())["ions_ef"]
    assert list(figures) == ["none", "quQ", "edges"] and figures["edges"]["forces"] > 0
    assert (tmp_path / "ladder.png").stat().st_size > 10_000


def test_ladder_of_labels(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from comparing.ladder import LADDER, can_train, ladder_config
    from comparing.sets import SETS

    from bec_mace.config.schema import RunConfig

    for name in ("water", "quartz"):
        for labels in ("ef", "efz", "efza"):
            for rung in LADDER:
                if can_train(SETS[name], rung, labels):
                    values = ladder_config(Path("data"), name, rung, labels, 1.0)
                    config = RunConfig.model_validate({**values, "output": "run"})
                    section = config.model.electrostatics
                    assert (section is None) == (rung == "none")
                    if section is not None:
                        assert section.screening == ("fixed" if labels == "ef" else "global")
