"""Labels of a size or a sign that cannot be, compared with those of the other frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bec_mace.data.frames import Frame

Z = "born_effective_charges"
LARGEST_STRESS = 1.0
"""eV/Å^3, 160 GPa."""
_FACTOR, _LEAST = 4.0, 0.3
"""How much further from the means of the elements than the median frame, and how far at least, in e."""
_SHARE = 0.2
"""Energies of one composition differ by a few percent at most, in any reference of a program."""


def strange_labels(frames: Sequence[Frame]) -> list[str]:
    """Sentences on labels that look wrong, each with the first frame that it is about."""
    return [*_of_stress(frames), *_of_zeros(frames), *_of_charges(frames), *_of_energies(frames)]


def _sentence(wrong: Sequence[Frame], total: int, what: str) -> str:
    more = f" (and {len(wrong) - 1} more of {total} frames)" if len(wrong) > 1 else ""
    return f"{wrong[0].source}{more}: {what}"


def _of_stress(frames: Sequence[Frame]) -> Iterator[str]:
    wrong = [frame for frame in frames if "stress" in frame.labels and np.abs(frame.labels["stress"]).max() > LARGEST_STRESS]
    if wrong:
        largest = float(np.abs(wrong[0].labels["stress"]).max())
        yield _sentence(
            wrong,
            len(frames),
            f"stress of {largest:.4g} eV/Å^3, {160.2177 * largest:.3g} GPa; is it in kbar (1 kbar = 0.000624 eV/Å^3) or GPa?",
        )


def _of_zeros(frames: Sequence[Frame]) -> Iterator[str]:
    for name in (Z, "forces"):
        held = [frame for frame in frames if name in frame.labels and len(frame) > 1]
        wrong = [frame for frame in held if not frame.labels[name].any()]
        if wrong and len(wrong) < len(held):
            yield _sentence(wrong, len(frames), f"all {name} are zero; a placeholder? Leave the label out of such frames.")


def _of_charges(frames: Sequence[Frame]) -> Iterator[str]:
    """Frames far from the means of the elements: another sign, unit or order of the atoms."""
    held = [frame for frame in frames if Z in frame.labels and frame.labels[Z].any()]
    if len(held) < 3:
        return
    traces = [np.trace(frame.labels[Z], axis1=1, axis2=2) / 3 for frame in held]
    elements = np.unique(np.concatenate([frame.atomic_numbers for frame in held]))
    means = {}
    for number in elements:
        of_frames = [
            one[frame.atomic_numbers == number].mean()
            for one, frame in zip(traces, held, strict=True)
            if number in frame.atomic_numbers
        ]
        means[int(number)] = float(np.median(of_frames))
    expected = [np.array([means[int(number)] for number in frame.atomic_numbers]) for frame in held]
    distance = np.array([np.sqrt(np.mean((one - guess) ** 2)) for one, guess in zip(traces, expected, strict=True)])
    far = distance > max(_FACTOR * float(np.median(distance)), _LEAST)
    turned = [f for f, one, guess, bad in zip(held, traces, expected, far, strict=True) if bad and np.dot(one, guess) < 0]
    others = [f for f, one, guess, bad in zip(held, traces, expected, far, strict=True) if bad and np.dot(one, guess) >= 0]
    if turned:
        yield _sentence(turned, len(frames), f"{Z} have the other sign than in most frames.")
    if others:
        yield _sentence(
            others, len(frames), f"{Z} are far from those of the same elements in other frames: another unit or order of atoms?"
        )


def _of_energies(frames: Sequence[Frame]) -> Iterator[str]:
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
        yield _sentence(
            wrong, len(frames), "energy is far from that of other frames of its composition: another unit, or a placeholder?"
        )
