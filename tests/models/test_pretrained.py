"""The models that come with the package, against known crystals and the frames they were not trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from ase.spacegroup import crystal
from click.testing import CliRunner

import bec_mace
from bec_mace.cli.main import main
from bec_mace.config.schema import DataConfig
from bec_mace.errors import ModelError
from bec_mace.evaluate.comparison import evaluate
from bec_mace.models import PolarizationModel, load_model
from bec_mace.models.checkpoint import available_models
from bec_mace.train.prepare import read_frame_sets

Z, EPS = "born_effective_charges", "dielectric_tensor"
PRETRAINED = Path(bec_mace.__file__).parent / "pretrained"


@pytest.fixture(scope="module")
def crystals() -> PolarizationModel:
    return load_model("crystals")


def held_out() -> list:
    """The test frames of configs/crystals.yaml."""
    data = DataConfig(train="bec_mace:crystals_dfpt.extxyz.gz", validation=0, test=0.1)
    return read_frame_sets(data, (Z,)).test


@pytest.mark.parametrize("name", available_models())
def test_metadata_tell_what_a_user_must_know_and_no_place(name: str) -> None:
    text = (PRETRAINED / f"{name}.json").read_text(encoding="utf-8")
    found = json.loads(text)
    assert found["elements"] and found["units"][Z] == "e" and len(found["data_fingerprint"]) == 64
    assert any(key.endswith(f"{Z}_rmse") for key in found["metrics"])
    assert '"output": "/' not in text
    assert (PRETRAINED / f"{name}.safetensors").stat().st_size < 25e6


def test_the_documentation_shows_the_error_of_the_model(crystals: PolarizationModel) -> None:
    metrics = crystals.metadata["metrics"]
    row = f"the model `crystals` | 1094 | MAE {metrics[f'test_{Z}_mae']:.3f} (RMSE {metrics[f'test_{Z}_rmse']:.3f})"
    assert row in (Path(__file__).parents[2] / "docs" / "figures" / "accuracy.md").read_text(encoding="utf-8")


def test_known_crystals(crystals: PolarizationModel) -> None:
    """First-principles values: Ghosez et al., Phys. Rev. B 58, 6224 (1998) for the perovskite; Materials Project for others."""
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)]
    titanate = crystal(["Sr", "Ti", "O"], places, spacegroup=221, cellpar=[3.9] * 3 + [90] * 3)
    salt, magnesia = bulk("NaCl", "rocksalt", 5.62), bulk("MgO", "rocksalt", 4.22)
    z, eps = zip(
        *((result[Z], result[EPS]) for result in bec_mace.predict(crystals, [titanate, salt, magnesia], (Z, EPS))), strict=True
    )
    assert np.diag(z[0][1]) == pytest.approx([7.2] * 3, rel=0.07)
    assert sorted(np.diag(z[0][2])) == pytest.approx([-5.7, -2.0, -2.0], rel=0.07)
    assert z[1][0, 0, 0] == pytest.approx(1.10, rel=0.05) and z[2][0, 0, 0] == pytest.approx(1.98, rel=0.05)
    assert [tensor[0, 0] for tensor in eps[1:]] == pytest.approx([2.5, 3.2], rel=0.08)
    for tensors in z:
        assert np.abs(tensors.sum(axis=0)).max() < 1e-4


def test_some_of_the_held_out_crystals(crystals: PolarizationModel) -> None:
    errors = evaluate(crystals, held_out()[:12])[Z]
    assert errors["mae"] < 0.15
    assert errors["rmse"] < 0.5 * errors["trivial"]["rmse"]


@pytest.mark.slow
def test_all_held_out_crystals(crystals: PolarizationModel) -> None:
    errors = evaluate(crystals, held_out())[Z]
    assert errors["n_frames"] == 122
    assert errors["mae"] == pytest.approx(crystals.metadata["metrics"][f"test_{Z}_mae"], rel=1e-3)
    assert errors["mae"] < 0.08


def test_a_crystal_from_a_cif_file(tmp_path: Path) -> None:
    write(tmp_path / "any.cif", bulk("ZnO", "wurtzite", a=3.25, c=5.21))
    result = CliRunner().invoke(main, ["predict", "crystals", str(tmp_path / "any.cif"), "-o", str(tmp_path / "out.extxyz")])
    assert result.exit_code == 0, result.stderr
    atoms = read(tmp_path / "out.extxyz")
    z = atoms.arrays["predicted_becs"].reshape(-1, 3, 3)
    assert z[atoms.numbers == 30][0][2, 2] == pytest.approx(2.15, rel=0.05)
    assert z[atoms.numbers == 30][0][0, 0] < z[atoms.numbers == 30][0][2, 2]
    # PBEsol: 5.44 of the rocksalt and 6.81 of the zincblende structure, which are among the training frames.
    assert 5.44 < np.trace(atoms.info["predicted_dielectric_tensor"].reshape(3, 3)) / 3 < 6.81


def test_an_element_it_has_not_seen(crystals: PolarizationModel) -> None:
    assert len(crystals.elements) == 64
    with pytest.raises(ModelError, match="the model has not seen Ar"):
        crystals.check_elements([18])
