"""A kernel model through every command, and the calculator."""

import json

import ase.io
import numpy as np
import pytest

CONFIG = """\
data:
  train: {data}
  validation: 0
  test: 0.34
model:
  kind: kernel
  r_max: 3.0
  num_radial: 3
  max_l: 2
  num_representatives: {{H: 6, O: 4}}
  heads: [monopole, dipole]
device: cpu
"""


@pytest.fixture
def trained(run, small_frames, tmp_path):
    (tmp_path / "fit.yaml").write_text(CONFIG.format(data=small_frames))
    result = run("train", "fit.yaml", "--set", "model.zeta=1", "--set", "fit.calibration_folds=0")
    assert result.exit_code == 0, result.output
    return tmp_path / "runs" / "fit"


def test_every_command(run, trained, small_frames):
    result = run("info", trained)
    assert "kernel: power 1, {'H': 4, 'O': 3} representatives" in result.output
    result = run("evaluate", trained, small_frames, "--uncertainty", "--json", "out.json", "--device", "cpu")
    assert "of errors within 1," in result.output
    shares = json.loads((trained.parents[1] / "out.json").read_text())
    assert set(shares["head_shares"]) == {"monopole", "dipole", "reference"}
    assert 0 <= shares["uncertainty"]["within_68"] <= shares["uncertainty"]["within_95"] <= 1
    result = run("predict", trained, small_frames, "-o", "plain.xyz", "--device", "cpu")
    assert result.output.endswith("predicted_becs, predicted_charges in plain.xyz\n")
    result = run("predict", trained, small_frames, "-o", "out.xyz", "--uncertainty", "--device", "cpu")
    assert result.exit_code == 0, result.output
    first = ase.io.read("out.xyz", index=0)
    assert first.arrays["predicted_becs_std"].shape == (4, 9)
    assert (first.arrays["predicted_becs_std"] > 0).all()
    assert np.abs(first.arrays["predicted_becs"].sum(axis=0)).max() < 1e-5


def test_calculator(trained):
    from ase.build import molecule

    from bec_mace import BECCalculator

    atoms = molecule("H2O")
    atoms.calc = BECCalculator(str(trained), dtype="float64")
    tensors = atoms.calc.get_property("born_effective_charges", atoms)
    assert np.abs(tensors.sum(axis=0)).max() < 1e-12
    turned = atoms.copy()
    turned.calc = atoms.calc
    turned.rotate(90, "x", rotate_cell=False)
    matrix = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    assert turned.calc.get_property("born_effective_charges", turned) == pytest.approx(matrix @ tensors @ matrix.T, abs=1e-10)


def test_forces_of_a_field(trained):
    """Beside another potential, as a simulation in a field uses a kernel model."""
    from ase.build import molecule
    from ase.calculators.lj import LennardJones

    from bec_mace import BECCalculator

    atoms, field = molecule("H2O"), np.array([0.02, -0.05, 0.1])
    atoms.calc = BECCalculator(str(trained), base=LennardJones(), electric_field=field, dtype="float64")
    forces = atoms.get_forces()
    tensors = atoms.calc.get_property("born_effective_charges", atoms)
    expected = np.einsum("a,jab->jb", field, tensors)
    assert np.abs(expected).max() > 1e-4
    assert atoms.calc.results["field_forces"] == pytest.approx(expected, abs=1e-12)
    assert forces - atoms.calc.results["base_forces"] == pytest.approx(expected, abs=1e-10)


def test_a_network_has_no_uncertainty(run, model_path, small_frames):
    result = run("predict", model_path, small_frames, "-o", "out.xyz", "--uncertainty", "--device", "cpu")
    assert result.exit_code == 2
    assert "does not give born_effective_charges_std" in result.output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.kind=kernal", "model.kind: expected one of 'network', 'kernel', got 'kernal'; did you mean 'kernel'?"),
        (
            "model.heads=[direct]",
            "model.heads.0: a kernel model has the heads monopole and dipole, got 'direct'; a network has",
        ),
        ("model.heads=[dipole, dipole]", "model.heads: the head 'dipole' is named 2 times; name it once"),
        ("model.channels=8", "model.channels: unknown key; known keys here are kind, r_max"),
        ("model.num_representatives=0", "model.num_representatives: expected a whole number of at least 1"),
        ("model.num_representatives={Hx: 3}", "model.num_representatives: 'Hx' is not the symbol of an element"),
        ("training.epochs=3", "training: unknown key; known keys here are output"),
        ("fit.memory_gb=0", "fit.memory_gb: must be greater than 0, got 0"),
        ("data.validation=0.9", "data.test: validation and test fractions add up to 1.24"),
    ],
)
def test_mistakes_in_a_config(run, small_frames, tmp_path, change, message):
    (tmp_path / "fit.yaml").write_text(CONFIG.format(data=small_frames))
    result = run("info", "fit.yaml")
    assert result.exit_code == 0
    result = run("train", "fit.yaml", "--set", change)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split()), result.output


def test_a_mistake_in_the_file_has_its_line(run, small_frames, tmp_path):
    (tmp_path / "fit.yaml").write_text(CONFIG.format(data=small_frames).replace("  r_max: 3.0", "  r_max: wide"))
    assert "fit.yaml:7: model.r_max: expected a number, got 'wide'" in run("info", "fit.yaml").output
