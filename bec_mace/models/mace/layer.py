"""One layer of MACE: the weights of mace's own blocks, evaluated with dense kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bec_mace.engine.contract import EdgeCotangents, EdgePart
from bec_mace.engine.environments import Environments
from bec_mace.models.mace.blocks_of_mace import (
    RealAgnosticDensityResidualInteractionBlock,
    RealAgnosticResidualInteractionBlock,
    o3,
)
from bec_mace.models.mace.convolution import Convolution, CouplingPath
from bec_mace.models.mace.linear_maps import apply_by_element, apply_linear
from bec_mace.models.mace.product import contract_constants, contract_monomials, raise_couplings, symmetrize_couplings
from bec_mace.models.radial import RadialFeatures, constant_network, density_with_derivative, silu_with_derivative


def component_slices(irreps: o3.Irreps) -> list[slice]:
    """Where the components of each irrep stand in features of shape (n, n_components, n_channels)."""
    slices, start = [], 0
    for _, ir in irreps:
        slices.append(slice(start, start + ir.dim))
        start += ir.dim
    return slices


class LayerSizes(NamedTuple):
    """Sizes of a layer.

    Attributes:
        taken: Components of the features that it reads.
        made: Components of those that it gives.
        messages: Components of the messages.
        paths: Couplings of features and spherical harmonics.
    """

    taken: int
    made: int
    messages: int
    paths: int


class Layer(torch.nn.Module):
    """One message-passing layer: interaction and product basis.

    Features have shape (n_atoms, n_components, n_channels). Irreps that the layer does not make are carried over from its
    input, so that heads find them after the last layer; the last layer of a mace model makes scalars alone.

    Args:
        interaction: Block of mace, with or without a residual.
        product: Block of mace.
        element_mixing: Makes weights of elements from the stored ones, of shape (n_elements, n_elements); None takes them as
            they are.
        rounded: Round the constants to float32, as mace does in a model of that precision.

    Attributes:
        irreps_in: What the layer reads.
        irreps_out: What it makes.
        irreps_kept: What it carries over, after the components of ``irreps_out``.
    """

    element_mixing: Tensor | None

    def __init__(self, interaction: Any, product: Any, element_mixing: Tensor | None, rounded: bool = False) -> None:
        super().__init__()
        self.register_buffer("element_mixing", element_mixing, persistent=False)
        self.interaction: Any = interaction
        self.product: Any = product
        self.irreps_in = o3.Irreps(interaction.node_feats_irreps)
        self.irreps_out = o3.Irreps(interaction.hidden_irreps)
        made = {ir for _, ir in self.irreps_out}
        self.irreps_kept = o3.Irreps([(mul, ir) for mul, ir in self.irreps_in if ir not in made])
        self._residual = isinstance(
            interaction, (RealAgnosticResidualInteractionBlock, RealAgnosticDensityResidualInteractionBlock)
        )
        self._density = hasattr(interaction, "density_fn")
        self._paths = _convolution_paths(interaction.conv_tp, rounded)
        self._degree = 0
        self._n_components = sum(ir.dim for _, ir in o3.Irreps(product.symmetric_contractions.irreps_in))
        for number, contraction in enumerate(product.symmetric_contractions.contractions):
            self._degree = contraction.correlation
            for nu in range(1, contraction.correlation + 1):
                coupling = contraction.U_tensors(nu)
                coupling = coupling.unsqueeze(0) if coupling.dim() == nu + 1 else coupling
                coupling = symmetrize_couplings(coupling.double(), nu)
                self.register_buffer(f"couplings_{number}_{nu}", coupling, persistent=False)
                raised = raise_couplings(coupling, self._n_components, nu)
                self.register_buffer(f"raised_{number}_{nu}", raised, persistent=False)

    def sizes(self) -> LayerSizes:
        """How many components and paths there are."""
        return LayerSizes(
            self.irreps_in.dim // self.irreps_in[0].mul,
            (self.irreps_out + self.irreps_kept).dim // self.irreps_out[0].mul,
            sum(path.d3 for path in self._paths) + self._density,
            len(self._paths),
        )

    def prepare(self, node_feats: Tensor) -> Tensor:
        """What neighbours will gather: a linear map of the features, of shape (n_components, n_atoms, n_channels)."""
        return apply_linear(self.interaction.linear_up, _split(node_feats, self.irreps_in)).transpose(0, 1).contiguous()

    def messages(self, sender_feats: Tensor, edges: RadialFeatures, env: Environments, frozen: bool = False) -> EdgePart:
        """Sum over neighbours, of shape (n_atoms, n_message_components, n_channels), with its pull-back.

        A density of the neighbours is one component more, the same in all channels. With ``frozen`` the parameters are
        constants.
        """
        shared = env.distinct if frozen else None
        convolution = Convolution(self._paths, env.n_slots, None if shared is None else shared[1])
        harmonics = edges.harmonics.detach()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            weights, slopes = self._radial_weights(edges, None if shared is None else shared[0])
            sender_feats = sender_feats.detach() if frozen else sender_feats
            messages = convolution(sender_feats, harmonics, weights)
            density, density_slopes = None, None
            if self._density:
                (layer,) = list(self.interaction.density_fn)
                density, density_slopes = density_with_derivative(edges, layer.weight / layer.h_in**0.5)
                total = env.sum_over_slots(density)[:, None, None]
                messages = torch.cat([messages, total.expand(-1, 1, messages.shape[2])], dim=1)
        if edges.vectors.requires_grad and not messages.requires_grad:
            messages.requires_grad_(True)

        def pull(cotangents: list[Tensor], features: bool) -> tuple[list[Tensor | None], list[EdgeCotangents]]:
            stacked = torch.stack(cotangents)
            at_messages = stacked if density_slopes is None else stacked[:, :, :-1]
            x_bar, y_bar, r_bar = convolution.pull(sender_feats, harmonics, weights, slopes, at_messages, features)
            if density_slopes is not None:
                at_density = stacked[:, :, -1].sum(dim=-1).repeat_interleave(env.n_slots, dim=1)
                r_bar = r_bar + (at_density * density_slopes).unsqueeze(2)
            senders = [None] * len(cotangents) if x_bar is None else x_bar.unbind(0)
            pairs = zip(y_bar.unbind(0), r_bar.unbind(0), strict=True)
            return list(senders), [{"harmonics": y, "lengths": r} for y, r in pairs]

        return EdgePart(messages, pull)

    def update(self, node_feats: Tensor, messages: Tensor, env: Environments, frozen: bool = False) -> Tensor:
        """New features of shape (n_atoms, n_components, n_channels) from the old ones and the messages.

        With ``frozen`` the coefficients of the product basis are constants.
        """
        interaction = self.interaction
        parts = list(messages.split([*(path.d3 for path in self._paths), *[1] * self._density], dim=1))
        norm = 1 + parts.pop()[:, :, :1] if self._density else interaction.avg_num_neighbors
        message = apply_linear(interaction.linear, parts) / norm
        if not self._residual:
            message = apply_by_element(
                interaction.skip_tp, _split(message, interaction.irreps_out), self.element_mixing, env.counts
            )
        present = [index for index, count in enumerate(env.counts) if count]
        counts = [env.counts[index] for index in present]
        if frozen:
            with torch.no_grad():
                slopes = self._slopes(present)
            basis = contract_constants(message, slopes, counts, sum(ir.dim for _, ir in self.irreps_out))
        else:
            basis = contract_monomials(message, self._polynomials(present), counts)
        out = apply_linear(self.product.linear, _split(basis, self.irreps_out))
        old = _split(node_feats, self.irreps_in)
        if self._residual:
            out = out + apply_by_element(interaction.skip_tp, old, self.element_mixing, env.counts)
        kept = [part for part, (_, ir) in zip(old, self.irreps_in, strict=True) if ir in self.irreps_kept]
        return torch.cat([out, *kept], dim=1) if kept else out

    def _radial_weights(self, edges: RadialFeatures, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The radial network of all edges or some, and its derivative by the length, (n_paths, n_edges, n_channels) each."""
        *hidden, last = self.interaction.conv_tp_weights
        weights = [layer.weight / layer.h_in**0.5 for layer in hidden]
        weight = (last.weight / last.h_in**0.5).view(last.weight.shape[0], len(self._paths), -1).transpose(0, 1)
        values, slopes = (
            (value if rows is None else value.index_select(0, rows)) for value in (edges.radial, edges.radial_slopes)
        )
        scales = [float(layer.act.cst) for layer in hidden]
        if not torch.is_grad_enabled():
            return constant_network(values, slopes, weights, scales, weight)
        for matrix, scale in zip(weights, scales, strict=True):
            values, slopes = silu_with_derivative(values @ matrix, slopes @ matrix, scale)
        return values @ weight, slopes @ weight

    def _weights(self, contraction: Any, present: Sequence[int]) -> list[Tensor]:
        """Weights of the present elements for each degree, (n_present_elements, n_paths, n_channels) each."""
        weights = [*reversed(list(contraction.weights)), contraction.weights_max]
        if self.element_mixing is None:
            return [weight[present] for weight in weights]
        mixing = self.element_mixing[present]
        return [torch.tensordot(mixing, weight, 1) for weight in weights]

    def _polynomials(self, present: Sequence[int]) -> list[Tensor]:
        """Coefficients of the product basis for each degree, (n_present_elements, n_channels, n_out, n_monomials) each."""
        weights = [self._weights(contraction, present) for contraction in self.product.symmetric_contractions.contractions]
        return [
            torch.cat(
                [
                    torch.einsum("omk,zkc->zcom", getattr(self, f"couplings_{number}_{nu}"), parts[nu - 1])
                    for number, parts in enumerate(weights)
                ],
                dim=2,
            )
            for nu in range(1, self._degree + 1)
        ]

    def _slopes(self, present: Sequence[int]) -> list[list[Tensor]]:
        """Coefficients of its derivatives for each present element and degree, (n_channels, n_out * n_in, n_monomials)."""
        matrices: list[list[list[Tensor]]] = [[[] for _ in range(self._degree)] for _ in present]
        for number, contraction in enumerate(self.product.symmetric_contractions.contractions):
            for nu, weights in enumerate(self._weights(contraction, present), start=1):
                raised = getattr(self, f"raised_{number}_{nu}")
                for rows, matrix in zip(matrices, weights.unbind(0), strict=True):
                    rows[nu - 1].append((matrix.T @ raised.flatten(1)).view(-1, *raised.shape[1:]))
        return [[torch.cat(parts, dim=1) for parts in rows] for rows in matrices]


