"""The normal equations of the fit, gathered frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bec_mace.data import Frame, build_graph
from bec_mace.errors import TrainingError
from bec_mace.models.kernel_regression.design import sorted_design_matrix
from bec_mace.models.kernel_regression.kernel_model import KernelModel
from bec_mace.models.kernel_regression.whitening import Whitening

Z = "born_effective_charges"
KEPT_ATOMS = 200
"""Atoms of each held-out fold whose rows are kept for the calibration, spread over its frames."""


@dataclass
class Equations:
    """X^T X, X^T y, y^T y and the number of rows of some frames."""

    gram: Tensor
    projection: Tensor
    square: float = 0.0
    count: int = 0

    @classmethod
    def zeros(cls, n: int, like: Tensor) -> Equations:
        """Those of no frame."""
        return cls(like.new_zeros(n, n), like.new_zeros(n))

    def add(self, rows: Tensor, targets: Tensor) -> None:
        """Take in rows (n, n_new) and their targets (n,)."""
        self.gram.addmm_(rows.T, rows)
        self.projection.addmv_(rows.T, targets)
        self.square += float(targets @ targets)
        self.count += len(targets)

    def residual(self, weights: Tensor) -> float:
        """Sum of squared errors."""
        return max(0.0, self.square - 2 * float(weights @ self.projection) + float(weights @ (self.gram @ weights)))


@dataclass
class HeldOut:
    """One fold: its equations, and some rows of each frame with targets and the element of their atoms."""

    equations: Equations
    _rows: list[Tensor] = field(default_factory=list)
    _targets: list[Tensor] = field(default_factory=list)
    _species: list[Tensor] = field(default_factory=list)

    def keep(self, rows: Tensor, targets: Tensor, species: Tensor, atoms: Tensor) -> None:
        """Keep the rows of some atoms of a frame; there are nine of each."""
        self._rows.append(rows.unflatten(0, (-1, 9))[atoms].flatten(0, 1))
        self._targets.append(targets.view(-1, 9)[atoms].flatten())
        self._species.append(species[atoms].repeat_interleave(9))

    def kept(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (n, n_new), targets (n,) and elements (n,)."""
        return torch.cat(self._rows), torch.cat(self._targets), torch.cat(self._species)


@dataclass
class Gathered:
    """The equations of all frames, and those of each fold."""

    total: Equations
    folds: list[HeldOut] = field(default_factory=list)


def gather(
    model: KernelModel,
    whitening: Whitening,
    frames: Sequence[Frame],
    n_folds: int,
    memory: float,
    seed: int,
    groups: Sequence[Sequence[int]] | None = None,
) -> Gathered:
    """Build the design matrix of each frame once and keep what the solve and the calibration need.

    Args:
        model: With its representatives, in float64; what it gives already is subtracted from the labels.
        whitening: The coordinates of the solve.
        frames: Frames with Z*.
        n_folds: Groups are dealt into so many folds; fewer where there are fewer groups, none for one group.
        memory: Bytes.
        seed: Of the atoms that are kept.
        groups: Positions in ``frames`` of those that must be in one fold; each frame by itself when None.

    Raises:
        TrainingError: The memory is too small.
    """
    groups = [[number] for number in range(len(frames))] if groups is None else groups
    n_folds = min(n_folds, len(groups)) if len(groups) > 1 else 0
    fold_of = {number: place % max(n_folds, 1) for place, members in enumerate(groups) for number in members}
    left = memory - needed_memory(model, whitening, frames, n_folds)
    if left < 0:
        raise TrainingError(
            f"fit.memory_gb: {memory / 1e9:g} GB are not enough for {model.n_weights} weights and {n_folds} folds; this fit "
            f"needs {(memory - left) / 1e9:.2g} GB. Raise it, or lower model.num_representatives or fit.calibration_folds"
        )
    generator = torch.Generator().manual_seed(seed)
    n = len(whitening.groups)
    gathered = Gathered(
        Equations.zeros(n, model.representatives), [HeldOut(Equations.zeros(n, model.representatives)) for _ in range(n_folds)]
    )
    share = KEPT_ATOMS * max(n_folds, 1) // len(frames) + 1
    for number, frame in enumerate(frames):
        env = model.environments(build_graph(frame, model.r_max).to(model.representatives.device))
        matrix = sorted_design_matrix(model.kernel(), env, left)
        # The prior of a reference charge is centred on the mean of the labels, where the model has it already.
        labels = torch.tensor(frame.labels[Z]).to(matrix)[env.order]
        # Every model gives each atom its part of the total charge.
        shared = frame.total_charge / len(frame) * torch.eye(3, dtype=labels.dtype, device=labels.device)
        targets = (labels - shared - matrix @ model.weights()).flatten()
        rows = whitening.columns(matrix.view(-1, model.n_weights))
        del matrix
        gathered.total.add(rows, targets)
        if n_folds:
            fold = gathered.folds[fold_of[number]]
            fold.equations.add(rows, targets)
            fold.keep(rows, targets, env.species, torch.randperm(len(frame), generator=generator)[:share].to(rows.device))
    return gathered


def needed_memory(model: KernelModel, whitening: Whitening, frames: Sequence[Frame], n_folds: int) -> float:
    """Bytes of the equations and of the design matrix of the largest frame, as it is and in new coordinates."""
    n = len(whitening.groups)
    largest = max(len(frame) for frame in frames)
    kept = 9 * n_folds * min(KEPT_ATOMS, sum(len(frame) for frame in frames)) * n
    return 8.0 * ((n_folds + 4) * n**2 + kept + 9 * largest * (model.n_weights + n))
