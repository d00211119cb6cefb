"""Properties and heads from outside the package: one row and one class, and everything else follows."""

import shutil

import ase.io
import numpy as np
import pytest

import bec_mace
from bec_mace.config import load_config
from bec_mace.data import read_frames
from bec_mace.errors import ConfigError, DataError, ModelError
from bec_mace.evaluate.comparison import evaluate, format_table
from bec_mace.integrations.ase import BECCalculator
from bec_mace.models import load_model
from bec_mace.predict import predict_files, read_predictions
from bec_mace.properties import PROPERTIES, Property, register
from bec_mace.train.loop import train
from bec_mace.train.run_folder import read_metrics

from . import outside_head

CONFIG = """\
output: run
device: cpu
data: {train: frames.extxyz, validation: 0.34, keys: {quadrupole: Q}}
model:
  {r_max: 3.0, channels: 4, max_l: 1, num_interactions: 1, num_radial: 4, radial_mlp: [8], readout_mlp: [4],
   heads: [dipole, {mine_moments:MomentsHead: {scale: 2.0}}]}
training:
  epochs: 2
  loss: {weights: {born_effective_charges: 1, magnetic_moments: 3, quadrupole: 0.1}}
"""


@pytest.fixture
def folder(files, tmp_path, monkeypatch):
    """A folder with a head of one's own, six labelled clusters, and a configuration that names both."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(outside_head.__file__, tmp_path / "mine_moments.py")
    atoms = ase.io.read(files / "water_clusters_rpbe_d3.extxyz", index=":6")
    rng = np.random.default_rng(0)
    for frame in atoms:
        frame.set_array("REF_magnetic_moments", rng.normal(size=len(frame)))
        q = rng.normal(size=(3, 3))
        frame.info["Q"] = (q + q.T).reshape(-1)
    ase.io.write(tmp_path / "frames.extxyz", atoms, format="extxyz")
    (tmp_path / "mine.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def test_two_rows_and_a_head_go_from_yaml_to_files(folder):
    """Labels, loss, logs, evaluation, checkpoint, files and calculator know the new properties."""
    results = train(load_config("mine.yaml"))
    units = read_metrics(folder / "run" / "metrics.csv")[1]
    assert units["train_magnetic_moments_rmse"] == "mu_B" and units["validation_quadrupole_rmse"] == "e Å^2/atom"
    assert results["validation"]["quadrupole"]["unit"] == "e Å^2/atom"

    model = load_model("run")
    assert model.metadata["units"]["quadrupole"] == "e Å^2"
    assert {"magnetic_moments", "quadrupole"} <= model.provides and set(model.heads) == {"dipole", "MomentsHead"}
    frames = read_frames("frames.extxyz", keys={"quadrupole": "Q"})
    errors = evaluate(model, frames)
    (found,) = bec_mace.predict(model, frames[0], ("magnetic_moments", "quadrupole"))
    single = evaluate(model, frames[:1])["magnetic_moments"]["rmse"]
    assert single == pytest.approx(np.sqrt(np.mean((found["magnetic_moments"] - frames[0].labels["magnetic_moments"]) ** 2)))
    assert f"RMSE {errors['quadrupole']['rmse']:10.5f}" in format_table(errors)

    names = ("magnetic_moments", "quadrupole")
    predict_files(model, "frames.extxyz", "out.extxyz", names)
    predict_files(model, "frames.extxyz", "out.h5", names)
    atoms, (_, arrays) = ase.io.read("out.extxyz", index=0), next(iter(read_predictions("out.h5")))
    assert found["quadrupole"].shape == (3, 3) and found["magnetic_moments"].shape == (len(frames[0]),)
    np.testing.assert_allclose(atoms.arrays["predicted_magnetic_moments"], found["magnetic_moments"], atol=1e-6)
    np.testing.assert_allclose(np.asarray(atoms.info["predicted_quadrupole"]).reshape(3, 3), found["quadrupole"], atol=1e-6)
    np.testing.assert_allclose(arrays["quadrupole"], found["quadrupole"], atol=1e-6)
    calculator = BECCalculator(model)
    np.testing.assert_allclose(calculator.get_property("quadrupole", frames[0].to_atoms()), found["quadrupole"], atol=1e-5)


def test_options_reach_the_head(folder):
    (folder / "mine.yaml").write_text(CONFIG.replace("scale: 2.0", "scale: 2.0, size: 3"))
    with pytest.raises(ModelError, match="the options of 'mine_moments:MomentsHead' do not fit"):
        train(load_config("mine.yaml"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine_moment:MomentsHead", "cannot import mine_moment .*install it, or start where mine_moment.py is"),
        ("mine_moments:Moments", "the module mine_moments has no Moments"),
        ("mine_moments:register", "mine_moments:register is no head; it needs the attribute `row`"),
    ],
)
def test_a_head_that_is_not_there_is_a_mistake_with_a_line(folder, name, message):
    (folder / "mine.yaml").write_text(CONFIG.replace("{mine_moments:MomentsHead: {scale: 2.0}}", name))
    with pytest.raises(ConfigError, match=f"mine.yaml:6: model.heads.1: {message}"):
        load_config("mine.yaml")


def test_a_property_without_a_head_is_a_mistake_with_a_cure(folder):
    (folder / "mine.yaml").write_text(CONFIG.replace("magnetic_moments: 3", "energy: 3"))
    with pytest.raises(ConfigError, match=r"no head of this model gives 'energy' .*mine_moments:MomentsHead.*add energy to"):
        load_config("mine.yaml")


def test_rows_do_not_take_each_others_names_and_keys():
    row = PROPERTIES["energy"]
    assert register(row) is row
    with pytest.raises(DataError, match="'energy' is known already, with another row"):
        register(Property("energy", "atom", (), "eV", "E"))
    with pytest.raises(DataError, match="'work' has the key 'REF_forces' of 'forces'"):
        register(Property("work", "frame", (), "eV", "W", ("REF_forces",)))
    assert "work" not in PROPERTIES
