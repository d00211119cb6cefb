"""Polarizabilities and dielectric tensors of a mixture of crystals and molecules, on the way through files."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read

from bec_mace.config.model import ModelConfig
from bec_mace.data import compute_statistics, read_frames
from bec_mace.errors import ModelError
from bec_mace.integrations.ase import BECCalculator
from bec_mace.models import build_model
from bec_mace.predict import predict, predict_files, read_predictions

NAMES = ("polarizability", "dielectric_tensor")


@pytest.fixture
def mixed(write_extxyz):
    positions = [[0.1, 0.0, 0.2], [0.9, 0.1, 0.0], [0.0, 1.0, -0.1], [2.0, 2.1, 2.2]]
    cell = [[4.0, 0, 0], [0.7, 4.2, 0], [0.3, -0.5, 4.5]]
    return write_extxyz([Atoms("OHHO", positions, cell=cell, pbc=pbc) for pbc in (True, False, (True, True, False))])


@pytest.fixture
def network(mixed):
    torch.manual_seed(0)
    config = ModelConfig(
        r_max=3.0,
        channels=4,
        max_l=2,
        hidden_max_l=2,
        num_radial=4,
        radial_mlp=[8],
        readout_mlp=[4],
        heads=["dipole", "polarizability"],
    )
    return build_model(config, [1, 8], compute_statistics(read_frames(mixed), 3.0), torch.float64)


def test_extxyz_leaves_out_what_is_not_there(network, mixed, tmp_path):
    predict_files(network, [str(mixed)], tmp_path / "out.extxyz", NAMES)
    expected = list(predict(network, read_frames(mixed), NAMES))
    written = read(tmp_path / "out.extxyz", ":")
    assert ["predicted_dielectric_tensor" in atoms.info for atoms in written] == [True, False, False]
    for atoms, values in zip(written, expected, strict=True):
        found = np.reshape(atoms.info["predicted_polarizability"], (3, 3))
        np.testing.assert_allclose(found, values["polarizability"], atol=1e-7)
        assert np.ptp(np.linalg.eigvalsh(found)) > 1e-3
    found = np.reshape(written[0].info["predicted_dielectric_tensor"], (3, 3))
    np.testing.assert_allclose(found, expected[0]["dielectric_tensor"], atol=1e-7)


def test_hdf5_has_no_number_where_there_is_none(network, mixed, tmp_path):
    predict_files(network, [str(mixed)], tmp_path / "out.h5", NAMES)
    values = [result for _, result in read_predictions(tmp_path / "out.h5")]
    assert [np.isnan(value["dielectric_tensor"]).all() for value in values] == [False, True, True]
    expected = list(predict(network, read_frames(mixed), NAMES))
    np.testing.assert_allclose(values[1]["polarizability"], expected[1]["polarizability"], atol=1e-7)


def test_the_calculator_gives_both(network, mixed):
    crystal, molecule, _ = read(mixed, ":")
    calculator = BECCalculator(network, dtype="float64")
    polarizability, dielectric = (calculator.get_property(name, crystal) for name in NAMES)
    np.testing.assert_allclose(dielectric, np.eye(3) + 4 * np.pi / crystal.get_volume() * polarizability, atol=1e-12)
    assert calculator.get_property("polarizability", molecule).shape == (3, 3)
    with pytest.raises(ModelError, match="a dielectric tensor needs a cell that is periodic in three directions"):
        calculator.get_property("dielectric_tensor", molecule)


def test_stress_and_dipole_of_a_mixture_are_where_they_mean_something(mixed, tmp_path, caplog):
    torch.manual_seed(0)
    small = {"r_max": 3.0, "channels": 4, "max_l": 1, "num_radial": 4, "radial_mlp": [8], "readout_mlp": [4]}
    model = build_model(
        ModelConfig(**small, heads=["dipole", "energy"]), [1, 8], compute_statistics(read_frames(mixed), 3.0), torch.float64
    )
    caplog.set_level("INFO", "bec_mace")
    predict_files(model, [str(mixed)], tmp_path / "out.extxyz", ("stress", "dipole", "polarization"))
    assert "stress: no value for 2 structures: stress needs a cell that is periodic in three directions" in caplog.text
    assert "dipole: no value for 2 structures: the dipole of a periodic cell depends" in caplog.text
    written = read(tmp_path / "out.extxyz", ":")
    assert ["predicted_stress" in atoms.info for atoms in written] == [True, False, False]
    assert ["predicted_dipole" in atoms.info for atoms in written] == [False, True, False]
    crystal, molecule, _ = (atoms.copy() for atoms in written)
    crystal.calc = molecule.calc = BECCalculator(model)
    found = np.reshape(written[0].info["predicted_stress"], (3, 3))
    np.testing.assert_allclose(found, crystal.get_stress(voigt=False), atol=1e-6)
    assert abs(found).max() > 1e-4
    np.testing.assert_allclose(written[1].info["predicted_dipole"], molecule.calc.get_property("dipole", molecule), atol=1e-6)
    predict_files(model, [str(mixed)], tmp_path / "out.h5", ("stress", "dipole"))
    missing = [{name for name, value in r.items() if np.isnan(value).all()} for _, r in read_predictions(tmp_path / "out.h5")]
    assert missing == [{"dipole"}, {"stress"}, {"stress", "dipole"}]
