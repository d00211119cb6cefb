"""What acts through Coulomb's law at each atom: a charge, a dipole, a quadrupole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Multipoles:
    r"""Sources of the atoms, each smeared as its charge is.

    .. math:: \rho(r) = \sum_i (q_i - u_i \cdot \nabla + \tfrac12 Q_i : \nabla \nabla) \, g(r - r_i)

    Attributes:
        charges: q, of shape (..., n_atoms), in e.
        dipoles: u, of shape (..., n_atoms, 3), in e Å; None where there are none.
        quadrupoles: Q, the second moment without its trace, symmetric, of shape (..., n_atoms, 3, 3), in e Å^2.
    """

    charges: Tensor
    dipoles: Tensor | None = None
    quadrupoles: Tensor | None = None

    @classmethod
    def of(cls, sources: Tensor | Multipoles) -> Multipoles:
        """Multipoles as they are; a tensor is that of charges."""
        return cls(sources) if isinstance(sources, Tensor) else sources

    @property
    def order(self) -> int:
        """The highest that is there: 0 of charges, 1 of dipoles, 2 of quadrupoles."""
        return 2 if self.quadrupoles is not None else 1 if self.dipoles is not None else 0

    def map(self, function: Callable[[Tensor], Tensor]) -> Multipoles:
        """A copy with a function of each tensor."""
        return Multipoles(*(None if value is None else function(value) for value in self._values()))  # type: ignore[arg-type]

    def to(self, dtype: torch.dtype) -> Multipoles:
        """The same in another precision."""
        return self.map(lambda value: value.to(dtype))

    def rows(self, places: Tensor, there: Tensor, dtype: torch.dtype) -> Multipoles:
        """Those of atoms at some places, zero where there is none."""

        def chosen(value: Tensor) -> Tensor:
            row = value.to(dtype)[places]
            return row.where(there.view(*there.shape, *[1] * (row.dim() - there.dim())), torch.zeros_like(row))

        return self.map(chosen)

    def at(self, atoms: Tensor) -> Multipoles:
        """Those of some places of each frame, the second dimension."""
        return self.map(lambda value: value[:, atoms])

    def in_lattice(self, inverse: Tensor) -> Multipoles:
        """With components along the lattice vectors, whose inverses are given, of shape (n_frames, 3, 3)."""
        dipoles, quadrupoles = self.dipoles, self.quadrupoles
        if quadrupoles is not None:
            matrix = inverse.unsqueeze(1)
            quadrupoles = matrix.transpose(2, 3) @ quadrupoles @ matrix
        return Multipoles(self.charges, None if dipoles is None else dipoles @ inverse, quadrupoles)

    def slopes(self) -> list[Multipoles]:
        """What multiplies i in the derivatives of q + i k.u - k.Q.k/2 by the components of k; nothing for charges alone."""
        if self.order == 0:
            return []
        dipoles = torch.zeros((*self.charges.shape, 3)).to(self.charges) if self.dipoles is None else self.dipoles
        quadrupoles = self.quadrupoles
        return [Multipoles(dipoles[..., a], None if quadrupoles is None else quadrupoles[..., a, :]) for a in range(3)]

    def _values(self) -> tuple[Tensor | None, ...]:
        return self.charges, self.dipoles, self.quadrupoles
