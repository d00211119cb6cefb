"""The energy head: a short-range energy per atom."""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.config.heads import HEADS
from bec_mace.engine.contract import Sources
from bec_mace.engine.environments import Environments
from bec_mace.models.heads.features import Features
from bec_mace.models.heads.head import Head, ScalarReadouts
from bec_mace.models.heads.own_references import OwnReferences
from bec_mace.models.heads.repulsion import Repulsion
from bec_mace.models.heads.zbl import ZblRepulsion
from bec_mace.models.radial import RadialFeatures


class EnergyHead(Head):
    r"""Energy :math:`E = \sum_i E_{z_i} + s \sum_i \epsilon_i` with reference energies per element, in eV.

    The reference energies stay Python numbers: total energies are too large for float32. On the backbone of a mace model the
    readouts, the scale, the references and the repulsion of nuclei, see :class:`~bec_mace.models.heads.zbl.ZblRepulsion`, are
    those of that model. Elsewhere a wall keeps atoms from coming closer than any two in the training data, see
    :class:`~bec_mace.models.heads.repulsion.Repulsion`.

    Args:
        features: What the head reads.
        wall: Whether there is one.
    """

    row = HEADS["energy"]

    def __init__(self, features: Features, wall: bool = True) -> None:
        super().__init__()
        self.wall = Repulsion(torch.tensor(features.shortest_distances)) if wall and features.shortest_distances else None
        self.readouts: ScalarReadouts | MaceReadouts = (
            ScalarReadouts(features.n_layers, features.n_channels, features.readout_mlp)
            if features.mace_readouts is None
            else MaceReadouts(features.n_channels, features.mace_readouts, features.mace_gate)
        )
        self.zbl = ZblRepulsion(features.elements, *features.mace_zbl, features.r_max) if features.mace_zbl else None
        self.scale = features.energy_scale
        self.reference_energies = features.reference_energies
        self.own_references = OwnReferences(features.own_references) if features.own_references else None

    def read(self, layer: int, node_feats: Tensor, env: Environments) -> Sources:
        """Energies without the references, in eV."""
        energies = self.readouts(layer, node_feats)
        return Sources() if energies is None else Sources(energies=energies * self.scale)

    def read_edges(self, edge_feats: RadialFeatures, env: Environments) -> Sources:
        """Energies of the wall, where the data say how close atoms come, and of the repulsion of a mace model."""
        if self.zbl is not None:
            return Sources(energies=self.scale * self.zbl(edge_feats.lengths, env))
        return Sources() if self.wall is None else Sources(energies=self.wall(edge_feats.lengths, env))

    def references(self, species: Tensor) -> Tensor:
        """Reference energy of each atom, of shape (n_atoms,), float64, in eV."""
        return torch.tensor(self.reference_energies, dtype=torch.float64, device=species.device)[species]


class Absolute(torch.nn.Module):
    """The absolute value."""

    def forward(self, values: Tensor) -> Tensor:
        """Of the shape of ``values``."""
        return values.abs()


_GATES: dict[str, type[torch.nn.Module]] = {
    "silu": torch.nn.SiLU,
    "tanh": torch.nn.Tanh,
    "abs": Absolute,
    "none": torch.nn.Identity,
}


class MaceReadouts(torch.nn.Module):
    """The energy readouts of a mace model: no biases, and not necessarily one after each layer.

    Args:
        n_channels: Number of scalars.
        hidden: Hidden units after each layer; None where nothing is read.
        gate: Nonlinearity of the hidden units.
    """

    def __init__(self, n_channels: int, hidden: tuple[tuple[int, ...] | None, ...], gate: str) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleDict()
        for layer, widths in enumerate(hidden):
            if widths is None:
                continue
            parts: list[torch.nn.Module] = []
            for n_in, n_out in zip((n_channels, *widths), (*widths, 1), strict=True):
                parts += [torch.nn.Linear(n_in, n_out, bias=False), _GATES[gate]()]
            self.layers[str(layer)] = torch.nn.Sequential(*parts[:-1])

    def forward(self, layer: int, node_feats: Tensor) -> Tensor | None:
        """Of shape (n_atoms,), from the scalars of node features; None where nothing is read."""
        if str(layer) not in self.layers:
            return None
        energies: Tensor = self.layers[str(layer)](node_feats[:, 0]).squeeze(-1)
        return energies
