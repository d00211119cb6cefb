"""Frames that belong together: of one compound, one chemical system or one trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import numpy as np
from ase.formula import Formula
from ase.symbols import Symbols
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bec_mace.data.fingerprint import group_identical
from bec_mace.data.frames import Frame
from bec_mace.errors import DataError


def reduced_formula(atomic_numbers: np.ndarray) -> str:
    """Formula of the smallest whole numbers, in Hill's order: ``"O2Si"`` for any number of units of SiO2.

    Args:
        atomic_numbers: Of shape (n_atoms,).
    """
    formula: Formula = Symbols(np.asarray(atomic_numbers)).formula
    return str(formula.reduce()[0].format("hill"))


def chemical_system(atomic_numbers: np.ndarray) -> str:
    """The elements in alphabetic order: ``"O-Si"``."""
    return "-".join(sorted(Symbols(np.unique(atomic_numbers)).species()))


KINDS = {"formula": reduced_formula, "chemical_system": chemical_system}
"""What makes a group by the atoms alone."""


def group_names(frames: Sequence[Frame], group: str) -> list[str]:
    """The name of the group of each frame.

    Args:
        frames: Frames.
        group: ``"formula"``, ``"chemical_system"``, or a key of ``Frame.info``.

    Raises:
        DataError: A frame has no such key.
    """
    if group in KINDS:
        return [KINDS[group](frame.atomic_numbers) for frame in frames]
    return [_value(frame, group) for frame in frames]


def _value(frame: Frame, key: str) -> str:
    if key in frame.info:
        return f"{key} {frame.info[key]}"
    near = get_close_matches(key, [*KINDS, *frame.info], n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    known = f"it has {', '.join(frame.info)}" if frame.info else "it has no such words"
    raise DataError(
        f"{frame.source}: data.group: the frame has no key '{key}' ({known}){hint} "
        f"Give every frame the key, or group by {' or '.join(KINDS)}."
    )


def group_frames(frames: Sequence[Frame], group: str | None) -> list[list[int]]:
    """All frames as positions in ``frames``, grouped, in the order of first appearance.

    Identical structures are together; where they have different values of a key, so are all frames of these values.

    Args:
        frames: Frames.
        group: As for :func:`group_names`; None for identical structures alone.

    Raises:
        DataError: A frame has no such key.
    """
    identical = group_identical(frames)
    if group is None:
        return identical
    by_name: dict[str, list[int]] = {}
    for place, name in enumerate(group_names(frames, group)):
        by_name.setdefault(name, []).append(place)
    return _joined(len(frames), [*identical, *by_name.values()])


def _joined(n: int, groups: Sequence[Sequence[int]]) -> list[list[int]]:
    """Groups of which none shares a number with another."""
    pairs = np.array([(group[0], member) for group in groups for member in group]).reshape(-1, 2)
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    labels = connected_components(links, directed=False)[1]
    joined: dict[int, list[int]] = {}
    for place, label in enumerate(labels.tolist()):
        joined.setdefault(label, []).append(place)
    return list(joined.values())


def check_apart(sets: Mapping[str, Sequence[Frame]], group: str) -> None:
    """Check that no group is in two sets.

    Raises:
        DataError: Naming a frame of each.
    """
    owner: dict[str, tuple[str, Frame]] = {}
    for part, frames in sets.items():
        for name, frame in zip(group_names(frames, group), frames, strict=True):
            first_part, first = owner.setdefault(name, (part, frame))
            if first_part != part:
                raise DataError(
                    f"{first.source} ({first_part}) and {frame.source} ({part}) are both of the group {name}, and data.group "
                    f"is {group}. Give the sets as fractions, or leave one of the frames out."
                )
