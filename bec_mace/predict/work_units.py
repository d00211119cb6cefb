"""Units of work, and the outputs of a batch by frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import count
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from bec_mace.data.frames import Frame
from bec_mace.data.labels import TOTAL_CHARGE
from bec_mace.data.sources import Source, content
from bec_mace.errors import ModelError
from bec_mace.properties import PROPERTIES

MAX_ATOMS = 1000
"""Atoms in a unit of work by default; more in a batch are no faster on a CPU. A larger frame makes a unit of its own."""

Sized = TypeVar("Sized", bound=Any)


@dataclass(frozen=True)
class Unit:
    """Consecutive structures that are computed, written and resumed together.

    Which structures share a unit follows from their numbers of atoms alone, so it is the same in every run, on every device
    and with any number of processes.

    Attributes:
        number: Of the unit, counted from 0.
        first: Number of its first structure in the stream.
        sources: The structures.
        digest: Hash of all structures of the stream up to its end.
    """

    number: int
    first: int
    sources: tuple[Source, ...]
    digest: bytes = b""

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all structures."""
        return sum(len(source) for source in self.sources)


def divide(
    sources: Iterable[Source], batch_size: int | str | None, max_atoms: int | None = None, digests: bool = False
) -> Iterator[Unit]:
    """Divide a stream into units.

    Args:
        sources: Structures.
        batch_size: Structures in a unit; ``"auto"`` or None for as many as ``max_atoms`` allows.
        max_atoms: Largest number of atoms; by default ``MAX_ATOMS`` if there is no other limit.
        digests: Whether to keep a hash of the stream.
    """
    limit = None if isinstance(batch_size, str) else batch_size
    if max_atoms is None and limit is None:
        max_atoms = MAX_ATOMS
    digest = blake2b(digest_size=8)
    first = 0
    for number, sources_of_unit in zip(count(), batches(sources, limit, max_atoms), strict=False):
        if digests:
            for source in sources_of_unit:
                for part in content(source):
                    digest.update(part)
        yield Unit(number, first, tuple(sources_of_unit), digest.digest() if digests else b"")
        first += len(sources_of_unit)


def batches(items: Iterable[Sized], batch_size: int | None, max_atoms: int | None) -> Iterator[list[Sized]]:
    """Consecutive structures, as many as both limits allow and at least one."""
    batch: list[Sized] = []
    n_atoms = 0
    for item in items:
        full = (max_atoms is not None and n_atoms + len(item) > max_atoms) or (
            batch_size is not None and len(batch) >= batch_size
        )
        if batch and full:
            yield batch
            batch, n_atoms = [], 0
        batch.append(item)
        n_atoms += len(item)
    if batch:
        yield batch


def check_limits(batch_size: int | str | None, max_atoms: int | None) -> None:
    """Refuse limits that no batch can keep.

    Raises:
        ModelError: One is not positive, or a word other than "auto".
    """
    if isinstance(batch_size, str) and batch_size != "auto":
        raise ModelError(f"batch_size must be a whole number or 'auto', got {batch_size!r}")
    for name, limit in (("batch_size", batch_size), ("max_atoms", max_atoms)):
        if limit is not None and not isinstance(limit, str) and (isinstance(limit, bool) or not isinstance(limit, Integral)):
            raise ModelError(f"{name} must be a whole number, got {limit!r}")
        if limit is not None and not isinstance(limit, str) and limit < 1:
            raise ModelError(f"{name} must be at least 1, got {limit}")


def check_finite(result: Mapping[str, Any], source: str, pbc: Iterable[bool]) -> None:
    """Refuse results that are not numbers where they are defined.

    Args:
        result: Of one frame, by property.
        source: How to name the frame.
        pbc: Its periodic directions.

    Raises:
        ModelError: One is not finite.
    """
    for name, value in result.items():
        defined = name not in PROPERTIES or PROPERTIES[name].is_defined(pbc)
        parts = value.values() if isinstance(value, dict) else [value]
        if defined and not all(np.isfinite(part).all() for part in parts):
            raise ModelError(
                f"{source}: {name} that the model gives is not finite. Look for atoms that are far too close or positions that "
                "are not in Å; if other structures give the same, the model is damaged or diverged in training."
            )


def split_outputs(outputs: dict[str, Any], sizes: list[int]) -> Iterator[dict[str, Any]]:
    """The outputs of a batch by frame, as arrays; ``sizes`` are the numbers of atoms."""
    ends = np.cumsum(sizes)
    arrays = {
        name: {head: to_numpy(part) for head, part in value.items()} if isinstance(value, dict) else to_numpy(value)
        for name, value in outputs.items()
    }
    for number, (size, end) in enumerate(zip(sizes, ends, strict=True)):
        atoms = slice(end - size, end)
        yield {name: _part(name, value, number, atoms) for name, value in arrays.items()}


def to_numpy(value: Tensor) -> np.ndarray:
    """A tensor as an array on the CPU."""
    return value.detach().cpu().numpy()


def _part(name: str, value: Any, number: int, atoms: slice) -> Any:
    if isinstance(value, dict):
        return {head: part[atoms].copy() for head, part in value.items()}
    return value[atoms].copy() if PROPERTIES[name].per == "atom" else value[number].copy()


def unlabelled(frame: Frame) -> Frame:
    """The structure of a frame alone; its charge is part of it."""
    info = {TOTAL_CHARGE: frame.total_charge} if frame.total_charge else {}
    return replace(frame, labels={}, info=info, carried={})
