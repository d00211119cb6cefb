"""Structures of any kind, for tests that must hold for all of them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from bec_mace.data import Frame
from bec_mace.properties import PROPERTIES

LABELS = [name for name, row in PROPERTIES.items() if row.keys]
"""The properties that files can hold."""

HEIGHT = 1.0
"""Least distance of two faces of a cell, in Å: thin, but a list of all images ends."""


def vectors(n: int, size: float) -> st.SearchStrategy[np.ndarray]:
    """Arrays of shape (n, 3)."""
    row = st.tuples(*[st.floats(-size, size, allow_subnormal=False)] * 3)
    return st.lists(row, min_size=n, max_size=n).map(lambda rows: np.array(rows).reshape(n, 3))


def heights(cell: np.ndarray) -> np.ndarray:
    """Distances of the faces of a cell, of shape (3,)."""
    return 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)


def cells() -> st.SearchStrategy[np.ndarray]:
    """Triclinic, left-handed, thin."""
    return vectors(3, 5.0).filter(
        lambda cell: abs(np.cross(cell[0], cell[1]) @ cell[2]) > 1e-3 and heights(cell).min() > HEIGHT
    )


@st.composite
def structures(draw: st.DrawFn, max_atoms: int = 4, elements: tuple[int, ...] = (1, 8), spread: float = 2.0) -> Frame:
    """A frame of any periodicity whose atoms may lie cells away from the first one."""
    n = draw(st.integers(1, max_atoms))
    cell, pbc = draw(cells()), np.array(draw(st.tuples(*[st.booleans()] * 3)))
    numbers = draw(st.lists(st.sampled_from(elements), min_size=n, max_size=n))
    return Frame(np.array(numbers), draw(vectors(n, spread)) @ cell, cell, pbc, source="here")


@st.composite
def labels(draw: st.DrawFn, n_atoms: int) -> dict[str, np.ndarray]:
    """Some of the properties, none or all."""
    found = {}
    for name in draw(st.lists(st.sampled_from(LABELS), unique=True)):
        row = PROPERTIES[name]
        shape = (n_atoms, *row.shape) if row.per == "atom" else row.shape
        size = int(np.prod(shape))
        # The text of a file holds eight decimals of what there is for each atom.
        numbers = st.integers(-(10**11), 10**11).map(lambda number: number / 1e8)
        found[name] = np.array(draw(st.lists(numbers, min_size=size, max_size=size))).reshape(shape)
    return found
