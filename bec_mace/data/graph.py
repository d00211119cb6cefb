"""Graphs: what a model sees of one or several frames."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

_STRUCTURE = (
    "positions",
    "atomic_numbers",
    "frame_index",
    "cell",
    "pbc",
    "edge_index",
    "edge_shifts",
    "total_charge",
    "reference",
)


@dataclass(frozen=True)
class Graph:
    """A batch of one or more frames with their periodic neighbour lists.

    An edge runs from a sender to a receiver. The sender may be a periodic image: its position is
    ``positions[sender] + edge_shifts @ cell``. The edge vector is receiver minus sender.

    Attributes:
        positions: Cartesian positions of shape (n_atoms, 3), in Å. These, cell and shifts stay in float64, so that an edge
            vector is as precise far from the origin as near it; a model takes edge vectors in its own precision.
        atomic_numbers: Of shape (n_atoms,), int64.
        frame_index: The frame of each atom, of shape (n_atoms,), int64, ascending.
        cell: Lattice vectors as rows, of shape (n_frames, 3, 3), in Å. Zero rows where there is no lattice vector.
        pbc: Periodic directions, of shape (n_frames, 3), bool.
        edge_index: (sender, receiver), of shape (2, n_edges), int64, sorted by receiver.
        edge_shifts: Lattice translations of the sender, of shape (n_edges, 3), whole numbers in float64.
        labels: Reference values by property name: (n_atoms, ...) or (n_frames, ...).
        masks: For each label, the frames that hold it, of shape (n_frames,), bool. Labels elsewhere are zero.
        total_charge: Of each frame, of shape (n_frames,), in e; zero when not given.
        weights: For some labels, factors of the frames in the loss, of shape (n_frames,); 1 where not given.
        reference: What the energy of each frame is counted from, of shape (n_frames,), int64: 0 for the references of a
            model, n for the nth of its own references.
    """

    positions: Tensor
    atomic_numbers: Tensor
    frame_index: Tensor
    cell: Tensor
    pbc: Tensor
    edge_index: Tensor
    edge_shifts: Tensor
    labels: dict[str, Tensor] = field(default_factory=dict)
    masks: dict[str, Tensor] = field(default_factory=dict)
    total_charge: Tensor = None  # type: ignore[assignment]  # never None after it is made
    weights: dict[str, Tensor] = field(default_factory=dict)
    reference: Tensor = None  # type: ignore[assignment]  # never None after it is made

    def __post_init__(self) -> None:
        if self.total_charge is None:
            object.__setattr__(self, "total_charge", self.cell.new_zeros(self.cell.shape[0]))
        if self.reference is None:
            object.__setattr__(self, "reference", self.frame_index.new_zeros(self.cell.shape[0]))

    @property
    def n_atoms(self) -> int:
        """Number of atoms in all frames."""
        return self.positions.shape[0]

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.cell.shape[0]

    @property
    def n_edges(self) -> int:
        """Number of directed edges."""
        return self.edge_index.shape[1]

    def atoms_per_frame(self) -> Tensor:
        """Number of atoms of each frame, of shape (n_frames,)."""
        return torch.bincount(self.frame_index, minlength=self.n_frames)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Graph:
        """Copy to a device, with labels in ``dtype``; the structure stays in float64 where the device has it."""
        # Metal has no float64.
        single = device is not None and torch.device(device).type == "mps"

        def move(value: Tensor, dtype: torch.dtype | None = None) -> Tensor:
            return value.to(device=device, dtype=dtype if value.is_floating_point() else None)

        return replace(
            self,
            **{name: move(getattr(self, name), torch.float32 if single else None) for name in _STRUCTURE},
            labels={name: move(value, dtype) for name, value in self.labels.items()},
            masks={name: move(value) for name, value in self.masks.items()},
            weights={name: move(value, dtype) for name, value in self.weights.items()},
        )
