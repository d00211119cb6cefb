r"""The density of neighbours around each atom, in radial functions and spherical harmonics.

.. math:: c_{i, z, nlm} = \sum_{j \in z} R_{nl}(r_{ij}) \, Y_{lm}(\hat r_{ij})

A component f = (n, l, m) stands in the order l, n, m; :attr:`Density.slices` tells where each l is.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bec_mace.engine.environments import Environments
from bec_mace.models.footprint import MAX_EDGES
from bec_mace.models.kernel_regression.basis import RadialBasis
from bec_mace.models.kernel_regression.harmonics import harmonic_values, spherical_harmonics


class Density(torch.nn.Module):
    """Expansion of the neighbour density and its pull-back to the edge vectors.

    Args:
        radial: The radial functions.
        max_l: Highest degree.
        n_elements: Number of elements of the model.

    Attributes:
        slices: Where the components of each l stand.
        n_components: Number of components.
    """

    _radial_of: Tensor
    _harmonic_of: Tensor

    def __init__(self, radial: RadialBasis, max_l: int, n_elements: int) -> None:
        super().__init__()
        self.radial, self.max_l, self.n_elements = radial, max_l, n_elements
        self.slices: list[slice] = []
        radial_of: list[int] = []
        harmonic_of: list[int] = []
        start = 0
        for degree, count in enumerate(radial.counts):
            self.slices.append(slice(len(radial_of), len(radial_of) + count * (2 * degree + 1)))
            for n in range(start, start + count):
                radial_of += [n] * (2 * degree + 1)
                harmonic_of += range(degree**2, (degree + 1) ** 2)
            start += count
        self.n_components = len(radial_of)
        self.register_buffer("_radial_of", torch.tensor(radial_of), persistent=False)
        self.register_buffer("_harmonic_of", torch.tensor(harmonic_of), persistent=False)

    def edges(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """What a neighbour adds to the density, of shape (n, n_components), and its gradient, (n, 3, n_components)."""
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        radial, slopes = self.radial(lengths)
        harmonics, gradients = spherical_harmonics(vectors, self.max_l)
        radial, harmonics = radial[:, self._radial_of], harmonics[:, self._harmonic_of]
        along = (vectors / lengths.unsqueeze(1)).unsqueeze(2) * (slopes[:, self._radial_of] * harmonics).unsqueeze(1)
        return radial * harmonics, torch.addcmul(along, radial.unsqueeze(1), gradients[:, :, self._harmonic_of])

    def values(self, vectors: Tensor) -> Tensor:
        """What a neighbour adds to the density, of shape (n, n_components)."""
        radial, _ = self.radial(torch.linalg.vector_norm(vectors, dim=1))
        result: Tensor = radial[:, self._radial_of] * harmonic_values(vectors, self.max_l)[:, self._harmonic_of]
        return result

    def forward(self, env: Environments, sender_element: Tensor) -> Tensor:
        """Densities of all atoms, of shape (n_atoms, n_elements, n_components), without a graph.

        Args:
            env: The atomic environments.
            sender_element: Which element the neighbour in each slot is, of shape (n_atoms * n_slots, n_elements).
        """
        blocks = []
        with torch.no_grad():
            for place in _blocks(env):
                added = self.values(env.vectors[place])
                slots = (-1, env.n_slots)
                blocks.append(torch.bmm(sender_element[place].unflatten(0, slots).transpose(1, 2), added.unflatten(0, slots)))
        return torch.cat(blocks)

    def pull(self, cotangents: Tensor, env: Environments, sender_element: Tensor) -> Tensor:
        """From cotangents of the densities to those of the edge vectors.

        Args:
            cotangents: Of shape (n_channels, n_atoms, n_elements, n_components).
            env: The atomic environments.
            sender_element: As in :meth:`forward`.

        Returns:
            Of shape (n_channels, n_atoms * n_slots, 3).
        """
        blocks = []
        element = sender_element.argmax(dim=1)
        owner = torch.arange(env.n_atoms, device=element.device).repeat_interleave(env.n_slots)
        for place in _blocks(env):
            with torch.no_grad():
                _, gradients = self.edges(env.vectors[place])
            at_edges = cotangents[:, owner[place], element[place]].transpose(0, 1)
            blocks.append(torch.bmm(at_edges, gradients.transpose(1, 2)).transpose(0, 1))
        return torch.cat(blocks, dim=1)


def _blocks(env: Environments) -> Iterator[slice]:
    """Slots of some atoms at a time."""
    size = max(1, MAX_EDGES // env.n_slots) * env.n_slots
    for start in range(0, env.n_atoms * env.n_slots, size):
        yield slice(start, min(start + size, env.n_atoms * env.n_slots))
