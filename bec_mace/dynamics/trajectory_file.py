"""The trajectory of a run, in ASE's format, which can be cut back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import TrajectoryWriter
from ase.io.ulm import InvalidULMFileError, ulmopen

from bec_mace.errors import DynamicsError

# Where ASE's format keeps the number of its items: after two magic texts of 8 and 16 bytes and the version.
_COUNT = 32


class TrajectoryFile:
    """Appends frames: positions as they are integrated (never wrapped), velocities, energy, properties of atoms, step, time.

    Args:
        path: The file.
        keep: Number of frames to keep of an existing file; later ones are dropped.

    Raises:
        DynamicsError: The file has fewer frames, or is not a trajectory.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        if keep:
            cut_trajectory(path, keep)
        self._writer = TrajectoryWriter(path, mode="a" if keep else "w")

    def __len__(self) -> int:
        return len(self._writer)

    def append(self, atoms: Atoms, energy: float, of_atoms: Mapping[str, np.ndarray], step: int, time_fs: float) -> None:
        """Write one frame; it is in the file when this returns.

        Args:
            atoms: With momenta; constraints and calculator are left out.
            energy: In eV.
            of_atoms: ``forces`` (n_atoms, 3) in eV/Å, and with them ``born_effective_charges`` (n_atoms, 3, 3) in e, the
                polarization first, and ``charges`` (n_atoms,) in e where they are kept.
            step: Number of the step.
            time_fs: Its time in fs.
        """
        frame = atoms.copy()
        frame.set_constraint()
        frame.info = {"step": step, "time_fs": time_fs}
        frame.calc = SinglePointCalculator(frame, energy=energy, **of_atoms)
        self._writer.write(frame)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def cut_trajectory(path: Path, keep: int) -> None:
    """Drop all frames but the first ones, in place.

    One number in the file is changed, so a kill in between does no harm.

    Raises:
        DynamicsError: The file has fewer frames, or is not a trajectory.
    """
    try:
        with ulmopen(path, "r") as file:
            n_frames = len(file)
    except (OSError, InvalidULMFileError) as error:
        raise DynamicsError(
            f"{path}: cannot be read as a trajectory ({error}), so the run cannot be resumed; "
            "start another run from this folder with `structure`"
        ) from error
    if n_frames < keep:
        raise DynamicsError(
            f"{path}: has {n_frames} frames, the state of the run has {keep}; put the complete file back, "
            "or start another run from this folder with `structure`"
        )
    if n_frames > keep:
        with path.open("r+b") as file:
            file.seek(_COUNT)
            file.write(np.array(keep, dtype=np.int64).tobytes())
