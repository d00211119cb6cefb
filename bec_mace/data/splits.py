"""Training, validation and test sets that never overlap."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bec_mace.config.data_entries import entries_of, reference_names
from bec_mace.data.fingerprint import group_identical, identical_frames, structure_fingerprint
from bec_mace.data.frames import Frame
from bec_mace.data.labels import check_names
from bec_mace.data.reading import Paths, check_complete, read_frames
from bec_mace.errors import DataError

if TYPE_CHECKING:
    from bec_mace.config.data_entries import DataEntry
    from bec_mace.config.schema import DataConfig, IndexFile

logger = logging.getLogger(__name__)


Choice = float | Sequence[int] | Sequence[Frame] | None
"""A held-out set: a fraction of the frames, their numbers, frames from elsewhere, or none."""


def split_frames(config: DataConfig, *, properties: Collection[str] = ()) -> dict[str, list[Frame]]:
    """Read the frames of a run and divide them into training, validation and test sets.

    All labels of the files are read; the trained ones must be there.

    Args:
        config: The ``data`` section of a run.
        properties: Trained properties. Every frame must have them, but for those in ``config.allow_missing``; these
            must be in some training frame.

    Returns:
        Lists under ``"train"``, ``"validation"`` and ``"test"``.

    Raises:
        DataError: As ``read_frames`` and ``divide_frames``.
    """
    check_names(config.allow_missing, "data.allow_missing")

    def read(paths: Paths, unwanted: Collection[str] = ()) -> list[Frame]:
        strict = [name for name in properties if name not in config.allow_missing and name not in unwanted]
        some = [name for name in properties if name in config.allow_missing and name not in unwanted]
        return read_frames(paths, keys=config.keys, index_order=config.index_order, require=strict, allow_missing=some)

    def resolve(choice: float | str | list[str] | IndexFile | None) -> Choice:
        if choice is None or isinstance(choice, int | float):
            return choice
        return read(choice) if isinstance(choice, str | list) else read_index_file(choice.indices)

    frames, unwanted = _read_entries(config.train, read)
    sets = divide_frames(frames, resolve(config.validation), resolve(config.test), seed=config.seed)
    check_complete(sets["train"], properties, [*config.allow_missing, *unwanted], keys=config.keys)
    return sets


def _read_entries(
    train: str | list[str | DataEntry], read: Callable[[Paths, Collection[str]], list[Frame]]
) -> tuple[list[Frame], set[str]]:
    """The frames of all entries, with what their energies are counted from; and properties that some entries leave out."""
    entries = entries_of(train)
    frames, unwanted = [], set()
    for entry, reference in zip(entries, reference_names(entries), strict=True):
        zero = {name for name, weight in entry.weights.items() if weight == 0}
        unwanted |= zero
        own = read(entry.files, zero)
        if reference or entry.weights:
            own = [_with_entry(frame, reference, entry.weights, zero) for frame in own]
        frames += own
    return frames, unwanted


def _with_entry(frame: Frame, reference: str, weights: Mapping[str, float], zero: Collection[str]) -> Frame:
    kept = {name: value for name, value in frame.labels.items() if name not in zero}
    factors = {name: weight for name, weight in weights.items() if name in kept}
    return replace(frame, labels=kept, reference=reference, weights=factors)


def divide_frames(
    frames: Sequence[Frame], validation: Choice = 0.1, test: Choice = None, *, seed: int = 0
) -> dict[str, list[Frame]]:
    """Divide frames into training, validation and test sets.

    The same frames and seed give the same sets. Identical frames are kept together when the split is by fraction.

    Args:
        frames: What is divided; the training set is what the others leave.
        validation: A fraction of ``frames`` in [0, 1), numbers of frames counted from 0, other frames, or None.
        test: As ``validation``.
        seed: Of the random choice by fraction.

    Returns:
        Lists under ``"train"``, ``"validation"`` and ``"test"``, each in the order of its source.

    Raises:
        DataError: Two sets share a frame or an identical structure, a number that is out of range, or an empty set.
    """
    choices = {"validation": validation, "test": test}
    taken = {name: _numbers(choice, len(frames), name) for name, choice in choices.items()}
    _check_numbers(taken, frames)
    _draw({name: choice for name, choice in choices.items() if isinstance(choice, int | float)}, taken, frames, seed)
    held_out = taken["validation"] | taken["test"]
    sets = {"train": [frame for number, frame in enumerate(frames) if number not in held_out]}
    for name, choice in choices.items():
        outside = [item for item in choice if isinstance(item, Frame)] if isinstance(choice, Sequence) else []
        sets[name] = [frames[number] for number in sorted(taken[name])] + outside
    if not sets["train"]:
        raise DataError(
            f"No frames are left for training: {len(frames)} were read and all are held out. "
            "Lower the fractions or give more frames."
        )
    check_overlap(sets)
    return sets


def read_index_file(path: str | Path) -> list[int]:
    """Read frame numbers: a JSON list, or whole numbers parted by white space, with comments after ``#``.

    Raises:
        DataError: The file is not there, or holds something else.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read the frame numbers ({error}).") from error
    try:
        if text.lstrip().startswith("["):
            values: list[Any] = json.loads(text)
        else:
            values = [int(word) for line in text.splitlines() for word in line.split("#")[0].split()]
    except ValueError as error:
        raise DataError(f"{path}: not a list of frame numbers ({error}). Write one whole number a line.") from error
    if not all(type(value) is int for value in values):
        raise DataError(f"{path}: frame numbers must be whole numbers.")
    if not values:
        raise DataError(f"{path}: no frame numbers in this file.")
    return values


