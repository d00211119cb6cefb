"""Small structures without symmetry: crystals smaller than the cutoff, a slab, a wire, a molecule, an atom."""

from __future__ import annotations

import numpy as np

from bec_mace.data import Frame

ELEMENTS = (1, 6, 8)


def make_frame(numbers: list[int], positions: object, cell: object = None, pbc: object = False) -> Frame:
    """A frame from plain numbers: atomic numbers, positions and lattice vectors in Å, periodic directions."""
    return Frame(
        atomic_numbers=np.array(numbers, dtype=np.int64),
        positions=np.array(positions, dtype=np.float64),
        cell=np.zeros((3, 3)) if cell is None else np.array(cell, dtype=np.float64),
        pbc=np.broadcast_to(np.array(pbc, dtype=bool), (3,)).copy(),
    )


def rocksalt() -> Frame:
    """Primitive cell of two atoms, lattice vectors of 2.40 Å, one atom displaced."""
    cell = 1.7 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    return make_frame([6, 8], [[0.0, 0.0, 0.0], [1.82, 1.63, 1.75]], cell, True)


def triclinic_pair() -> Frame:
    """Two atoms in a triclinic cell with lattice vectors of 2.30 to 2.48 Å."""
    cell = [[2.4, 0.2, -0.1], [0.6, 2.2, 0.3], [-0.4, 0.5, 2.4]]
    return make_frame([8, 1], [[0.1, 0.2, 0.3], [1.3, 1.6, 1.1]], cell, True)


def slab() -> Frame:
    """Periodic along two directions; the third lattice vector is zero."""
    cell = [[2.4, 0.3, 0.1], [-0.5, 2.6, 0.2], [0.0, 0.0, 0.0]]
    return make_frame([6, 8, 1], [[0.0, 0.0, 0.0], [1.3, 1.1, 0.9], [0.4, 1.2, 2.0]], cell, (True, True, False))


def wire() -> Frame:
    """Periodic along the second lattice vector alone."""
    cell = [[9.0, 0.0, 0.0], [0.3, 2.2, 0.4], [0.0, 0.0, 0.0]]
    return make_frame([8, 6, 1], [[0.2, 0.1, 0.3], [1.1, 1.2, -0.4], [-0.7, 0.6, 0.8]], cell, (False, True, False))


def molecule() -> Frame:
    """Six atoms, not periodic."""
    positions = [[0.0, 0.1, 0.0], [1.2, 0.0, 0.2], [-0.5, 0.9, 0.3], [-0.6, -0.8, -0.4], [1.9, 0.8, -0.3], [0.2, 0.3, 1.4]]
    return make_frame([6, 8, 1, 1, 1, 6], positions)


def atom() -> Frame:
    """One atom without neighbours."""
    return make_frame([8], [[0.3, -0.2, 0.1]])


def triclinic() -> Frame:
    """Six atoms in a triclinic cell smaller than twice the cutoff, without any symmetry."""
    cell = np.array([[3.6, 0.3, -0.2], [0.7, 3.2, 0.4], [-0.5, 0.6, 4.1]])
    fractions = np.array(
        [[0.02, 0.05, 0.04], [0.41, 0.37, 0.12], [0.11, 0.62, 0.48], [0.69, 0.13, 0.55], [0.58, 0.71, 0.74], [0.23, 0.28, 0.83]]
    )
    return make_frame([6, 8, 1, 8, 6, 1], fractions @ cell, cell, True)


PERIODIC = {"rocksalt": rocksalt, "triclinic_pair": triclinic_pair, "slab": slab, "wire": wire}
FRAMES = {**PERIODIC, "triclinic": triclinic, "molecule": molecule, "atom": atom}
