"""The comparison of ways to couple charges, on data that are made in a moment."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(autouse=True)
def scripts_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def test_ions_have_the_energy_of_the_formula(tmp_path: Path) -> None:
    from comparing.ions import Box, random_box, write_ions

    write_ions(tmp_path / "ions.extxyz", 1, n_atoms=16, seed=3)
    atoms = ase.io.read(tmp_path / "ions.extxyz")
    box = Box(atoms, atoms.arrays["REF_charges"])
    energy, forces = box.forces(atoms.positions)
    assert energy == pytest.approx(atoms.info["REF_energy"], abs=1e-5)
    np.testing.assert_allclose(forces, atoms.arrays["REF_forces"], atol=1e-5)
    assert np.abs(forces).max() > 0.5 and box.charges.sum() == 0
    step, place = 1e-4, atoms.positions.copy()
    place[5, 2] += step
    above = box.forces(place)[0]
    place[5, 2] -= 2 * step
    assert (box.forces(place)[0] - above) / (2 * step) == pytest.approx(forces[5, 2], abs=1e-5)
    # Rock salt: the Madelung constant, with walls whose energy is known.
    rocksalt = ase.Atoms("Na4Cl4", cell=[5.6] * 3, pbc=True)
    rocksalt.set_scaled_positions(
        [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0), (0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5), (0.5,) * 3]
    )
    salt = Box(rocksalt, np.repeat([1.0, -1.0], 4))
    neutral = Box(rocksalt, np.zeros(8))
    coulomb = salt.forces(rocksalt.positions)[0] - neutral.forces(rocksalt.positions)[0]
    assert coulomb / 4 == pytest.approx(-1.747564594633 * 14.3996454784 / 2.8, abs=1e-5)
    assert len(random_box(np.random.default_rng(0), 8).atoms) == 8


def test_the_table_and_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from comparing import sets
    from comparing.ions import write_ions

    write_ions(tmp_path / sets.IONS, 5, n_atoms=8, seed=1)
    arguments = ["--data", str(tmp_path), "--output", str(tmp_path / "runs"), "--sets", "ions", "--couplings", "none", "fixed"]
    arguments += ["--channels", "2", "--epochs", "0.04", "--json", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", ["compare_charges.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPTS / "compare_charges.py"), run_name="__main__")
    assert stopped.value.code == 0
    table = capsys.readouterr().out
    assert "| ions | energy (meV/atom) | forces (eV/Å) | charges (e) | gamma | cost of a step |" in table
    figures = json.loads((tmp_path / "out.json").read_text())["ions"]
    assert set(figures) == {"none", "fixed"} and figures["none"]["cost"] == 1.0
    assert figures["fixed"]["gamma"] == pytest.approx(1.0) and figures["fixed"]["charge_error"] > 0.01
    charges = {symbol: row["mean"] for symbol, row in figures["fixed"]["charges"].items()}
    assert charges["Na"] == pytest.approx(-charges["Cl"], abs=1e-6) and figures["none"]["forces"] > 0.1


@pytest.mark.parametrize("coupling", ["none", "independent", "fixed", "global", "local"])
def test_every_set_gives_a_configuration(coupling: str) -> None:
    from comparing.sets import SETS

    from bec_mace.config.schema import RunConfig

    for data_set in SETS.values():
        if coupling in data_set.couplings:
            config = RunConfig.model_validate(data_set.config(Path("data"), coupling, 0.5, None))
            assert (config.model.electrostatics is None) == (coupling == "none")
            assert ("born_effective_charges" in config.training.loss.weights) == (
                coupling != "fixed" and "charge_transfer" in config.model.heads
            )


def test_two_molecules_are_pulled_apart_along_their_dipoles() -> None:
    from comparing.pictures import pair

    from bec_mace.testing.structures import make_frame

    water = make_frame([8, 1, 1], [[1.0, 2.0, 3.0], [1.7, 2.6, 3.0], [0.3, 2.6, 3.0]])
    two = pair(water, 5.0)
    np.testing.assert_allclose(two.positions[3] - two.positions[0], [0.0, 5.0, 0.0], atol=1e-6)
    assert two.atomic_numbers.tolist() == [8, 1, 1, 8, 1, 1]
