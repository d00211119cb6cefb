r"""The interaction of two Gaussian charges of unit charge, in real and in reciprocal space.

.. math:: v(r) = k_e \frac{\operatorname{erf}(r / \sqrt{2} \sigma)}{r}, \qquad
          v(k) = \frac{4 \pi k_e}{k^2} e^{-\sigma^2 k^2 / 2}

Each charge has the width :math:`\sigma / \sqrt{2}`, so that the pair has :math:`\sigma`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bec_mace.units import COULOMB_CONSTANT


def of_distance(distance: Tensor, smearing: float) -> Tensor:
    """v(r) of distances above zero, in Å, in eV/e^2."""
    return COULOMB_CONSTANT * torch.erf(distance / (math.sqrt(2) * smearing)) / distance


def of_wavevector(squared: Tensor, smearing: float) -> Tensor:
    """v(k) of squared lengths above zero, in Å^-2, in eV Å^3/e^2."""
    return 4 * math.pi * COULOMB_CONSTANT * torch.exp(-0.5 * smearing**2 * squared) / squared


def with_itself(smearing: float) -> float:
    """v(0): twice the energy of a unit charge with itself, in eV/e^2."""
    return COULOMB_CONSTANT * math.sqrt(2 / math.pi) / smearing


def longest_wavevector(smearing: float, tolerance: float) -> float:
    r"""Where :math:`10 e^{-\sigma^2 k^2 / 2}` falls below the tolerance, in 1/Å.

    What is left out of a self energy is :math:`k_e \operatorname{erfc}(\sigma k / \sqrt 2) / (\sqrt{2 \pi} \sigma)`, which
    is then below the tolerance in eV/e^2.
    """
    return math.sqrt(2 * math.log(10 / tolerance)) / smearing
