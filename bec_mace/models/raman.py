r"""Raman tensors, :math:`\partial \alpha_{ab} / \partial r_{j,c}`: the polarizability of each frame by displacements.

The polarizability is a sum over atoms and edges of what is local, so each of its six components is a channel of the sweep,
without arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bec_mace.data.graph import Graph
from bec_mace.electrostatics.response import Edges, Susceptibilities, polarizability_of
from bec_mace.engine.autograd import gradient_rows
from bec_mace.engine.contract import Hops, Seeds, Sources, TermOutput
from bec_mace.engine.environments import Blocks, Environments, SortedAtoms
from bec_mace.engine.sweep import evaluate
from bec_mace.engine.sweep_in_blocks import evaluate_in_blocks
from bec_mace.errors import ModelError
from bec_mace.models.coupling import StaticCoupling
from bec_mace.models.state import total_of
from bec_mace.units import COULOMB_CONSTANT

_PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Components of a symmetric tensor."""


class PolarizabilityTerm:
    """The six components of the polarizability as directions of the sweep; a :class:`~bec_mace.engine.contract.Term`.

    That of the head counts where there is one, and that of the response elsewhere.

    Args:
        coupling: Of the model; None without static charges.
        graph: The batch.
    """

    def __init__(self, coupling: StaticCoupling | None, graph: Graph) -> None:
        self.coupling, self.graph = coupling, graph

    def __call__(
        self, atoms: SortedAtoms, sources: Sequence[Sources], directions: Tensor | None, energy: bool, create_graph: bool
    ) -> TermOutput:
        """Derivatives by what the atoms have of it, and by the edges along which charge flows."""
        basis = torch.zeros((6, 1, 3, 3), dtype=atoms.dtype, device=atoms.positions.device)
        for place, (a, b) in enumerate(_PAIRS):
            basis[place, 0, a, b] += 0.5
            basis[place, 0, b, a] += 0.5
        if any(share.polarizability_shares is not None for share in sources):
            return TermOutput(Seeds(moments={"polarizability_shares": basis.expand(6, atoms.n_atoms, 3, 3)}))
        if self.coupling is None:
            raise ModelError("this model has no polarizability.")
        return self._of_response(self.coupling, atoms, sources, basis[:, 0], create_graph)

    def _of_response(
        self, coupling: StaticCoupling, atoms: SortedAtoms, sources: Sequence[Sources], basis: Tensor, create_graph: bool
    ) -> TermOutput:
        ends = next((share.edge_ends for share in sources if share.edge_ends is not None), None)
        edges = None if ends is None else Edges(ends[0], ends[1], ends[2].detach().to(atoms.positions.dtype).requires_grad_())
        leaves = {
            name: value if create_graph and value.requires_grad else value.detach().requires_grad_()
            for name in ("polarizabilities", "conductances")
            if (value := total_of([getattr(share, name) for share in sources])) is not None
        }
        with torch.enable_grad():
            yielding = Susceptibilities(leaves.get("polarizabilities"), leaves.get("conductances"), edges)
            common, _ = coupling.screening_of(None, atoms.species, atoms.frame_index, self.graph, atoms.positions[:, 0])
            shares = COULOMB_CONSTANT * common.square().view(-1, 1, 1) * polarizability_of(yielding, len(common), common)
            total = torch.einsum("kab,nab->k", basis.to(shares.dtype), shares)
            vectors = [] if edges is None else [edges.vectors]
            found = gradient_rows(total, [*leaves.values(), *vectors], create_graph, at_once=False)
        response = None if edges is None else edges.at_ends(found.pop().transpose(0, 1), len(common))
        return TermOutput(Seeds(moments=dict(zip(leaves, found, strict=True))), response=response)


def raman_tensors(
    hops: Hops[Any], atoms: Environments | Blocks, term: PolarizabilityTerm, create_graph: bool = False
) -> Tensor:
    """Derivatives of the polarizability of each frame, of shape (n_atoms, 3, 3, 3), displacement last, in Å^2; sorted."""
    nowhere = torch.zeros((6, 3), dtype=atoms.dtype, device=atoms.positions.device)
    if isinstance(atoms, Environments):
        evaluation = evaluate(hops, atoms, nowhere, False, create_graph, term)
    else:
        evaluation = evaluate_in_blocks(hops, atoms, nowhere, False, term)
    if evaluation.response is None:
        raise ModelError("a sweep along directions gave no response.")
    places = torch.tensor([[_PAIRS.index((min(a, b), max(a, b))) for b in range(3)] for a in range(3)])
    result: Tensor = evaluation.response[:, places.to(atoms.positions.device)]
    return result
