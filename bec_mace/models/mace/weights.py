"""Copying the weights of a mace model, and the proof that it gives what mace gives."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bec_mace.data.batching import build_graph
from bec_mace.data.frames import Frame
from bec_mace.data.graph import Graph
from bec_mace.errors import ModelError
from bec_mace.models.mace.mace_file import MaceFile
from bec_mace.models.mace.product import symmetrize_couplings

_SAME_COUPLINGS = 1e-5
_LARGEST_ERROR = 1e-6
_ATOMS_COMPARED = 8


@torch.no_grad()
def copy_weights(model: Any, source: MaceFile) -> None:
    """Copy the weights of a mace model into the backbone and the energy head of a model of float64.

    Raises:
        ModelError: A weight has no counterpart.
    """
    theirs, ours = source.module, model.backbone
    _copy_parameters(source, ours.node_embedding, theirs.node_embedding)
    (own,), (other,) = ours.node_embedding.linear.weight_views(), theirs.node_embedding.linear.weight_views()
    own.copy_(other[source.order])
    _check_radial(source, ours.radial_embedding, theirs.radial_embedding)
    for layer, interaction, product in zip(ours.layers, theirs.interactions, theirs.products, strict=True):
        _copy_parameters(source, layer.interaction, interaction)
        for own, other in zip(layer.interaction.skip_tp.weight_views(), interaction.skip_tp.weight_views(), strict=True):
            own.copy_(other[:, source.order])
        _copy_parameters(source, layer.product.linear, product.linear)
        pairs = zip(layer.product.symmetric_contractions.contractions, product.symmetric_contractions.contractions, strict=True)
        for own, other in pairs:
            _copy_contraction(source, own, other)
    readouts = model.heads["energy"].readouts.layers
    for own, block in zip(readouts.values(), theirs.readouts, strict=True):
        _copy_readout(own, block)


def _copy_parameters(source: MaceFile, ours: Any, theirs: Any) -> None:
    tensors = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if name not in tensors or tensors[name].shape != parameter.shape:
            raise ModelError(
                f"{source.path}: the weights {name} of {type(theirs).__name__} do not have the shape "
                f"{tuple(parameter.shape)}; the file comes from another version of mace than the one installed."
            )
        parameter.copy_(tensors[name])


def _check_radial(source: MaceFile, ours: Any, theirs: Any) -> None:
    """Radial functions and cutoff have no weights unless they were trained; radii count for the elements of the file."""
    tensors = {**dict(theirs.named_buffers()), **dict(theirs.named_parameters())}
    for name, own in ours.named_buffers():
        if name not in tensors:
            continue
        other = tensors[name].to(own)
        if name.endswith("covalent_radii"):
            own, other = own[source.elements], other[source.elements]
        if not torch.allclose(own, other, rtol=1e-6, atol=1e-6):
            raise ModelError(
                f"{source.path}: {name} were trained, which is not supported; take a model with fixed radial functions."
            )


def _copy_contraction(source: MaceFile, ours: Any, theirs: Any) -> None:
    """Weights of the product basis. Other couplings of the same space are another basis of it.

    Reduced couplings and those of other versions of mace span the polynomials that ours span: the weights are changed so
    that the polynomials stay.
    """
    for nu in range(1, ours.correlation + 1):
        own, other = (_symmetric(contraction, nu) for contraction in (ours, theirs))
        weights = _contraction_weights(theirs, nu)[source.order]
        if own.shape != other.shape or (own - other).abs().max() > _SAME_COUPLINGS:
            a, b = own.flatten(0, 1), other.flatten(0, 1)
            change = torch.linalg.pinv(a) @ b
            if (a @ change - b).abs().max() > _SAME_COUPLINGS:
                raise ModelError(
                    f"{source.path}: the coupling coefficients of degree {nu} are none that mace makes from "
                    "these irreps; the file is damaged or comes from another program."
                )
            weights = torch.einsum("pq,zqc->zpc", change, weights)
        _contraction_weights(ours, nu).copy_(weights)


def _symmetric(contraction: Any, nu: int) -> Tensor:
    """Couplings by monomial, of shape (n_out, n_monomials, n_paths)."""
    coupling = contraction.U_tensors(nu).double()
    return symmetrize_couplings(coupling.unsqueeze(0) if coupling.dim() == nu + 1 else coupling, nu)


def _contraction_weights(contraction: Any, nu: int) -> Tensor:
    """Weights of degree nu, of shape (n_elements, n_paths, n_channels)."""
    weights: Tensor = (
        contraction.weights_max if nu == contraction.correlation else contraction.weights[contraction.correlation - nu - 1]
    )
    return weights


def _copy_readout(ours: Any, block: Any) -> None:
    """An energy readout; the factor of mace's activation goes into the last weights."""
    if hasattr(block, "linear"):
        ours[0].weight.copy_(_matrix(block.linear))
        return
    act = block.non_linearity.acts[0]
    factor = 1.0 if act is None or act._is_id else float(act.cst)
    ours[0].weight.copy_(_matrix(block.linear_1))
    ours[2].weight.copy_(_matrix(block.linear_2) * factor)