def check_overlap(sets: Mapping[str, Sequence[Frame]]) -> None:
    """Check that no structure is in two sets; warn of structures that are twice in one.

    Raises:
        DataError: Naming both frames.
    """
    owner: dict[str, tuple[str, Frame]] = {}
    for name, frames in sets.items():
        for frame in frames:
            first_name, first = owner.setdefault(structure_fingerprint(frame), (name, frame))
            if first_name != name:
                raise DataError(
                    f"{first.source} ({first_name}) and {frame.source} ({name}) are identical. "
                    "Leave one out: a model must not be tested on what it was trained on."
                )
    for name, frames in sets.items():
        twins = identical_frames(frames)
        if twins:
            one, other = (frames[index].source for index in twins[0][:2])
            logger.warning(
                "%s set: %d structures occur more than once (first: %s and %s). Each copy counts in the loss.",
                name,
                len(twins),
                one,
                other,
            )


def _numbers(choice: Choice, n_frames: int, name: str) -> set[int]:
    """Numbers that a choice names, checked; empty for the other kinds of choice."""
    if choice is None:
        return set()
    if isinstance(choice, int | float):
        if not 0 <= choice < 1:
            raise DataError(f"{name}: a fraction must be at least 0 and below 1, got {choice}.")
        return set()
    kinds = {isinstance(item, Frame) for item in choice}
    if len(kinds) != 1:
        raise DataError(f"{name}: needs frames or frame numbers, got {'both' if kinds else 'neither'}.")
    if kinds == {True}:
        return set()
    numbers = [int(number) for number in cast(Sequence[int], choice)]
    seen: set[int] = set()
    for number in numbers:
        if not 0 <= number < n_frames:
            raise DataError(f"{name}: frame number {number} is out of range; there are {n_frames} frames, counted from 0.")
        if number in seen:
            raise DataError(f"{name}: frame number {number} is named twice. Name it once.")
        seen.add(number)
    return seen


def _check_numbers(taken: Mapping[str, set[int]], frames: Sequence[Frame]) -> None:
    both = taken["validation"] & taken["test"]
    if both:
        number = min(both)
        raise DataError(f"Frame number {number} ({frames[number].source}) is in validation and in test. Name it in one.")


def _draw(fractions: Mapping[str, float], taken: dict[str, set[int]], frames: Sequence[Frame], seed: int) -> None:
    """Draw the sets that are given by fraction, in place; identical structures stay together."""
    quota = {name: max(1, round(fraction * len(frames))) for name, fraction in fractions.items() if fraction > 0}
    named = {number for numbers in taken.values() for number in numbers}
    # A structure that is named by number somewhere is not drawn elsewhere.
    groups = [group for group in group_identical(frames) if not named.intersection(group)]
    order = iter(np.random.default_rng(seed).permutation(len(groups)))
    for name, count in quota.items():
        for index in order:
            taken[name].update(groups[index])
            if len(taken[name]) >= count:
                break
        if not taken[name]:
            raise DataError(
                f"{name}: a fraction of {fractions[name]} of {len(frames)} frames leaves no frame for it. "
                "Give more frames, or files of their own."
            )
