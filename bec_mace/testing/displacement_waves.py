"""An oracle for charges that atoms exchange with the whole: waves of displacement in ever more cells in a row.

In a wave of wavevector K the polarization along K follows from the density of charge, i K·P = -rho, and there is no need of
an arm. The macroscopic field that the wave makes is the term of K in the potential; it is dropped. What is left tends to Z*
as K goes to zero, with an error of second order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bec_mace.data import Frame, build_graph
from bec_mace.electrostatics import ChargedFrames, Coulomb, Multipoles, kernels
from bec_mace.errors import ModelError
from bec_mace.models import PolarizationModel
from bec_mace.testing.physics import move, repeat


@dataclass(frozen=True)
class WithoutOneWave(Coulomb):
    """Coulomb's law for one crystal without the term of one wavevector.

    Attributes:
        wavevector: K, in 1/Å.
    """

    wavevector: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def energies(self, sources: Tensor | Multipoles, frames: ChargedFrames, strain: Tensor | None = None) -> Tensor:
        """The energy less v(K) |S(K)|^2 / V, of both K and -K."""
        given = Multipoles.of(sources)
        k = frames.positions.new_tensor(self.wavevector)
        real, imaginary = given.charges, torch.zeros_like(given.charges)
        if given.dipoles is not None:
            imaginary = given.dipoles @ k
        if given.quadrupoles is not None:
            real = real - 0.5 * torch.einsum("a,nab,b->n", k, given.quadrupoles, k)
        phase = frames.positions @ k
        cos, sin = torch.cos(phase), torch.sin(phase)
        power = (real * cos - imaginary * sin).sum().square() + (real * sin + imaginary * cos).sum().square()
        volume = torch.linalg.det(frames.cell[0]).abs()
        whole: Tensor = super().energies(sources, frames, strain)
        result: Tensor = whole - kernels.of_wavevector(k @ k, self.smearing) * power / volume
        return result


def wave_of_exchange(
    model: PolarizationModel, frame: Frame, atom: int, axis: int, n_cells: int, step: float = 1e-4
) -> tuple[float, np.ndarray]:
    """What an atom moves of exchanged charge along the first reciprocal lattice vector, in a wave over some cells.

    Args:
        model: With ``response.charges: atoms``, in float64; its Coulomb sum is replaced meanwhile.
        frame: A crystal.
        atom: The atom.
        axis: Of the displacement.
        n_cells: Along the first lattice vector.
        step: Amplitude, in Å.

    Returns:
        The part of Z* that exchanged charges have, in e, and the unit vector along K.
    """
    coupling = model.electrostatics
    if coupling is None:
        raise ModelError("the model has no electrostatics")
    cells = repeat(frame, (n_cells, 1, 1))
    k = 2 * math.pi * np.linalg.inv(cells.cell)[:, 0]
    length = float(np.linalg.norm(k))
    phases = cells.positions @ k
    moving = np.arange(len(cells)) % len(frame) == atom
    kept, coulomb = coupling.coulomb, coupling.coulomb
    coupling.coulomb = WithoutOneWave(coulomb.smearing, coulomb.tolerance, coulomb.method, tuple(k))
    try:

        def charges(shift: np.ndarray) -> np.ndarray:
            positions = cells.positions.copy()
            positions[moving, axis] += shift[moving]
            out = model(build_graph(move(cells, positions), model.r_max), ("induced_charges", "screening"))
            return np.asarray(out["induced_charges"] * out["screening"])

        waves = [charges(step * wave) - charges(-step * wave) for wave in (np.cos(phases), np.sin(phases))]
        still = charges(np.zeros(len(cells)))
    finally:
        coupling.coulomb = kept
    density = ((waves[0] + 1j * waves[1]) / (2 * step) * np.exp(-1j * phases)).sum() / n_cells
    # As in the model, what is exchanged sums to zero after the screening too.
    own = float(still[moving].mean() - still.mean())
    return float((1j / length * density).real + own * k[axis] / length), k / length


def exchange_at_long_waves(model: PolarizationModel, frame: Frame, atom: int, axis: int) -> tuple[float, np.ndarray]:
    """The limit of :func:`wave_of_exchange`, extrapolated from 8, 16 and 32 cells."""
    found = [wave_of_exchange(model, frame, atom, axis, n) for n in (8, 16, 32)]
    eight, sixteen, many = (value for value, _ in found)
    first, second = (4 * sixteen - eight) / 3, (4 * many - sixteen) / 3
    return (16 * second - first) / 15, found[0][1]


def exchange_part(model: PolarizationModel, frame: Frame) -> np.ndarray:
    """What exchanged charges have of the model's Z*, of shape (n_atoms, 3, 3), in e: with capacities and with half of them.

    Z* of them is of first order in the capacities, and permanent sources do not know of it.
    """
    coupling = model.electrostatics
    if coupling is None or coupling.response is None:
        raise ModelError("the model has no response")
    graph, references = build_graph(frame, model.r_max), coupling.response.capacity_references
    found = []
    with torch.no_grad():
        for shift in (0.0, -math.log(2)):
            references.add_(shift)
            found.append(np.asarray(model(graph, ("born_effective_charges",))["born_effective_charges"]))
            references.sub_(shift)
    part: np.ndarray = 2 * (found[0] - found[1])
    return part
