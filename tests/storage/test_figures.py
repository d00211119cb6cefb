import matplotlib.image
import pytest
from matplotlib.figure import Figure

from bec_mace.storage.figures import save_figure


def test_a_picture_is_written_whole_in_the_format_of_its_name(tmp_path):
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1], [1, 0])
    save_figure(figure, tmp_path / "p.png", dpi=50)
    assert matplotlib.image.imread(tmp_path / "p.png").shape[:2] == (50, 100)
    save_figure(figure, tmp_path / "p.pdf")
    assert (tmp_path / "p.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match="not supported"):
        save_figure(figure, tmp_path / "p.nothing")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.pdf", "p.png"]
