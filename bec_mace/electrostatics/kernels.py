r"""The interaction of two Gaussian charges of unit charge, in real and in reciprocal space.

.. math:: v(r) = k_e \frac{\operatorname{erf}(r / \sqrt{2} \sigma)}{r}, \qquad
          v(k) = \frac{4 \pi k_e}{k^2} e^{-\sigma^2 k^2 / 2}

Each charge has the width :math:`\sigma / \sqrt{2}`, so that the pair has :math:`\sigma`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bec_mace.electrostatics.multipoles import Multipoles
from bec_mace.units import COULOMB_CONSTANT


def of_distance(distance: Tensor, smearing: float) -> Tensor:
    """v(r) of distances above zero, in Å, in eV/e^2."""
    return COULOMB_CONSTANT * torch.erf(distance / (math.sqrt(2) * smearing)) / distance


def derivatives_of_distance(squared: Tensor, smearing: float, order: int) -> list[Tensor]:
    r"""The radial factors of the derivatives of v, :math:`b_0 = v, \; b_{n+1} = -b_n' / r`, in eV/e^2 Å^-2n.

    Args:
        squared: Squares of distances, in Å^2; below a third of the smearing digits are lost.
        smearing: In Å.
        order: The highest n.

    By recursion as in Smith, CCP5 Newsletter 46, 18 (1998), for erf in place of erfc.
    """
    values = [of_distance(torch.sqrt(squared), smearing)]
    step = COULOMB_CONSTANT * math.sqrt(2 / math.pi) / smearing * torch.exp(-0.5 / smearing**2 * squared)
    for n in range(1, order + 1):
        step = step / smearing**2 if n > 1 else step
        values.append(((2 * n - 1) * values[-1] - step) / squared)
    return values


def of_wavevector(squared: Tensor, smearing: float) -> Tensor:
    """v(k) of squared lengths above zero, in Å^-2, in eV Å^3/e^2."""
    return 4 * math.pi * COULOMB_CONSTANT * torch.exp(-0.5 * smearing**2 * squared) / squared


def at_zero(smearing: float) -> float:
    """v(0), in eV/e^2."""
    return COULOMB_CONSTANT * math.sqrt(2 / math.pi) / smearing


def with_themselves(sources: Multipoles, smearing: float) -> Tensor:
    r"""The energy of each atom's multipoles with themselves, summed over the last dimension of atoms, in eV.

    .. math:: \frac{k_e}{\sqrt{2 \pi}} \sum_i \left( \frac{q_i^2}{\sigma} + \frac{u_i^2}{3 \sigma^3}
              + \frac{Q_i : Q_i}{10 \sigma^5} \right)
    """
    total = sources.charges.square() / smearing
    if sources.dipoles is not None:
        total = total + sources.dipoles.square().sum(dim=-1) / (3 * smearing**3)
    if sources.quadrupoles is not None:
        total = total + sources.quadrupoles.square().sum(dim=(-2, -1)) / (10 * smearing**5)
    return COULOMB_CONSTANT / math.sqrt(2 * math.pi) * total.sum(dim=-1)


def longest_wavevector(smearing: float, tolerance: float) -> float:
    r"""Where :math:`10 e^{-\sigma^2 k^2 / 2}` falls below the tolerance, in 1/Å.

    What is left out of a self energy is :math:`k_e \operatorname{erfc}(\sigma k / \sqrt 2) / (\sqrt{2 \pi} \sigma)`, which
    is then below the tolerance in eV/e^2; so is that of a dipole of :math:`e \sigma`.
    """
    return math.sqrt(2 * math.log(10 / tolerance)) / smearing