def _split(values: Tensor, irreps: o3.Irreps) -> list[Tensor]:
    # One split, and not a slice for each: its pull-back joins the parts once.
    return list(values.split([ir.dim for _, ir in irreps], dim=1))


def _convolution_paths(conv_tp: Any, rounded: bool) -> list[CouplingPath]:
    """The couplings of an e3nn tensor product, in its order of weights, which is that of its results."""
    features, harmonics = component_slices(conv_tp.irreps_in1), component_slices(conv_tp.irreps_in2)
    messages = component_slices(conv_tp.irreps_out)
    paths = []
    for ins in conv_tp.instructions:
        irreps = conv_tp.irreps_in1[ins.i_in1].ir, conv_tp.irreps_in2[ins.i_in2].ir, conv_tp.irreps_out[ins.i_out].ir
        l1, l2, l3 = (ir.l for ir in irreps)
        coupling = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
        coupling = (coupling.float().double() if rounded else coupling) * ins.path_weight
        full = torch.zeros(2 * l1 + 1, 2 * l3 + 1, conv_tp.irreps_in2.dim, dtype=torch.float64)
        full[:, :, harmonics[ins.i_in2]] = coupling.transpose(1, 2)
        paths.append(CouplingPath(features[ins.i_in1], messages[ins.i_out], full))
    return paths
