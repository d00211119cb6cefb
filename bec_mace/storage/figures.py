"""Pictures, drawn without a window and written whole."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bec_mace.storage.files import replace_file


def save_figure(figure: Figure, path: str | Path, dpi: int = 160) -> None:
    """Write a figure; its name says in which format.

    Args:
        figure: Of any backend.
        path: The picture.
        dpi: Dots per inch.
    """
    # A canvas of its own: no global state, no window, whatever backend the user has set.
    FigureCanvasAgg(figure)
    form = Path(path).suffix.removeprefix(".") or "png"
    replace_file(Path(path), lambda place: figure.savefig(place, dpi=dpi, format=form))
