r"""Equation (1) the slow way: a finite cluster, mace's own blocks, plain automatic differentiation.

.. math:: Z_{j,ab} = q_j \delta_{ab} + \sum_i \sum_{j'} (r_i - r_{j'})_a \, \partial q_i / \partial r_{j',b}

The cluster holds all images within twice the receptive field of the home cell, so that every atom that feels a home
atom has a complete environment. One home atom is moved, and the sum runs over all atoms that feel it. For the other
heads the dipoles and flows of the home cell are differentiated with respect to every image of an atom. Nothing here is
shared with the engine but the weights, mace's blocks and the small networks of the heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from bec_mace.data import Frame
from bec_mace.models import PolarizationModel


@dataclass(frozen=True)
class Cluster:
    """A finite piece of a structure. The atoms of the home cell come first.

    Attributes:
        positions: Of shape (n, 3), in Å, a leaf that requires grad.
        atomic_numbers: Of shape (n,).
        owner: The home atom that each atom is an image of, of shape (n,).
        distance: From the nearest home atom, of shape (n,), in Å.
        n_home: Number of atoms of the home cell.
        sender, receiver: Pairs closer than the cutoff, both directions.
    """

    positions: Tensor
    atomic_numbers: Tensor
    owner: Tensor
    distance: Tensor
    n_home: int
    sender: Tensor
    receiver: Tensor


def build_cluster(frame: Frame, r_max: float, radius: float) -> Cluster:
    """All images within ``radius`` of any atom of the home cell."""
    rows = frame.cell[frame.pbc]
    home = frame.positions
    extent = np.linalg.norm(home[:, None] - home[None], axis=-1).max()
    shifts = np.zeros((1, 3))
    for row, height in zip(rows, 1.0 / np.linalg.norm(np.linalg.pinv(rows), axis=0) if len(rows) else (), strict=True):
        count = int(np.ceil((radius + extent) / height))
        shifts = (shifts[:, None] + np.arange(-count, count + 1)[:, None] * row).reshape(-1, 3)
    shifts = shifts[np.argsort(np.linalg.norm(shifts, axis=1), kind="stable")]
    positions = (shifts[:, None] + home).reshape(-1, 3)
    owner = np.tile(np.arange(len(home)), len(shifts))
    distance = cKDTree(home).query(positions)[0]
    inside = distance < radius
    positions, owner, distance = positions[inside], owner[inside], distance[inside]
    pairs = cKDTree(positions).query_pairs(r_max, output_type="ndarray")
    sender, receiver = np.concatenate([pairs, pairs[:, ::-1]]).T.copy()
    return Cluster(
        positions=torch.tensor(positions, dtype=torch.float64, requires_grad=True),
        atomic_numbers=torch.tensor(frame.atomic_numbers[owner]),
        owner=torch.tensor(owner),
        distance=torch.tensor(distance),
        n_home=len(home),
        sender=torch.tensor(sender, dtype=torch.int64),
        receiver=torch.tensor(receiver, dtype=torch.int64),
    )


def mace_features(
    model: PolarizationModel, atomic_numbers: Tensor, vectors: Tensor, sender: Tensor, receiver: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Node features after each layer, (n, n_components, n_channels), and radial functions, from mace's own blocks."""
    backbone: Any = model.backbone
    elements = torch.tensor(model.elements, device=vectors.device)
    attrs = (atomic_numbers[:, None] == elements).to(vectors.dtype)
    edges = torch.stack([sender, receiver])
    harmonics = backbone.spherical_harmonics(vectors)
    radial, _ = backbone.radial_embedding(vectors.norm(dim=-1, keepdim=True), attrs, edges, elements)
    flat = backbone.node_embedding(attrs)
    features: list[Tensor] = []
    kept: dict[Any, Tensor] = {}
    for layer in backbone.layers:
        message, skip = layer.interaction(attrs, flat, harmonics, radial, edges)
        flat = layer.product(message, skip, attrs)
        blocks, start = {}, 0
        for mul, ir in layer.irreps_out:
            block = flat[:, start : start + mul * ir.dim]
            blocks[ir] = block.view(-1, mul, ir.dim).transpose(1, 2)
            start += mul * ir.dim
        # Irreps that a layer does not make stay those of the layer before it.
        kept = {**blocks, **{ir: block for ir, block in kept.items() if ir not in blocks}}
        features.append(torch.cat(list(kept.values()), dim=1))
    return features, radial


