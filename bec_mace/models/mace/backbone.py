"""The MACE backbone: embeddings and layers of mace's own blocks."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bec_mace.config.model import ModelConfig
from bec_mace.devices import default_dtype
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
from bec_mace.models.mace.distance_transform import radii_of, transform_agnesi
from bec_mace.models.mace.layer import Layer
from bec_mace.models.mace.periodic_table import mix_elements
from bec_mace.models.mace.radial_functions import basis_functions, polynomial_cutoff
from bec_mace.models.radial import RadialFeatures


@contextlib.contextmanager
def _building(dtype: torch.dtype) -> Iterator[None]:
    with default_dtype(dtype), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = e3nn.get_optimization_defaults()
        e3nn.set_optimization_defaults(jit_script_fx=False)  # The dense kernels do not use the compiled code.
        try:
            yield
        finally:
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
            "write it like '32x0e + 32x1o'."
        )
    return irreps


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
    return [_Plan(*values) for values in zip(blocks, inputs, outputs, sizes.correlations, sizes.avg_num_neighbors, strict=True)]


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
        self.r_max, self._cutoff_power = config.r_max, config.cutoff_power
        # mace takes its radial functions of the transformed distance, which is below 1; ours reach to the cutoff.
        self._stretch = 1.0 if from_file else self.r_max
        self.hidden_irreps = parse_hidden_irreps(config)
        rounded = config.backbone is not None and config.backbone.sizes is not None and config.backbone.sizes.single_precision
        n_channels = self.hidden_irreps[0].mul
        attrs, scalars = o3.Irreps([(n_elements, (0, 1))]), o3.Irreps([(n_channels, (0, 1))])
        harmonics = o3.Irreps.spherical_harmonics(config.max_l)
        messages = (harmonics * n_channels).sort().irreps.simplify()
        with _building(torch.float32 if rounded else torch.float64):
            self.node_embedding: Any = LinearNodeEmbeddingBlock(attrs, scalars)
            self.radial_embedding = RadialEmbeddingBlock(
                r_max=config.r_max,
                num_bessel=config.num_radial,
                num_polynomial_cutoff=config.cutoff_power,
                radial_type=config.radial_basis,
                distance_transform="Agnesi" if from_file and radii is not None else "None",
            )
            self.spherical_harmonics = o3.SphericalHarmonics(harmonics, normalize=True, normalization="component")
            self.layers = torch.nn.ModuleList()
            for plan in _plan_layers(config, self.hidden_irreps, avg_num_neighbors):
                interaction = plan.block(
                    node_attrs_irreps=attrs,
                    node_feats_irreps=plan.irreps_in,
                    edge_attrs_irreps=harmonics,
                    edge_feats_irreps=o3.Irreps([(config.num_radial, (0, 1))]),
                    target_irreps=messages,
                    hidden_irreps=plan.irreps_out,
                    avg_num_neighbors=plan.avg_num_neighbors,
                    radial_MLP=list(config.radial_mlp),
                )
                product = EquivariantProductBasisBlock(
                    node_feats_irreps=messages,
                    target_irreps=plan.irreps_out,
                    correlation=plan.correlation,
                    num_elements=n_elements,
                    use_sc=True,
                    use_reduced_cg=False,
                )
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
        radial, slopes = self.radial_functions(lengths.detach(), mean_radii)
        return RadialFeatures(vectors, self.spherical_harmonics(vectors), lengths, radial, slopes)

    def radial_functions(self, lengths: Tensor, mean_radii: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Radial functions and their derivatives, of shape (n, num_radial), at lengths of shape (n, 1); constants to autograd.

        Args:
            lengths: In Å.
            mean_radii: Mean of the radii of the two atoms, where distances are transformed.
        """
        with torch.no_grad():
            place, stretch = lengths, None
            if mean_radii is not None:
                place, stretch = (self._stretch * value for value in transform_agnesi(lengths, mean_radii))
            values, slopes = basis_functions(self.radial_embedding.bessel_fn, place)
            slopes = slopes if stretch is None else slopes * stretch
            cutoff, cutoff_slopes = polynomial_cutoff(lengths, self.r_max, self._cutoff_power)
            return values * cutoff, slopes * cutoff + values * cutoff_slopes
