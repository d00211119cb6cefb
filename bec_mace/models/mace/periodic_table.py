r"""What elements have in common: a prior for weights that depend on the element.

A network has its own weights for each element, and a rare element has few atoms to learn them from. Here the weights of all
elements have a common prior, correlated by the distance in the periodic table,

.. math:: \mathrm{cov}(w_z, w_{z'}) = c \, \exp\left(-\frac{(g_z - g_{z'})^2}{2 l_g^2}
          - \frac{(p_z - p_{z'})^2}{2 l_p^2}\right) + (1 - c) \, \delta_{z z'}

with the group g and the period p. The optimizer works on independent weights v, and the network uses w = K v with
:math:`K K^T = \mathrm{cov}`: what is learned about niobium then moves tantalum, too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor

_NOBLE_GASES = (0, 2, 10, 18, 36, 54, 86, 118)
_GROUP_LENGTH = 1.0
_PERIOD_LENGTH = 1.5


def group_and_period(atomic_number: int) -> tuple[int, int]:
    """Group, from 1 to 18, and period of an element; lanthanides and actinides count as group 3."""
    period = bisect_left(_NOBLE_GASES, atomic_number)
    place = atomic_number - _NOBLE_GASES[period - 1]
    from_end = _NOBLE_GASES[period] - atomic_number
    if place <= 2 and atomic_number != 2:
        return place, period
    return max(3, 18 - from_end), period


def mix_elements(elements: Sequence[int], correlation: float) -> Tensor:
    """The symmetric matrix K of the module's docstring, of shape (n_elements, n_elements), in float64.

    Args:
        elements: Atomic numbers.
        correlation: c, from 0 (independent elements) to below 1.
    """
    places = torch.tensor([group_and_period(z) for z in elements], dtype=torch.float64)
    lengths = torch.tensor([_GROUP_LENGTH, _PERIOD_LENGTH], dtype=torch.float64)
    distances = torch.cdist(places / lengths, places / lengths)
    identity = torch.eye(len(places), dtype=torch.float64)
    covariance = correlation * torch.exp(-0.5 * distances.square()) + (1 - correlation) * identity
    values, vectors = torch.linalg.eigh(covariance)
    result: Tensor = (vectors * values.sqrt()) @ vectors.T
    return result
