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
from bec_mace.data.fingerprint import identical_frames, structure_fingerprint
from bec_mace.data.frames import Frame
from bec_mace.data.groups import check_apart, group_frames
from bec_mace.data.labels import check_names
from bec_mace.data.reading import Paths, check_complete, read_frames
from bec_mace.errors import DataError, SettingError

if TYPE_CHECKING:
    from bec_mace.config.data_entries import DataEntry
    from bec_mace.config.schema import DataConfig, IndexFile

logger = logging.getLogger(__name__)


Choice = float | Sequence[int] | Sequence[Frame] | None
"""A held-out set: a fraction of the frames, their numbers, frames from elsewhere, or none."""

ORDERS = 100
"""Random orders of the groups that are tried for sets that come nearest to their fractions."""


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
    sets = divide_frames(frames, resolve(config.validation), resolve(config.test), seed=config.seed, group=config.group)
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
    frames: Sequence[Frame], validation: Choice = 0.1, test: Choice = None, *, seed: int = 0, group: str | None = None
) -> dict[str, list[Frame]]:
    """Divide frames into training, validation and test sets.

    The same frames and seed give the same sets. Identical frames are kept together when the split is by fraction.

    Args:
        frames: What is divided; the training set is what the others leave.
        validation: A fraction of ``frames`` in [0, 1), numbers of frames counted from 0, other frames, or None.
        test: As ``validation``.
        seed: Of the random choice by fraction.
        group: What must be in one set alone, as for :func:`~bec_mace.data.groups.group_names`; None for nothing beside
            identical structures. Fractions are then met as nearly as whole groups allow.

    Returns:
        Lists under ``"train"``, ``"validation"`` and ``"test"``, each in the order of its source.

    Raises:
        DataError: Two sets share a frame, an identical structure or a group, a number that is out of range, or an empty set.
        SettingError: There are fewer groups than sets.
    """
    choices = {"validation": validation, "test": test}
    taken = {name: _numbers(choice, len(frames), name) for name, choice in choices.items()}
    _check_numbers(taken, frames)
    fractions = {name: choice for name, choice in choices.items() if isinstance(choice, int | float) and choice > 0}
    if group is None:
        _draw(fractions, taken, frames, seed)
    elif fractions:
        _draw_groups(fractions, taken, frames, seed, group)
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
    if group is not None:
        check_apart(sets, group)
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


def _quotas(fractions: Mapping[str, float], n_frames: int) -> dict[str, int]:
    return {name: max(1, round(fraction * n_frames)) for name, fraction in fractions.items()}


def _free_groups(taken: Mapping[str, set[int]], frames: Sequence[Frame], group: str | None) -> list[list[int]]:
    """Groups to draw from: what is named by number somewhere is not drawn elsewhere."""
    named = {number for numbers in taken.values() for number in numbers}
    return [members for members in group_frames(frames, group) if not named.intersection(members)]


def _draw(fractions: Mapping[str, float], taken: dict[str, set[int]], frames: Sequence[Frame], seed: int) -> None:
    """Draw the sets that are given by fraction, in place; identical structures stay together."""
    groups = _free_groups(taken, frames, None)
    order = iter(np.random.default_rng(seed).permutation(len(groups)))
    for name, count in _quotas(fractions, len(frames)).items():
        for index in order:
            taken[name].update(groups[index])
            if len(taken[name]) >= count:
                break
        if not taken[name]:
            raise DataError(
                f"{name}: a fraction of {fractions[name]} of {len(frames)} frames leaves no frame for it. "
                "Give more frames, or files of their own."
            )


def _draw_groups(
    fractions: Mapping[str, float], taken: dict[str, set[int]], frames: Sequence[Frame], seed: int, group: str
) -> None:
    """Draw the sets that are given by fraction from whole groups, in place, and say what came of it."""
    groups = _free_groups(taken, frames, group)
    sizes, quotas = [len(members) for members in groups], _quotas(fractions, len(frames))
    if len(groups) < len(quotas) + 1:
        raise SettingError(
            ("data", "group"),
            f"{len(frames)} frames are of {len(groups)} free group{'' if len(groups) == 1 else 's'} by {group}, too few for "
            f"{len(quotas) + 1} sets (train, {', '.join(quotas)}); give more frames, another group, or files of their own",
        )
    for name, chosen in _nearest(quotas, sizes, seed).items():
        taken[name].update(number for index in chosen for number in groups[index])
        logger.info(
            "%s: %d of %d frames (%.1f %%; %.1f %% were asked for), %d of %d groups by %s",
            name,
            len(taken[name]),
            len(frames),
            100 * len(taken[name]) / len(frames),
            100 * fractions[name],
            len(chosen),
            len(groups),
            group,
        )


def _nearest(quotas: Mapping[str, int], sizes: Sequence[int], seed: int) -> dict[str, list[int]]:
    """Groups for each set, from the first of the random orders that comes nearest to all quotas."""
    generator = np.random.default_rng(seed)
    best: dict[str, list[int]] = {}
    least = float("inf")
    for _ in range(ORDERS):
        drawn = _fill(quotas, sizes, generator.permutation(len(sizes)).tolist())
        missed = sum(abs(sum(sizes[index] for index in drawn[name]) - count) for name, count in quotas.items())
        if missed < least:
            best, least = drawn, missed
        if least == 0:
            break
    return best


def _fill(quotas: Mapping[str, int], sizes: Sequence[int], order: Sequence[int]) -> dict[str, list[int]]:
    """Groups for each set, in an order: each that brings the set nearer to its quota; at least one is left to the rest."""
    left = list(order)
    drawn: dict[str, list[int]] = {}
    for waiting, (name, count) in zip(range(len(quotas), 0, -1), quotas.items(), strict=True):
        chosen: list[int] = []
        gap = count
        for index in left:
            if len(left) - len(chosen) > waiting and abs(gap - sizes[index]) < abs(gap):
                chosen.append(index)
                gap -= sizes[index]
        drawn[name] = chosen or [min(left, key=lambda index: sizes[index])]
        mine = set(drawn[name])
        left = [index for index in left if index not in mine]
    return drawn
