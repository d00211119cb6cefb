from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest

from bec_mace.data import read_frames
from bec_mace.errors import DataError
from bec_mace.evaluate import plots
from bec_mace.evaluate.comparison import Comparison
from bec_mace.evaluate.plots import element_colors, plot_parity

Z = "born_effective_charges"


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved."""
    kept, save = [], plots.save_figure
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: (kept.append(figure), save(figure, path)))
    return kept


@pytest.fixture
def comparison(files):
    frames = read_frames(files / "water_clusters_rpbe_d3.extxyz")
    return Comparison(frames, [{Z: frame.labels[Z] + 0.125} for frame in frames])


def test_parity_shows_every_element_and_the_errors(comparison, figures, tmp_path):
    plot_parity(comparison, tmp_path / "parity.png")
    diagonal, off_diagonal = figures[0].axes
    assert "10 frames: RMSE 0.1250 e, MAE 0.1250 e (trivial model: RMSE" in figures[0].get_suptitle()
    assert "trivial model: RMSE" in diagonal.get_title()
    assert diagonal.get_xlabel() == r"reference $Z^*$ (e)"
    assert [text.get_text() for text in diagonal.get_legend().get_texts()] == ["H", "O"]
    n_atoms = sum(len(frame) for frame in comparison.frames)
    assert sum(len(points.get_offsets()) for points in diagonal.collections) == 3 * n_atoms
    assert sum(len(points.get_offsets()) for points in off_diagonal.collections) == 6 * n_atoms
    assert matplotlib.image.imread(tmp_path / "parity.png").std() > 0.05


def test_large_sets_are_thinned_but_measured_whole(comparison, figures, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "MAX_POINTS", 5)
    plot_parity(comparison, tmp_path / "parity.png")
    assert [len(points.get_offsets()) for points in figures[0].axes[0].collections] == [5, 5]
    assert "RMSE 0.1250 e" in figures[0].axes[0].get_title()


def test_nothing_to_plot_is_refused(comparison, tmp_path):
    bare = Comparison(comparison.frames, [{} for _ in comparison.frames])
    with pytest.raises(DataError, match="parity plot: none of born_effective_charges, .* labelled and predicted in 10 frames"):
        plot_parity(bare, tmp_path / "parity.png")


def test_every_property_has_a_panel(comparison, figures, tmp_path):
    names = ("energy", "forces", "dipole")
    guesses = [
        {
            Z: frame.labels[Z],
            "energy": frame.labels["energy"] + 0.25 * len(frame),
            "forces": frame.labels["forces"] - 0.5,
            "dipole": frame.labels["dipole"] + np.sqrt(len(frame)),
        }
        for frame in comparison.frames
    ]
    plot_parity(Comparison(comparison.frames, guesses), tmp_path / "parity.png")
    panels = {axes.get_title().split(",")[0].split(":")[0]: axes for axes in figures[0].axes}
    assert list(panels) == ["diagonal", "off-diagonal", *names]
    width, height = figures[0].get_size_inches()
    assert width < 12 and height < 12, "a page"
    points = {name: panels[name].collections[0].get_offsets() for name in names}
    assert len(points["energy"]) == 10 and len(points["dipole"]) == 30
    np.testing.assert_allclose(points["energy"][:, 1] - points["energy"][:, 0], 0.25)
    assert abs(points["energy"][:, 0]).max() < 1.0, "the composition is taken off"
    np.testing.assert_allclose(points["dipole"][:, 1] - points["dipole"][:, 0], 1.0)
    assert "RMSE 0.25, MAE 0.25 eV/atom" in panels["energy"].get_title()
    assert "RMSE 0.5, MAE 0.5 eV/Å" in panels["forces"].get_title()
    assert panels["dipole"].get_ylabel() == r"predicted $\mu$ (e Å/sqrt(atom))"
    assert [text.get_text() for text in panels["forces"].get_legend().get_texts()] == ["H", "O"]


def test_one_property_alone_is_drawn(comparison, figures, tmp_path):
    cell = np.array([[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.5, 0.5, 6.0]])
    label = np.array([0.1, 0.2, 0.3])
    frame = replace(comparison.frames[0], cell=cell, pbc=np.ones(3, bool), labels={"polarization": label})
    plot_parity(Comparison([frame], [{"polarization": label + 0.25 - cell[1] + cell[2]}]), tmp_path / "parity.png")
    (axes,) = figures[0].axes
    x, y = axes.collections[0].get_offsets().T
    np.testing.assert_allclose(y - x, 0.25 / np.sqrt(len(frame)), err_msg="on the branch of the label")


def test_light_elements_show_on_white():
    colors = element_colors(np.array([1, 8, 16]))
    assert all(np.dot(color, [0.299, 0.587, 0.114]) < 0.65 for color in colors.values())
