"""What stage, design matrix and uncertainty share: the kernels of a model, with their representatives, as they are now."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bec_mace.engine.environments import SortedAtoms
from bec_mace.models.kernel_regression.descriptors import Descriptors


@dataclass(frozen=True)
class Kernel:
    """Kernels between environments and representatives, and the weights of each head.

    Attributes:
        descriptors: From densities to invariants and vectors.
        zeta: Power of the kernel.
        sizes: Number of representatives of each element.
        representatives: Their invariants, of shape (n_representatives, n_invariants).
        directions: Their directions, of shape (n_representatives, n_vectors).
        weights: By head, of shape (n_representatives,).
        reference_charges: Whether the elements have reference charges beside them.
        projects: Whether the mean of Z* is subtracted.
    """

    descriptors: Descriptors
    zeta: int
    sizes: tuple[int, ...]
    representatives: Tensor
    directions: Tensor
    weights: Mapping[str, Tensor]
    reference_charges: bool
    projects: bool

    @property
    def n_weights(self) -> int:
        """Number of weights: those of the heads, then the reference charges."""
        return len(self.weights) * sum(self.sizes) + (len(self.sizes) if self.reference_charges else 0)

    def double(self) -> Kernel:
        """A copy in float64."""
        return replace(
            self,
            descriptors=copy.deepcopy(self.descriptors).double(),
            representatives=self.representatives.double(),
            directions=self.directions.double(),
            weights={name: value.double() for name, value in self.weights.items()},
        )

    def representatives_of(self, number: int) -> Tensor:
        """Invariants of the representatives of an element."""
        return self.representatives[element_slices(self.sizes)[number]]

    def directions_of(self, number: int) -> Tensor:
        """Directions of the representatives of an element."""
        return self.directions[element_slices(self.sizes)[number]]

    def weights_of(self, head: str, number: int) -> Tensor:
        """Weights of a head for an element."""
        return self.weights[head][element_slices(self.sizes)[number]]

    def element_of(self, atoms: SortedAtoms) -> Tensor:
        """One column per element, 1 where an atom is of it, of shape (n_atoms, n_elements)."""
        return torch.nn.functional.one_hot(atoms.species, len(self.sizes)).to(atoms.dtype)


def element_slices(counts: Sequence[int]) -> list[slice]:
    """Where what belongs to each element stands, sorted by element."""
    ends = [sum(counts[: number + 1]) for number in range(len(counts))]
    return [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
