"""What a head is: readouts of the layers, and what they supply."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bec_mace.config.heads import HeadRow
from bec_mace.engine.contract import Sources, Stage
from bec_mace.engine.environments import Environments
from bec_mace.models.radial import RadialFeatures


class Head(torch.nn.Module):
    """A head reads node features of shape (n_atoms, n_components, n_channels) after each layer.

    A subclass overrides :meth:`read`, or, where it needs another hop, :meth:`stage`, or, for a property that is no response,
    :meth:`shares`; its ``row`` says which properties it makes possible. Its first argument is
    :class:`~bec_mace.models.heads.features.Features`, the others are its options.
    """

    row: HeadRow = HeadRow(frozenset())

    @property
    def provides(self) -> frozenset[str]:
        """The properties that it makes possible."""
        return self.row.provides

    def read(self, layer: int, node_feats: Tensor, env: Environments) -> Sources:
        """The head's share of the sources after one layer."""
        return Sources()

    def read_edges(self, edge_feats: RadialFeatures, env: Environments) -> Sources:
        """The head's share of the sources that follows from the edges alone."""
        return Sources()

    def stage(self) -> Stage[RadialFeatures] | None:
        """A stage of its own after the last layer."""
        return None

    def tensors(self, node_feats: Tensor) -> Tensor | None:
        """Z* read directly from the last layer's features, of shape (n_atoms, 3, 3), in e."""
        return None

    def shares(self, node_feats: Tensor, species: Tensor) -> dict[str, Tensor]:
        """What each atom has of further properties of the table, read from the last layer's features.

        Args:
            node_feats: Of shape (n_atoms, n_components, n_channels).
            species: Place of each atom's element in ``Features.elements``, of shape (n_atoms,).

        Returns:
            By name, of shape (n_atoms, ...). Of a property of frames it is the share of each atom: the frame has their sum
            where the property is extensive, and their mean elsewhere.
        """
        return {}


_FIRST_GUESS = 0.1


def mlp(n_in: int, hidden: Sequence[int], n_out: int) -> torch.nn.Sequential:
    """Linear layers with SiLU between them; the last starts small, so that a fresh model is close to its references."""
    sizes = [n_in, *hidden]
    layers: list[torch.nn.Module] = []
    for a, b in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [torch.nn.Linear(a, b), torch.nn.SiLU()]
    last = torch.nn.Linear(sizes[-1], n_out)
    with torch.no_grad():
        last.weight.mul_(_FIRST_GUESS)
        last.bias.zero_()
    return torch.nn.Sequential(*layers, last)


class ScalarReadouts(torch.nn.Module):
    """One number per atom after each layer: linear but for the last, which has hidden units."""

    def __init__(self, n_layers: int, n_channels: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(
            mlp(n_channels, hidden if number == n_layers - 1 else (), 1) for number in range(n_layers)
        )

    def forward(self, layer: int, node_feats: Tensor) -> Tensor:
        """Of shape (n_atoms,), from the scalars of node features."""
        result: Tensor = self.layers[layer](node_feats[:, 0]).squeeze(-1)
        return result
