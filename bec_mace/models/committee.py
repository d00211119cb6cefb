r"""A committee: networks that were trained apart, and the mean of what they predict.

.. math:: \bar Z = \frac{1}{n} \sum_k Z_k, \qquad \sigma^2 = \frac{1}{n - 1} \sum_k (Z_k - \bar Z)^2

Errors that the members do not share fall out of the mean, and their spread says where the training data leave them free. It
is no calibrated error: what all members get wrong it does not show.
"""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from bec_mace.config.model import CommitteeConfig
from bec_mace.data.graph import Graph
from bec_mace.data.statistics import Statistics
from bec_mace.engine.contract import Hops
from bec_mace.engine.environments import SortedAtoms
from bec_mace.errors import ModelError
from bec_mace.models.base import PolarizationModel
from bec_mace.models.footprint import Footprint
from bec_mace.models.network import NetworkModel, build_model
from bec_mace.properties import DEVIATION

Z = "born_effective_charges"


class CommitteeModel(PolarizationModel):
    """The mean of several networks, which takes as long as all of them together.

    Args:
        members: Networks of the same elements, cutoff radius and statistics.

    Attributes:
        members: The networks.

    Raises:
        ModelError: There are fewer than two, or they differ in one of these.
    """

    def __init__(self, members: Sequence[PolarizationModel]) -> None:
        networks = [member for member in members if isinstance(member, NetworkModel)]
        _check_members(members, networks)
        first = networks[0]
        super().__init__(first.config, first.elements, first.statistics)
        self.config = CommitteeConfig(members=[member.config for member in networks])
        # Those of the members count, and these tell device and precision.
        self.reference_charges, self.sum_rule_logits = first.reference_charges, None
        self.members = torch.nn.ModuleList(networks)
        self.provides = frozenset[str].intersection(*(member.provides for member in networks))
        if Z in self.provides:
            self.provides |= {DEVIATION}
        self.exact_weights = {
            f"members.{number}.{name}": value
            for number, member in enumerate(networks)
            for name, value in member.exact_weights.items()
        }

    @property
    def heads(self) -> dict[str, Any]:
        """The heads of all members by name; of those that several have, the first."""
        return {name: head for member in reversed(self.networks) for name, head in member.heads.items()}

    @property
    def networks(self) -> list[NetworkModel]:
        """The members."""
        return [member for member in self.members if isinstance(member, NetworkModel)]

    @property
    def r_max(self) -> float:
        """Cutoff radius, in Å."""
        return self.networks[0].r_max

    @property
    def has_enthalpy(self) -> bool:
        """Whether all members know the energy of a uniform field to second order."""
        return all(member.has_enthalpy for member in self.networks)

    def own_tensors(self) -> dict[str, Tensor]:
        """Those of the members, named by their number."""
        return {
            f"members.{number}.{name}": value
            for number, member in enumerate(self.networks)
            for name, value in member.own_tensors().items()
        }

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        # Each member keeps its own constants.
        return torch.nn.Module._apply(self, fn, recurse)

    def footprint(self, properties: Collection[str], blocked: bool) -> Footprint:
        """That of the largest member: they take turns."""
        return max((member.footprint(properties, blocked) for member in self.networks), key=lambda numbers: numbers.at_edge)

    def _hops(self, atoms: SortedAtoms, heads: list[str], frozen: bool) -> Hops[Any]:
        raise ModelError("a committee has no layers of its own; evaluate its members.")

    def forward(
        self,
        graph: Graph,
        properties: Collection[str] = (Z,),
        create_graph: bool = False,
        directions: Tensor | None = None,
        block_size: int | None = None,
        electric_field: Tensor | None = None,
        field_order: int = 1,
    ) -> dict[str, Tensor]:
        """Means over the members; see :meth:`~bec_mace.models.base.PolarizationModel.forward`.

        ``born_effective_charges_std``, of the shape of Z*, in e, is the standard deviation of the members. The share of a
        head that some members lack counts as zero for them.
        """
        wanted = set(properties)
        self._check_properties(wanted)
        asked = wanted - {DEVIATION} | ({Z} if DEVIATION in wanted else set())
        given = (asked, create_graph, directions, block_size, electric_field, field_order)
        outputs: list[dict[str, Any]] = [member(graph, *given) for member in self.networks]
        out: dict[str, Any] = {}
        for name in wanted - {DEVIATION, "head_contributions"}:
            out[name] = torch.stack([values[name] for values in outputs]).mean(dim=0)
        if DEVIATION in wanted:
            out[DEVIATION] = torch.stack([values[Z] for values in outputs]).std(dim=0)
        if "head_contributions" in wanted:
            parts = [values["head_contributions"] for values in outputs]
            names = dict.fromkeys(itertools.chain.from_iterable(parts))
            out["head_contributions"] = {name: sum(part[name] for part in parts if name in part) / len(parts) for name in names}
        return out


def build_committee(
    config: CommitteeConfig, elements: Sequence[int], statistics: Statistics, dtype: torch.dtype = torch.float32
) -> CommitteeModel:
    """Build a committee whose weights are yet to be loaded: members of one configuration start alike, which saves time."""
    built: dict[str, NetworkModel] = {}
    members = []
    for member in config.members:
        key = member.model_dump_json()
        if key in built:
            members.append(_copied(built[key]))
        else:
            built[key] = build_model(member, elements, statistics, dtype)
            members.append(built[key])
    return CommitteeModel(members)


def _copied(model: NetworkModel) -> NetworkModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit reads the source of mace's modules again.
        return copy.deepcopy(model)


def _check_members(members: Sequence[PolarizationModel], networks: Sequence[NetworkModel]) -> None:
    if len(networks) < len(members):
        raise ModelError("a committee is made of networks; leave out kernel models and other committees.")
    if len(networks) < 2:
        raise ModelError(f"a committee needs at least 2 members, got {len(networks)}.")
    first = networks[0]
    for number, member in enumerate(networks[1:], start=2):
        for what, same in (
            ("elements", member.elements == first.elements),
            ("r_max", member.r_max == first.r_max),
            ("means of the training set", member.statistics == first.statistics),
        ):
            if not same:
                raise ModelError(
                    f"committee: member {number} has other {what} than the first; train all members on the same "
                    "frames with the same r_max."
                )
