"""Energies as data from elsewhere count them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bec_mace.data import Frame
from bec_mace.data.graph import Graph
from bec_mace.errors import ModelError
from bec_mace.models.base import PolarizationModel
from bec_mace.models.committee import CommitteeModel


def own_reference_names(model: PolarizationModel) -> tuple[str, ...]:
    """Names of the references that a model has beside those that it predicts with."""
    return tuple(model.statistics.own_reference_energies)


def number_of_reference(model: PolarizationModel, name: str) -> int:
    """The number that graphs have for a reference; 0 for an empty name.

    Raises:
        ModelError: The model has no such reference.
    """
    names = own_reference_names(model)
    if name and name not in names:
        known = f"it has {', '.join(map(repr, names))}" if names else "it has none beside those that it predicts with"
        raise ModelError(f"the model has no energy references {name!r}; {known}.")
    return names.index(name) + 1 if name else 0


def with_own_references(model: PolarizationModel, outputs: dict[str, Any], graph: Graph) -> dict[str, Any]:
    """Properties with the energies counted from where those of each frame are; see ``Graph.reference``."""
    if "energy" not in outputs or not own_reference_names(model):
        return outputs
    beside = energies_elsewhere(model, graph.reference, graph.atomic_numbers, graph.frame_index)
    return {**outputs, "energy": outputs["energy"] + beside}


def energies_elsewhere(model: PolarizationModel, reference: Tensor, atomic_numbers: Tensor, frame_index: Tensor) -> Tensor:
    """What the energies of frames have beside those that the model predicts, of shape (n_frames,), in eV; see ``Graph``."""
    networks: Sequence[PolarizationModel] = model.networks if isinstance(model, CommitteeModel) else [model]
    rows = []
    for one in networks:
        species = one.get_buffer("_species_of_number")[atomic_numbers]
        rows.append(one.heads["energy"].own_references(reference, species, frame_index))
    return torch.stack(rows).mean(dim=0)


def energy_elsewhere(model: PolarizationModel, frame: Frame) -> float:
    """As :func:`energies_elsewhere`, of one frame.

    Raises:
        ModelError: The model does not have the references of the frame.
    """
    number = number_of_reference(model, frame.reference)
    if not number:
        return 0.0
    numbers = torch.tensor(frame.atomic_numbers, device=model.reference_charges.device)
    with torch.no_grad():
        return float(energies_elsewhere(model, numbers.new_tensor([number]), numbers, torch.zeros_like(numbers)))