def flows(head: torch.nn.Module, feats: Tensor, vectors: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
    """phi_ij of each edge: receiver i, sender j."""
    flow: Any = head.flow
    value = flow.receiver(feats[receiver, 0]) + flow.sender(feats[sender, 0])
    if flow.place is not None:
        unit = 3**0.5 * vectors / vectors.norm(dim=-1, keepdim=True)
        own, other = feats[receiver][:, flow.place], feats[sender][:, flow.place]
        difference = flow.receiver_vectors(own) - flow.sender_vectors(other)
        value = value + torch.einsum("em,emc->ec", unit, difference)
    result: Tensor = (flow.mix(torch.nn.functional.silu(value)) * flow.radial(radial)).sum(dim=-1)
    return result


def oracle(model: PolarizationModel, frame: Frame) -> dict[str, Tensor]:
    """Z* of each head alone, of the neutral reference charges, and in "total", without any sum rule.

    Each is of shape (n_atoms, 3, 3), in e.
    """
    field = model.r_max * model.config.num_interactions
    cluster = build_cluster(frame, model.r_max, 2 * field)
    vectors = cluster.positions[cluster.receiver] - cluster.positions[cluster.sender]
    features, radial = mace_features(model, cluster.atomic_numbers, vectors, cluster.sender, cluster.receiver)
    parts: dict[str, Tensor] = {}
    for name, head in model.heads.items():
        if name == "monopole":
            charges = sum(head.readouts(number, feats) for number, feats in enumerate(features))
            parts[name] = respond_to_charges(cluster, charges, cluster.distance < field)
        elif name == "dipole":
            dipoles = sum(head.read(number, feats, None).dipoles for number, feats in enumerate(features))
            parts[name] = respond_to_home(cluster, dipoles[: cluster.n_home].sum(dim=0))
        elif name == "charge_transfer":
            phi = flows(head, features[-1], vectors, radial, cluster.sender, cluster.receiver)
            at_home = cluster.receiver < cluster.n_home
            parts[name] = respond_to_home(cluster, (phi.unsqueeze(1) * vectors)[at_home].sum(dim=0))
        elif name == "direct":
            parts[name] = head.tensors(features[-1])[: cluster.n_home]
    lookup = {z: index for index, z in enumerate(model.elements)}
    references = model.reference_charges[[lookup[int(z)] for z in frame.atomic_numbers]]
    parts["reference"] = subtract_mean(references)[:, None, None] * torch.eye(3, dtype=torch.float64)
    parts["total"] = sum(parts.values(), torch.zeros(len(frame), 3, 3, dtype=torch.float64))
    return {name: value.detach() for name, value in parts.items()}


def respond_to_charges(cluster: Cluster, charges: Tensor, complete: Tensor) -> Tensor:
    """Equation (1): move one home atom, sum over all atoms that feel it."""
    rows = []
    for atom in range(cluster.n_home):
        arms = (cluster.positions - cluster.positions[atom]).detach()
        for axis in range(3):
            moment = (arms[:, axis] * charges)[complete].sum()
            (gradient,) = torch.autograd.grad(moment, cluster.positions, retain_graph=True)
            rows.append(gradient[atom])
    response = torch.stack(rows).view(cluster.n_home, 3, 3)
    return response + charges[: cluster.n_home, None, None] * torch.eye(3, dtype=response.dtype)


def respond_to_home(cluster: Cluster, polarization: Tensor) -> Tensor:
    """Differentiate the dipole of the home cell with respect to every image of each atom."""
    rows = []
    for axis in range(3):
        (gradient,) = torch.autograd.grad(polarization[axis], cluster.positions, retain_graph=True)
        rows.append(gradient.new_zeros(cluster.n_home, 3).index_add(0, cluster.owner, gradient))
    return torch.stack(rows, dim=1)


def subtract_mean(values: Tensor) -> Tensor:
    """The acoustic sum rule by projection, of one frame."""
    return values - values.mean(dim=0)
