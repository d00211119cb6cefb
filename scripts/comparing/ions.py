r"""A set of data whose static charges are known: point charges of 1 and -1 e in random cells, energies and forces by formula.

.. math:: E = \tfrac{k_e}{2} \sum_{i \ne j} \frac{q_i q_j}{r_{ij}} + \tfrac12 \sum_{i \ne j} A \exp(-r_{ij} / \rho)

over all images, the first sum as that of Ewald: Gaussian charges of 1 Å and, within a cutoff, what point charges have beyond
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from bec_mace.data import Frame, build_graph
from bec_mace.electrostatics import ChargedFrames, Coulomb
from bec_mace.storage.files import replace_file
from bec_mace.units import COULOMB_CONSTANT

CHARGES = {11: 1.0, 17: -1.0}
"""In e, of the two elements."""
SMEARING = 1.0
CUTOFF = 6.0
"""Å; beyond it Gaussian and point charges differ by 3e-9 eV a pair."""
REPULSION, DECAY = 1500.0, 0.33
"""A in eV, rho in Å."""


@dataclass(frozen=True)
class Box:
    """One random box.

    Attributes:
        atoms: The structure.
        charges: Of its atoms, in e.
    """

    atoms: Atoms
    charges: np.ndarray

    def energy(self, positions: Tensor) -> Tensor:
        """In eV, differentiable by positions of shape (n_atoms, 3), in Å; see the module."""
        atoms = self.atoms.copy()
        atoms.positions = positions.detach().numpy()
        graph = build_graph(Frame.from_atoms(atoms, properties=()), CUTOFF, dtype=torch.float64)
        charges = torch.tensor(self.charges)
        frame_index = torch.zeros(len(atoms), dtype=torch.int64)
        smeared = Coulomb(SMEARING, 1e-9, "reciprocal").energies(
            charges, ChargedFrames(positions, frame_index, graph.cell, graph.pbc)
        )
        sender, receiver = graph.edge_index
        lengths = (positions[receiver] - positions[sender] - graph.edge_shifts @ graph.cell[0]).norm(dim=1)
        beyond = COULOMB_CONSTANT * charges[sender] * charges[receiver] * torch.erfc(lengths / (2**0.5 * SMEARING)) / lengths
        walls = REPULSION * torch.exp(-lengths / DECAY) - REPULSION * np.exp(-CUTOFF / DECAY)
        return smeared.sum() + 0.5 * (beyond + walls).sum()

    def forces(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy in eV, forces of shape (n_atoms, 3), in eV/Å."""
        moved = torch.tensor(positions, requires_grad=True)
        energy = self.energy(moved)
        return float(energy.detach()), -torch.autograd.grad(energy, moved)[0].numpy()


def random_box(rng: np.random.Generator, n_atoms: int, apart: float = 2.0) -> Box:
    """Place ions at random in a skewed cell of 22 to 30 Å^3 for each, none nearer to another than ``apart``, in Å."""
    volume = n_atoms * rng.uniform(22.0, 30.0)
    cell = np.eye(3) + rng.uniform(-0.2, 0.2, (3, 3))
    cell *= (volume / abs(np.linalg.det(cell))) ** (1 / 3)
    places: list[np.ndarray] = []
    shifts = np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1).T @ cell
    while len(places) < n_atoms:
        place = rng.uniform(size=3) @ cell
        if all(np.linalg.norm(place - other + shifts, axis=1).min() > apart for other in places):
            places.append(place)
    numbers = np.repeat(list(CHARGES), n_atoms // 2)
    atoms = Atoms(numbers, positions=np.array(places), cell=cell, pbc=True)
    return Box(atoms, np.array([CHARGES[int(number)] for number in numbers]))


def relaxed(box: Box, largest: float) -> Atoms:
    """Go downhill until no force is larger than ``largest``, in eV/Å; the atoms carry their labels."""
    positions = box.atoms.positions.copy()
    while True:
        energy, forces = box.forces(positions)
        size = np.linalg.norm(forces, axis=1).max()
        if size < largest:
            break
        positions += 0.1 * forces / size
    atoms = box.atoms.copy()
    atoms.positions = positions
    atoms.info["REF_energy"] = energy
    atoms.set_array("REF_forces", forces)
    atoms.set_array("REF_charges", box.charges)
    return atoms


def write_ions(path: Path, n_frames: int, n_atoms: int = 64, seed: int = 0) -> None:
    """Write frames, each relaxed until its largest force is below a random bound of 1.5 to 5 eV/Å."""
    rng = np.random.default_rng(seed)
    frames = [relaxed(random_box(rng, n_atoms), rng.uniform(1.5, 5.0)) for _ in range(n_frames)]
    replace_file(path, lambda temporary: ase.io.write(temporary, frames, format="extxyz"))
