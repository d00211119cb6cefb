"""What was found in the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from bec_mace.data.fingerprint import identical_frames
from bec_mace.data.frames import Frame
from bec_mace.data.quality.egg_box import EggBox, find_egg_box
from bec_mace.data.quality.index_order import RotationCheck, check_rotation
from bec_mace.data.quality.label_sizes import strange_labels
from bec_mace.data.quality.periodicity import LOOKED_AT, warning_of
from bec_mace.data.statistics import mean_charges


@dataclass(frozen=True)
class DataSummary:
    """A report on frames and their labels.

    Attributes:
        n_frames: Number of frames.
        n_atoms: Number of atoms in all frames.
        n_periodic: Frames that are periodic along at least one direction.
        elements: Number of atoms by chemical symbol, by rising atomic number.
        labels: Number of frames that hold a property, by its name.
        sum_rule_rms: Root mean square of the components of sum_j Z_j over the frames, in e; None without labels.
        sum_rule_max: Largest magnitude among them, in e.
        species_means: Mean of tr Z / 3 by chemical symbol, in e.
        trivial_rmse: Error of the trivial model, which gives each element the isotropic charge of
            ``species_means``, over all components, in e.
        rotation: The rotational sum rule of molecules; None without molecules that have a dipole.
        duplicates: Sources of identical frames, group by group.
        egg_box: How labels follow the grid of the program that made them; None where that is not sure.
        unread: Number of frames that hold a key which is no label, by its name.
        strange: Sentences on labels whose size or sign cannot be, and on cells that are not periodic.
    """

    n_frames: int
    n_atoms: int
    n_periodic: int
    elements: dict[str, int]
    labels: dict[str, int]
    sum_rule_rms: float | None
    sum_rule_max: float | None
    species_means: dict[str, float]
    trivial_rmse: float | None
    rotation: RotationCheck | None
    duplicates: list[list[str]]
    egg_box: EggBox | None = None
    unread: dict[str, int] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """What a person should look at before training."""
        warnings = list(self.strange)
        if self.rotation is not None and self.rotation.looks_transposed:
            warnings.append(
                "The Born effective charges look transposed: on "
                f"{self.rotation.n_frames} molecules the rotational sum rule fails by {self.rotation.residual:.3f} "
                f"e Å as they are and by {self.rotation.transposed_residual:.3f} e Å with the indices exchanged. "
                "Change index_order."
            )
        if self.duplicates:
            warnings.append(
                f"{len(self.duplicates)} structures occur more than once, the first as {' and '.join(self.duplicates[0][:2])}."
            )
        if self.egg_box is not None:
            warnings.append(
                "The Born effective charges follow the real-space grid of the calculation, an egg-box error: "
                f"{self.egg_box.text()}. To train without it, set data.egg_box: remove."
            )
        return warnings

    def text(self) -> str:
        """The report for a person, as lines of text."""
        lines = [
            f"{self.n_frames} frames ({self.n_periodic} periodic), {self.n_atoms} atoms",
            "elements: " + ", ".join(f"{symbol} {count}" for symbol, count in self.elements.items()),
            "labels: " + (", ".join(f"{name} {_share(count, self.n_frames)}" for name, count in self.labels.items()) or "none"),
        ]
        if self.unread:
            names = ", ".join(f"{name} {_share(count, self.n_frames)}" for name, count in self.unread.items())
            lines.append(f"not read, name them under keys if they are labels: {names}")
        if self.trivial_rmse is not None:
            means = ", ".join(f"{symbol} {value:+.3f}" for symbol, value in self.species_means.items())
            lines += [
                f"mean of tr Z*/3: {means} e",
                f"RMSE of one charge per element: {self.trivial_rmse:.4f} e",
                f"sum of Z* over a frame: rms {self.sum_rule_rms:.4f} e, at most {self.sum_rule_max:.4f} e",
            ]
        if self.rotation is not None:
            lines.append(
                f"rotational sum rule on {self.rotation.n_frames} molecules: rms {self.rotation.residual:.4f} "
                f"e Å, indices exchanged {self.rotation.transposed_residual:.4f} e Å"
            )
        return "\n".join(lines + [f"warning: {message}" for message in self.warnings])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        box = None if self.egg_box is None else self.egg_box.to_dict()
        return {**asdict(replace(self, egg_box=None)), "egg_box": box, "warnings": self.warnings}


def summarize(frames: Sequence[Frame]) -> DataSummary:
    """Report on frames.

    Args:
        frames: Any frames, with or without labels.
    """
    from ase.data import chemical_symbols

    numbers = Counter(int(number) for frame in frames for number in frame.atomic_numbers)
    labels = Counter(name for frame in frames for name in frame.labels)
    means = mean_charges(frames)
    sums = [frame.labels["born_effective_charges"].sum(axis=0) for frame in frames if "born_effective_charges" in frame.labels]
    return DataSummary(
        n_frames=len(frames),
        n_atoms=sum(numbers.values()),
        n_periodic=sum(bool(frame.pbc.any()) for frame in frames),
        elements={chemical_symbols[number]: numbers[number] for number in sorted(numbers)},
        labels=dict(labels),
        sum_rule_rms=float(np.sqrt(np.mean(np.square(sums)))) if sums else None,
        sum_rule_max=float(np.abs(sums).max()) if sums else None,
        species_means={chemical_symbols[number]: value for number, value in means.items()},
        trivial_rmse=trivial_rmse(frames, means),
        rotation=check_rotation(frames),
        duplicates=[[frames[index].source for index in group] for group in identical_frames(frames)],
        egg_box=find_egg_box(frames),
        unread=dict(Counter(name for frame in frames for name in frame.unread)),
        strange=[*strange_labels(frames), *molecules_with_cells(frames)],
    )


def molecules_with_cells(frames: Sequence[Frame]) -> list[str]:
    """What to say of the first structure whose cell is not periodic though it looks as if it were."""
    for frame in frames[:LOOKED_AT]:
        if sentence := warning_of(frame):
            return [sentence]
    return []


def trivial_rmse(frames: Sequence[Frame], charges: dict[int, float]) -> float | None:
    """Error of one isotropic charge per element, over all components.

    Args:
        frames: Frames; those without Born effective charges do not count.
        charges: Charge by atomic number, in e. An element that is not there gets zero.

    Returns:
        Root mean square error in e; None when no frame has Born effective charges.
    """
    squares, count = 0.0, 0
    for frame in frames:
        tensors = frame.labels.get("born_effective_charges")
        if tensors is not None:
            guess = np.array([charges.get(int(number), 0.0) for number in frame.atomic_numbers])
            squares += float(np.sum((tensors - guess[:, None, None] * np.eye(3)) ** 2))
            count += tensors.size
    return float(np.sqrt(squares / count)) if count else None


def _share(count: int, total: int) -> str:
    return "in all" if count == total else f"in {count} of {total}"
