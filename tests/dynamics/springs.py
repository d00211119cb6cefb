"""A small ASE calculator for tests: springs between all pairs of atoms, with a flaw on demand."""

import numpy as np
from ase.calculators.calculator import Calculator, all_changes


class Springs(Calculator):
    """E = sum over pairs of k/2 (r - r0)^2, in eV; forces become nan after ``good`` calls."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, stiffness=1.0, length=1.2, good=10**9):
        super().__init__()
        self.stiffness, self.length, self.good, self.calls = stiffness, length, good, 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        vectors = self.atoms.positions[:, None] - self.atoms.positions[None]
        lengths = np.linalg.norm(vectors, axis=-1) + np.eye(len(self.atoms))
        stretch = (lengths - self.length) * (1 - np.eye(len(self.atoms)))
        forces = -self.stiffness * np.sum((stretch / lengths)[:, :, None] * vectors, axis=1)
        if self.calls > self.good:
            forces[1] = np.nan
        self.results = {"energy": 0.25 * self.stiffness * float(np.sum(stretch**2)), "forces": forces}


class NoCalculator:
    """Something that is no calculator."""


def ramp(time_fs):
    """A field that grows with time, in V/Å."""
    return [0.0, 0.001 * time_fs, -0.0005 * time_fs]
