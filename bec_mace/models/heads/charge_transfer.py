"""The charge-transfer head: an antisymmetric flow of charge along every edge."""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.config.heads import HEADS
from bec_mace.engine.contract import Sources, StageOutput
from bec_mace.engine.environments import Environments
from bec_mace.models.heads.features import Features
from bec_mace.models.heads.head import Head, mlp
from bec_mace.models.radial import RadialFeatures, with_derivative


class ChargeTransferHead(Head):
    r"""Charge :math:`w_{ij} = \phi_{ij} - \phi_{ji}` that j gives to i, over every edge.

    .. math:: P = \tfrac12 \sum_{ij} w_{ij} (r_i - r_j) = \sum_{ij} \phi_{ij} (r_i - r_j), \qquad q_i = \sum_j w_{ij} .

    The charges sum to zero exactly.
    """

    row = HEADS["charge_transfer"]

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.flow = FlowStage(features)

    def stage(self) -> FlowStage:
        """The hop over the edges that the flow needs."""
        return self.flow


class FlowStage(torch.nn.Module):
    r"""The flow :math:`\phi_{ij} = \sum_c R_c(r_{ij}) \, \sigma(a_i + b_j + t_{ij})_c`.

    a and b are linear in the scalars of receiver and sender, and t is linear in the projections of their vectors on the
    edge. R is linear in the radial functions, so that the flow is smooth at the cutoff.
    """

    def __init__(self, features: Features) -> None:
        super().__init__()
        n_hidden = features.readout_mlp[0] if features.readout_mlp else features.n_channels
        self.n_hidden = n_hidden
        self.place = features.components.get("1o")
        self.receiver = torch.nn.Linear(features.n_channels, n_hidden)
        self.sender = torch.nn.Linear(features.n_channels, n_hidden, bias=False)
        if self.place is not None:
            self.receiver_vectors = torch.nn.Linear(features.n_channels, n_hidden, bias=False)
            self.sender_vectors = torch.nn.Linear(features.n_channels, n_hidden, bias=False)
        self.radial = torch.nn.Linear(features.n_radial, n_hidden, bias=False)
        self.mix = mlp(n_hidden, (), n_hidden)

    def prepare(self, node_feats: Tensor) -> Tensor:
        """Sender's part, of shape (1 or 4, n_atoms, n_hidden)."""
        scalars = self.sender(node_feats[:, :1])
        if self.place is None:
            result: Tensor = scalars.transpose(0, 1)
            return result
        return torch.cat([scalars, self.sender_vectors(node_feats[:, self.place])], dim=1).transpose(0, 1)

    def propagate(self, node_feats: Tensor, sender_feats: Tensor, edge_feats: RadialFeatures, env: Environments) -> StageOutput:
        """Polarization of the flow at each receiver, of shape (n_atoms, 3), in e Å."""
        flow = self.flow(node_feats, sender_feats, edge_feats, env)
        return StageOutput(
            None,
            Sources(
                dipoles=env.sum_over_slots(flow.unsqueeze(1) * edge_feats.vectors),
                flow=flow,
            ),
        )

    def flow(self, node_feats: Tensor, sender_feats: Tensor, edge_feats: RadialFeatures, env: Environments) -> Tensor:
        """Phi of each edge, of shape (n_edges,), in e."""
        radial = with_derivative(edge_feats.lengths, edge_feats.radial, edge_feats.radial_slopes)
        hidden = sender_feats.view(-1, env.n_atoms, env.n_slots, self.n_hidden)
        value = self.receiver(node_feats[:, :1]) + hidden[0]
        if self.place is not None:
            unit = edge_feats.harmonics[:, 1:4].view(env.n_atoms, env.n_slots, 3)
            own = self.receiver_vectors(node_feats[:, self.place])
            value = value + unit @ own - (unit.permute(2, 0, 1).unsqueeze(3) * hidden[1:]).sum(dim=0)
        value = self.mix(torch.nn.functional.silu(value))
        result: Tensor = (value.view(-1, self.n_hidden) * self.radial(radial)).sum(dim=-1)
        return result
