r"""Distances in units of the sizes of the atoms.

.. math:: y = \left(1 + \frac{a x^q}{1 + x^{q - p}}\right)^{-1}, \qquad x = \frac{r}{(R_i + R_j) / 2}

with the covalent radii R and a = 1.0805, q = 0.9183, p = 4.5791. A bond then is at much the same y whatever its elements, so
that what is learned of one pair of elements serves another.

Source: the Agnesi transform, Witt et al., J. Chem. Phys. 158, 164101 (2023), with the constants of mace; radii of ASE, Cordero
et al., Dalton Trans. 2832 (2008).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import covalent_radii
from torch import Tensor

AGNESI = {"a": 1.0805, "q": 0.9183, "p": 4.5791}
"""The constants."""


def radii_of(elements: Sequence[int]) -> Tensor:
    """Covalent radii, of shape (n_elements,), in Å, in float64."""
    return torch.tensor([float(covalent_radii[z]) for z in elements], dtype=torch.float64)


def transform_agnesi(lengths: Tensor, mean_radii: Tensor) -> tuple[Tensor, Tensor]:
    """The transformed distance y, from 1 at the atom towards 0 far away, and its derivative by the distance.

    Args:
        lengths: Distances in Å.
        mean_radii: Mean of the radii of the two atoms, of the same shape, in Å.
    """
    x = lengths / mean_radii
    a, q, p = AGNESI.values()
    near = x.pow(q - p)
    part = a * x.pow(q) / (1 + near)
    y = 1 / (1 + part)
    return y, -(y**2) * part * (q - (q - p) * near / (1 + near)) / lengths
