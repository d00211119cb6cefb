import json

import pytest

from bec_mace.train import plots
from bec_mace.train.plots import plot_learning_curve

Z = "born_effective_charges"


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved."""
    kept, save = [], plots.save_figure
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: (kept.append(figure), save(figure, path)))
    return kept


def test_learning_curve_has_a_panel_for_each_property(figures, tmp_path):
    path = tmp_path / "metrics.csv"
    header = [f"{part}_{name}_rmse" for name in (Z, "forces") for part in ("train", "validation")]
    path.write_text("\n".join([",".join(["epoch", *header]), "1,0.3,0.4,2,3", "2,0.1,,1,2", ""]))
    units = dict(zip(header, ("e", "e", "eV/Å", "eV/Å"), strict=True))
    path.with_name("metrics_units.json").write_text(json.dumps(units))
    plot_learning_curve(path, tmp_path / "curve.png", trivial_rmse=0.2)
    charges, forces = figures[0].axes
    assert [line.get_label() for line in charges.lines] == ["train", "validation", "trivial model"]
    assert charges.lines[1].get_xdata().tolist() == [1.0], "epochs without validation are left out"
    assert charges.lines[2].get_ydata()[0] == 0.2
    assert (charges.get_ylabel(), forces.get_ylabel()) == ("RMSE (e)", "RMSE (eV/Å)")
    assert charges.get_yscale() == "log"


def test_learning_curves_of_many_properties_fit_a_page(figures, tmp_path):
    path = tmp_path / "metrics.csv"
    names = (Z, "energy", "forces", "stress", "dipole", "polarizability", "dielectric_tensor")
    header = [f"{part}_{name}_rmse" for name in names for part in ("train", "validation")]
    path.write_text("\n".join([",".join(["epoch", *header]), "1" + ",0.5" * 14, ""]))
    plot_learning_curve(path, tmp_path / "curve.png")
    width, height = figures[0].get_size_inches()
    assert width < 12 and height < 12 and len(figures[0].axes) == 7
