"""Reference energies for a model whose charges act from the first step on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from bec_mace.config.model import ModelConfig
from bec_mace.data import Frame, Statistics
from bec_mace.data.statistics import fit_references
from bec_mace.electrostatics import ChargedFrames, Coulomb
from bec_mace.models.coupling import first_charges


def beside_coulomb(statistics: Statistics, frames: Sequence[Frame], config: ModelConfig) -> Statistics:
    """Fit the reference energies to what is left of the energies after the charges that training starts from have acted.

    Otherwise the first epochs go into a constant of some eV for each molecule.

    Args:
        statistics: Of the training frames.
        frames: The training frames.
        config: The model.
    """
    section = config.electrostatics
    if section is None or config.backbone is not None or not statistics.reference_energies:
        return statistics
    elements = sorted({int(number) for frame in frames for number in frame.atomic_numbers})
    charges = dict(zip(elements, first_charges(config, elements, statistics.reference_charges), strict=True))
    coulomb = Coulomb(section.smearing, section.tolerance, section.method)
    rest = [
        replace(frame, labels={**frame.labels, "energy": frame.labels["energy"] - _energy(coulomb, frame, charges)})
        for frame in frames
        if "energy" in frame.labels
    ]
    energies = fit_references(rest)
    return replace(statistics, reference_energies=energies.pop("", {}), own_reference_energies=energies)


def _energy(coulomb: Coulomb, frame: Frame, charges: dict[int, float]) -> float:
    values = np.array([charges[int(number)] for number in frame.atomic_numbers])
    values += (frame.total_charge - values.sum()) / len(frame)
    structure = ChargedFrames(
        torch.tensor(frame.positions),
        torch.zeros(len(frame), dtype=torch.int64),
        torch.tensor(frame.cell[None]),
        torch.tensor(frame.pbc[None]),
    )
    with torch.no_grad():
        return float(coulomb.energies(torch.tensor(values), structure))
