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
    with pytest.raises(DataError, match="parity plot: born_effective_charges found in 0 of 10 frames"):
        plot_parity(bare, tmp_path / "parity.png")


def test_light_elements_show_on_white():
    colors = element_colors(np.array([1, 8, 16]))
    assert all(np.dot(color, [0.299, 0.587, 0.114]) < 0.65 for color in colors.values())
