"""The MACE backbone: blocks of mace-torch, evaluated with dense kernels. The only file that imports mace."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bec_mace.config.schema import ModelConfig
from bec_mace.engine.contract import EdgeCotangents, EdgePart
from bec_mace.engine.environments import Environments, SortedAtoms
from bec_mace.errors import ModelError
from bec_mace.models.mace.blocks_of_mace import (
    EquivariantProductBasisBlock,
    LinearNodeEmbeddingBlock,
    RadialEmbeddingBlock,
    RealAgnosticDensityInteractionBlock,
    RealAgnosticDensityResidualInteractionBlock,
    RealAgnosticInteractionBlock,
    RealAgnosticResidualInteractionBlock,
    e3nn,
    o3,
)
from bec_mace.models.mace.convolution import Convolution, CouplingPath
from bec_mace.models.mace.distance_transform import radii_of, transform_agnesi
from bec_mace.models.mace.linear_maps import apply_by_element, apply_linear
from bec_mace.models.mace.periodic_table import mix_elements
from bec_mace.models.mace.product import contract_constants, contract_monomials, raise_couplings, symmetrize_couplings
from bec_mace.models.radial import (
    RadialFeatures,
    basis_with_derivative,
    constant_network,
    density_with_derivative,
    silu_with_derivative,
)


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    previous, options = torch.get_default_dtype(), e3nn.get_optimization_defaults()
    torch.set_default_dtype(dtype)
    e3nn.set_optimization_defaults(jit_script_fx=False)  # The dense kernels do not use the compiled code.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_default_dtype(previous)
        e3nn.set_optimization_defaults(**options)


def parse_hidden_irreps(config: ModelConfig) -> o3.Irreps:
    """The irreps of the node features; every irrep must have the same number of channels.

    Raises:
        ModelError: The irreps cannot be read, lack scalars, or have different multiplicities.
    """
    text = config.hidden_irreps
    if text is None:
        return o3.Irreps([(config.channels, (degree, (-1) ** degree)) for degree in range(config.hidden_max_l + 1)])
    try:
        irreps = o3.Irreps(text).sort().irreps.simplify()
    except ValueError as exc:
        raise ModelError(f"model.hidden_irreps: cannot read '{text}' ({exc}); write it like '32x0e + 32x1o'.") from exc
    if irreps.count(o3.Irrep("0e")) == 0 or irreps.count(o3.Irrep("0o")) or len({mul for mul, _ in irreps}) != 1:
        raise ModelError(
            f"model.hidden_irreps: '{text}' must hold 0e and no 0o, and every irrep the same number of channels; "
            "write it like '32x0e + 32x1o'.")
    return irreps


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
            interaction, (RealAgnosticResidualInteractionBlock, RealAgnosticDensityResidualInteractionBlock))
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
        return LayerSizes(self.irreps_in.dim // self.irreps_in[0].mul,
                          (self.irreps_out + self.irreps_kept).dim // self.irreps_out[0].mul,
                          sum(path.d3 for path in self._paths) + self._density, len(self._paths))

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
                density, density_slopes = density_with_derivative(edges, layer.weight / layer.h_in ** 0.5)
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
                interaction.skip_tp, _split(message, interaction.irreps_out), self.element_mixing, env.counts)
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
        weights = [layer.weight / layer.h_in ** 0.5 for layer in hidden]
        weight = (last.weight / last.h_in ** 0.5).view(last.weight.shape[0], len(self._paths), -1).transpose(0, 1)
        values, slopes = ((value if rows is None else value.index_select(0, rows))
                          for value in (edges.radial, edges.radial_slopes))
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
        return [torch.cat([torch.einsum("omk,zkc->zcom", getattr(self, f"couplings_{number}_{nu}"), parts[nu - 1])
                           for number, parts in enumerate(weights)], dim=2) for nu in range(1, self._degree + 1)]

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


class _Plan(NamedTuple):
    """Sizes of one layer."""

    block: Any
    irreps_in: o3.Irreps
    irreps_out: o3.Irreps
    correlation: int
    avg_num_neighbors: float


def _plan_layers(config: ModelConfig, hidden: o3.Irreps, avg_num_neighbors: float) -> list[_Plan]:
    sizes = config.backbone.sizes if config.backbone is not None else None
    inputs = [o3.Irreps([(hidden[0].mul, (0, 1))]), *[hidden] * (config.num_interactions - 1)]
    plain: type = RealAgnosticInteractionBlock
    residual: type = RealAgnosticResidualInteractionBlock
    if sizes is None:
        return [_Plan(residual, irreps, hidden, config.correlation, avg_num_neighbors) for irreps in inputs]
    if sizes.density:
        plain, residual = RealAgnosticDensityInteractionBlock, RealAgnosticDensityResidualInteractionBlock
    blocks = [residual if sizes.residual_first else plain, *[residual] * (len(inputs) - 1)]
    outputs = [o3.Irreps(text) for text in sizes.layer_irreps]
    return [_Plan(*values) for values in zip(
        blocks, inputs, outputs, sizes.correlations, sizes.avg_num_neighbors, strict=True)]


class Backbone(torch.nn.Module):
    """Embeddings and layers of MACE.

    Reference: Batatia et al., NeurIPS 35, 11423 (2022).

    Args:
        config: Sizes of the network.
        elements: Atomic numbers.
        avg_num_neighbors: Mean number of neighbours in the training set; messages are divided by it. A network that is
            read from a mace file has its own.

    Attributes:
        hidden_irreps: The irreps that heads find after each layer.
        r_max: Cutoff radius, in Å.

    Raises:
        ModelError: The configuration has no cutoff or irreps that cannot be.
    """

    element_mixing: Tensor | None
    radii: Tensor | None

    def __init__(self, config: ModelConfig, elements: Sequence[int], avg_num_neighbors: float) -> None:
        super().__init__()
        n_elements = len(elements)
        mixing = mix_elements(elements, config.element_correlation) if config.element_correlation else None
        self.register_buffer("element_mixing", mixing, persistent=False)
        radii = radii_of(elements) if config.distance_transform == "agnesi" else None
        self.register_buffer("radii", radii, persistent=False)
        from_file = config.backbone is not None
        if config.r_max is None:
            raise ModelError("model.r_max: missing; give the cutoff radius in Å.")
        self.r_max = config.r_max
        # mace takes its radial functions of the transformed distance, which is below 1; ours reach to the cutoff.
        self._stretch = 1.0 if from_file else self.r_max
        self.hidden_irreps = parse_hidden_irreps(config)
        rounded = config.backbone is not None and config.backbone.sizes is not None and config.backbone.sizes.single_precision
        n_channels = self.hidden_irreps[0].mul
        attrs, scalars = o3.Irreps([(n_elements, (0, 1))]), o3.Irreps([(n_channels, (0, 1))])
        harmonics = o3.Irreps.spherical_harmonics(config.max_l)
        messages = (harmonics * n_channels).sort().irreps.simplify()
        with _default_dtype(torch.float32 if rounded else torch.float64):
            self.node_embedding: Any = LinearNodeEmbeddingBlock(attrs, scalars)
            self.radial_embedding = RadialEmbeddingBlock(
                r_max=config.r_max, num_bessel=config.num_radial, num_polynomial_cutoff=config.cutoff_power,
                radial_type=config.radial_basis,
                distance_transform="Agnesi" if from_file and radii is not None else "None")
            self.spherical_harmonics = o3.SphericalHarmonics(harmonics, normalize=True, normalization="component")
            self.layers = torch.nn.ModuleList()
            for plan in _plan_layers(config, self.hidden_irreps, avg_num_neighbors):
                interaction = plan.block(
                    node_attrs_irreps=attrs, node_feats_irreps=plan.irreps_in, edge_attrs_irreps=harmonics,
                    edge_feats_irreps=o3.Irreps([(config.num_radial, (0, 1))]), target_irreps=messages,
                    hidden_irreps=plan.irreps_out, avg_num_neighbors=plan.avg_num_neighbors,
                    radial_MLP=list(config.radial_mlp))
                product = EquivariantProductBasisBlock(
                    node_feats_irreps=messages, target_irreps=plan.irreps_out, correlation=plan.correlation,
                    num_elements=n_elements, use_sc=True, use_reduced_cg=False)
                self.layers.append(Layer(interaction, product, self.element_mixing, rounded))
        self.double()

    @property
    def n_channels(self) -> int:
        """Number of channels of every irrep."""
        return int(self.hidden_irreps[0].mul)

    def layer(self, number: int) -> Layer:
        """One of the layers."""
        layer = self.layers[number]
        if not isinstance(layer, Layer):
            raise TypeError(f"layer {number} is a {type(layer).__name__}")
        return layer

    def embed_nodes(self, atoms: SortedAtoms) -> Tensor:
        """Features of the elements, of shape (n_atoms, 1, n_channels)."""
        linear = self.node_embedding.linear
        (weight,), (instruction,) = list(linear.weight_views()), linear.instructions
        mixed = weight if self.element_mixing is None else self.element_mixing @ weight
        result: Tensor = (mixed * instruction.path_weight)[atoms.species].unsqueeze(1)
        return result

    def embed_edges(self, vectors: Tensor, env: Environments) -> RadialFeatures:
        """Functions of edge vectors of shape (n_edges, 3) that all layers share."""
        lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        mean_radii = None
        if self.radii is not None:
            receivers = self.radii[env.species].repeat_interleave(env.n_slots)
            mean_radii = 0.5 * (self.radii[env.all_species[env.sender]] + receivers).unsqueeze(1)
        radial, slopes = basis_with_derivative(lambda values: self._radial_functions(values, mean_radii), lengths)
        return RadialFeatures(vectors, self.spherical_harmonics(vectors), lengths, radial, slopes)

    def _radial_functions(self, lengths: Tensor, mean_radii: Tensor | None = None) -> Tensor:
        place = lengths if mean_radii is None else self._stretch * transform_agnesi(lengths, mean_radii)
        result: Tensor = self.radial_embedding.bessel_fn(place) * self.radial_embedding.cutoff_fn(lengths)
        return result
