r"""Static sources of a network: whose they are, how they yield, and how they are screened.

The screening :math:`\gamma_i` is one number, or :math:`\operatorname{softplus}` of a readout around a learned one. What is made
of them is in :mod:`bec_mace.models.coulomb_term`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor

from bec_mace.config.electrostatics import ElectrostaticsConfig
from bec_mace.config.model import ModelConfig
from bec_mace.data.graph import Graph
from bec_mace.electrostatics import Coulomb
from bec_mace.engine.contract import Sources, Stage, StageOutput
from bec_mace.engine.environments import Environments
from bec_mace.models.heads.features import Features
from bec_mace.models.heads.head import ScalarReadouts
from bec_mace.models.radial import RadialFeatures
from bec_mace.models.susceptibility import Susceptibility
from bec_mace.units import COULOMB_CONSTANT

STATIC_PROPERTIES = frozenset({"screening", "quadrupoles", "induced_dipoles", "induced_charges"})
"""What a term gives of each atom."""

_MEMORY = 0.98
"""What a mean keeps of itself in a step of training."""


class StaticCoupling(torch.nn.Module):
    """How static charges act, and how they are screened.

    Args:
        config: The section ``electrostatics`` of the model.
        features: What is read.

    Attributes:
        mean_polarizabilities: Of the atoms of each element in training, a third of the trace, in e^2 Å^2/eV. They stand for the
            response in the screening ``fixed``, which has to be the same wherever the atoms go.
    """

    mean_polarizabilities: Tensor

    def __init__(self, config: ElectrostaticsConfig, features: Features) -> None:
        super().__init__()
        self.config = config
        self.coulomb = Coulomb(config.smearing, config.tolerance, config.method)
        start = config.first_screening
        self.couples, self.local = config.screening != "independent", config.screening == "local"
        self.has_arms = "monopole" in config.sources
        inverse = math.log(math.expm1(start))
        self.number = torch.nn.Parameter(torch.tensor(inverse)) if config.screening in ("global", "local") else None
        sizes = (features.n_layers, features.n_channels, features.readout_mlp)
        self.readouts = ScalarReadouts(*sizes) if self.local else None
        self.response = None if config.response is None else Susceptibility(config.response, features)
        self.register_buffer("mean_polarizabilities", torch.zeros(len(features.elements)), persistent=self._counts_response)

    def added_to(self, provides: frozenset[str]) -> frozenset[str]:
        """The properties of the heads with its own; atoms that exchange charge leave a cell no polarization."""
        names = {"charges", "screening"} if self.couples else {"charges"}
        response = self.config.response
        if response is not None and response.dipoles != "none":
            names.add("induced_dipoles")
        if response is not None and response.charges != "none":
            names.add("induced_charges")
        names |= {"polarizability", "dielectric_tensor"} if self.config.has_enthalpy else set()
        return (provides | names) - ({"polarization"} if self.exchanges else set())

    def is_static(self, head: str) -> bool:
        """Whether the charges of a head act through Coulomb's law."""
        return head in self.config.sources

    def moves(self, head: str) -> bool:
        """Whether a head that gives no polarization of itself has one by what it induces."""
        return self.couples and self.response is not None and self.is_static(head)

    @property
    def exchanges(self) -> bool:
        """Whether atoms exchange charge with the whole, which polarizes."""
        return self.config.exchanges

    @property
    def _counts_response(self) -> bool:
        return self.config.response is not None and self.config.screening == "fixed"

    def own_buffers(self) -> dict[str, Tensor]:
        """What training leaves beside the parameters."""
        return {"electrostatics.mean_polarizabilities": self.mean_polarizabilities} if self._counts_response else {}

    @property
    def learns(self) -> bool:
        """Whether a step of training moves the means of the elements."""
        return self.training and self._counts_response

    def learn_susceptibility(self, shares: Tensor, species: Tensor) -> None:
        """Move the means of the elements towards the polarizabilities of a batch, of shape (n_atoms, 3, 3)."""
        means, found = self.mean_polarizabilities, shares.diagonal(dim1=1, dim2=2).mean(dim=1)
        counts = torch.bincount(species, minlength=len(means)).to(found.dtype)
        new = found.new_zeros(len(means)).index_add(0, species, found) / counts.clamp(min=1)
        slow = torch.where(means > 0, (1 - _MEMORY) * new + _MEMORY * means, new)
        means.copy_(torch.where(counts > 0, slow, means))

    def screening_of(
        self, logits: Tensor | None, species: Tensor, frame_index: Tensor, graph: Graph, like: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gamma without what depends on the environment, and with it, of all atoms, in the precision of ``like``."""
        if self.number is None:
            common = self._fixed(species, frame_index, graph, like)
            return common, common
        number = self.number.to(like.dtype)
        common = torch.nn.functional.softplus(number).expand(like.shape[0])
        if logits is None:
            return common, common
        return common, torch.nn.functional.softplus(number + logits.to(like.dtype))

    def _fixed(self, species: Tensor, frame_index: Tensor, graph: Graph, like: Tensor) -> Tensor:
        """The root of epsilon_infinity over what of it the response makes by itself; that fills crystals alone."""
        gamma = like.new_tensor(self.config.first_screening).expand(like.shape[0])
        if not self._counts_response:
            return gamma
        total = like.new_zeros(graph.n_frames).index_add(0, frame_index, self.mean_polarizabilities.to(like.dtype)[species])
        crystal = graph.pbc.all(dim=1)
        volume = torch.linalg.det(graph.cell.detach().to(like.dtype)).abs().where(crystal, torch.ones_like(total))
        chi = (4 * math.pi * COULOMB_CONSTANT * total / volume).where(crystal, torch.zeros_like(total))
        return gamma / torch.sqrt(1 + chi)[frame_index]


def exchanges(config: Any) -> bool:
    """Whether atoms of a model of this configuration exchange charge with the whole frame, which polarizes."""
    section: ElectrostaticsConfig | None = getattr(config, "electrostatics", None)
    return section is not None and section.exchanges


def as_static(sources: Sources) -> Sources:
    """Sources of a head whose charges and dipoles act through Coulomb's law."""
    return replace(sources, charges=None, dipoles=None, static_charges=sources.charges, static_dipoles=sources.dipoles)


class StaticFlow:
    """A stage whose flow is that of static charges."""

    def __init__(self, stage: Stage[RadialFeatures]) -> None:
        self._stage = stage

    def prepare(self, node_feats: Tensor) -> Tensor:
        """What neighbours gather."""
        return self._stage.prepare(node_feats)

    def propagate(self, node_feats: Tensor, sender_feats: Tensor, edge_feats: RadialFeatures, env: Environments) -> StageOutput:
        """The flow; what it polarizes is left to the coupling."""
        out = self._stage.propagate(node_feats, sender_feats, edge_feats, env)
        return replace(out, sources=Sources(static_flow=out.sources.flow))


_FIRST_CHARGE = 0.4
"""In e, of elements of which only the sign is known."""


def first_charges(config: ModelConfig, elements: Sequence[int], dynamic: Mapping[int, float]) -> tuple[float, ...]:
    """Static charges of the elements to start from: those of the labels of Z*, screened, or of the signs that are given."""
    section = config.electrostatics
    if section is None:
        return ()
    start = section.first_screening
    charges = [dynamic.get(z, 0.0) / start for z in elements]
    if any(charges):
        return tuple(charges)
    return tuple(_FIRST_CHARGE * section.charge_sign.get(chemical_symbols[z], 0) for z in elements)