def _matrix(linear: Any) -> Tensor:
    """The map of scalars to scalars in an e3nn Linear, of shape (n_out, n_in)."""
    total = sum(
        weight * instruction.path_weight
        for weight, instruction in zip(linear.weight_views(), linear.instructions, strict=True)
        if linear.irreps_in[instruction.i_in].ir.l == 0
    )
    return torch.as_tensor(total).T


def compare_with_mace(model: Any, source: MaceFile) -> None:
    """Evaluate both on a few atoms of the file's elements.

    Raises:
        ModelError: Energies or forces differ.
    """
    graph = _probe(source.elements, model.r_max)
    coupling, model.electrostatics = model.electrostatics, None  # Charges that act are beside what the file holds.
    try:
        out = model(graph, ("energy", "forces"))
    finally:
        model.electrostatics = coupling
    with torch.enable_grad():
        expected = source.module(_mace_input(source, graph))
    for name in ("energy", "forces"):
        error = float((out[name] - expected[name].detach()).abs().max())
        size = max(1.0, float(expected[name].detach().abs().max()))
        if not error < _LARGEST_ERROR * size:
            raise ModelError(
                f"{source.path}: the {name} of this model differ by {error:.1e} from those that mace gives (largest "
                f"{size:.1e}); it has a part that this package does not know. Please report it."
            )


def _probe(elements: list[int], r_max: float) -> Graph:
    """A cluster without symmetry of up to 8 elements."""
    step = -(-len(elements) // _ATOMS_COMPARED)
    chosen = elements[::step]
    numbers = np.array(list(itertools.islice(itertools.cycle(chosen), _ATOMS_COMPARED)), dtype=np.int64)
    sites = np.array(list(itertools.product((0, 1), repeat=3)), dtype=np.float64)
    positions = 0.45 * r_max * (sites + 0.15 * np.random.default_rng(0).uniform(-1, 1, sites.shape))
    return build_graph(Frame(numbers, positions, np.zeros((3, 3)), np.zeros(3, dtype=bool)), r_max)


def _mace_input(source: MaceFile, graph: Graph) -> dict[str, Tensor]:
    numbers = source.module.atomic_numbers
    return {
        "positions": graph.positions.clone(),
        "node_attrs": (graph.atomic_numbers[:, None] == numbers).to(graph.positions.dtype),
        "edge_index": graph.edge_index,
        "shifts": torch.zeros(graph.n_edges, 3, dtype=graph.positions.dtype),
        "unit_shifts": torch.zeros(graph.n_edges, 3, dtype=graph.positions.dtype),
        "cell": graph.cell[0].clone(),
        "batch": graph.frame_index,
        "ptr": torch.tensor([0, graph.n_atoms]),
    }


def exact_weights(model: Any, parts: tuple[Any, ...]) -> dict[str, Tensor]:
    """Copies of the weights of some modules of a model, by their names in it; in float32 where that loses nothing."""
    chosen = {id(parameter) for part in parts for parameter in part.parameters()}
    return {name: _shortest(parameter.detach()) for name, parameter in model.named_parameters() if id(parameter) in chosen}


def _shortest(value: Tensor) -> Tensor:
    short = value.float()
    return short if torch.equal(short.to(value), value) else value.clone()
