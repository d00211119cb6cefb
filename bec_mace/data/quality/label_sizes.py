"""Labels of a size or a sign that cannot be, compared with those of the other frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bec_mace.data.formats.site_symmetry import find_operations
from bec_mace.data.frames import Frame
from bec_mace.errors import DataError

Z = "born_effective_charges"
LARGEST_STRESS = 1.0
"""eV/Å^3, 160 GPa."""
_FACTOR, _LEAST = 4.0, 0.3
"""How much further from the means of the elements than the median frame, and how far at least, in e."""
_SHARE = 0.2
"""Energies of one composition differ by a few percent at most, in any reference of a program."""


@dataclass(frozen=True)
class Strange:
    """Frames with labels that look wrong.

    Attributes:
        frames: The frames.
        what: What is wrong with them.
        total: Of how many.
    """

    frames: Sequence[Frame]
    what: str
    total: int

    def text(self) -> str:
        """A sentence with the first frame that it is about."""
        more = f" (and {len(self.frames) - 1} more of {self.total} frames)" if len(self.frames) > 1 else ""
        return f"{self.frames[0].source}{more}: {self.what}"


def strange_labels(frames: Sequence[Frame]) -> list[str]:
    """Sentences on labels that look wrong, each with the first frame that it is about."""
    return [one.text() for one in find_strange(frames)]


def find_strange(frames: Sequence[Frame]) -> list[Strange]:
    """Frames with labels that look wrong, by what is wrong with them."""
    return [*_of_stress(frames), *_of_zeros(frames), *_of_charges(frames), *_of_energies(frames)]


def _of_stress(frames: Sequence[Frame]) -> Iterator[Strange]:
    wrong = [frame for frame in frames if "stress" in frame.labels and np.abs(frame.labels["stress"]).max() > LARGEST_STRESS]
    if wrong:
        largest = float(np.abs(wrong[0].labels["stress"]).max())
        gpa = 160.2177 * largest
        what = f"stress of {largest:.4g} eV/Å^3, {gpa:.3g} GPa; is it in kbar (1 kbar = 0.000624 eV/Å^3) or GPa?"
        yield Strange(wrong, what, len(frames))


def _of_zeros(frames: Sequence[Frame]) -> Iterator[Strange]:
    for name in (Z, "forces"):
        held = [frame for frame in frames if name in frame.labels and len(frame) > 1]
        wrong = [frame for frame in held if not frame.labels[name].any()]
        if name == "forces":
            wrong = [frame for frame in wrong if not _is_at_rest(frame)]
        if wrong and len(wrong) < len(held):
            yield Strange(wrong, f"all {name} are zero; a placeholder? Leave the label out of such frames.", len(frames))


def _is_at_rest(frame: Frame) -> bool:
    """Whether the symmetry of a crystal allows no force on any atom."""
    if not frame.pbc.all():
        return False
    try:
        found = find_operations(replace(frame, labels={}).to_atoms(), frame.source)
    except DataError:  # without spglib, or with atoms on each other
        return False
    vectors = np.eye(3)[None].repeat(len(frame), axis=0)
    kept = np.zeros_like(vectors)
    for rotation, image in zip(found.rotations, found.images, strict=True):
        own = image == np.arange(len(frame))
        kept[own] += rotation @ vectors[own]
    return bool(np.abs(kept).max() < 1e-6 * len(found.rotations))


def _of_charges(frames: Sequence[Frame]) -> Iterator[Strange]:
    """Frames far from the means of the elements in frames of the same elements: another sign, unit or order of the atoms."""
    groups: dict[bytes, list[Frame]] = {}
    for frame in frames:
        if Z in frame.labels and frame.labels[Z].any():
            groups.setdefault(np.unique(frame.atomic_numbers).tobytes(), []).append(frame)
    turned: list[Frame] = []
    others: list[Frame] = []
    for group in groups.values():
        if len(group) < 3:
            continue
        for frame, projection in _far_from_means(group):
            (turned if projection < 0 else others).append(frame)
    if turned:
        yield Strange(turned, f"{Z} have the other sign than in most frames.", len(frames))
    if others:
        what = f"{Z} are far from those of the same elements in other frames: another unit or order of atoms?"
        yield Strange(others, what, len(frames))


def _far_from_means(held: Sequence[Frame]) -> Iterator[tuple[Frame, float]]:
    """Frames whose charges are far from the medians of the elements, and the scalar product of the two."""
    traces = [np.trace(frame.labels[Z], axis1=1, axis2=2) / 3 for frame in held]
    means = {}
    for number in np.unique(held[0].atomic_numbers):
        of_frames = [one[frame.atomic_numbers == number].mean() for one, frame in zip(traces, held, strict=True)]
        means[int(number)] = float(np.median(of_frames))
    expected = [np.array([means[int(number)] for number in frame.atomic_numbers]) for frame in held]
    distance = np.array([np.sqrt(np.mean((one - guess) ** 2)) for one, guess in zip(traces, expected, strict=True)])
    far = distance > max(_FACTOR * float(np.median(distance)), _LEAST)
    for frame, one, guess, bad in zip(held, traces, expected, far, strict=True):
        if bad:
            yield frame, float(np.dot(one, guess))


def _of_energies(frames: Sequence[Frame]) -> Iterator[Strange]:
    """Frames whose energy is a multiple of that of other frames of the same composition: another unit."""
    groups: dict[tuple[int, ...], list[Frame]] = {}
    for frame in frames:
        if "energy" in frame.labels and not frame.reference:
            numbers, counts = np.unique(frame.atomic_numbers, return_counts=True)
            formula = np.column_stack([numbers, counts // np.gcd.reduce(counts)])
            groups.setdefault(tuple(int(one) for one in formula.ravel()), []).append(frame)
    wrong = []
    for group in groups.values():
        values = np.array([float(frame.labels["energy"]) / len(frame) for frame in group])
        middle = float(np.median(values))
        if len(group) >= 3 and middle:
            off = np.abs(values / middle - 1) > _SHARE
            # Small energies, of a force field or of a zero of their own, may well differ by their size.
            wrong += [frame for frame, bad, value in zip(group, off, values, strict=True) if bad and abs(value - middle) > 1.0]
    if wrong:
        what = "energy is far from that of other frames of its composition: another unit, or a placeholder?"
        yield Strange(wrong, what, len(frames))
