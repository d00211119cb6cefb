"""Labels of one structure: which keys hold them, and how they come into one shape and one index order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from bec_mace.errors import DataError
from bec_mace.properties import PROPERTIES, Property

if TYPE_CHECKING:
    from ase import Atoms

INDEX_ORDERS = ("polarization_first", "displacement_first")

# These mean something slightly different from the property. They stand in when nothing better is there, and never
# contradict it.
_FALLBACK_KEYS = frozenset({"free_energy", "initial_charges"})

# Voigt order of ASE: xx, yy, zz, yz, xz, xy.
_VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])


def check_names(names: Collection[str], option: str) -> None:
    """Raise a DataError when a name is no known property."""
    for name in names:
        if name not in PROPERTIES:
            close = get_close_matches(name, PROPERTIES, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known properties: {', '.join(PROPERTIES)}."
            raise DataError(f"{option}: {name!r} is no property. {hint}")


def check_index_order(index_order: str) -> None:
    """Raise a DataError when the index order is unknown."""
    if index_order not in INDEX_ORDERS:
        raise DataError(f"index_order: {index_order!r} is unknown. Use {INDEX_ORDERS[0]!r} or {INDEX_ORDERS[1]!r}.")


def extract_labels(
    atoms: Atoms,
    source: str,
    *,
    keys: Mapping[str, str] | None = None,
    index_order: str = "polarization_first",
    properties: Collection[str] | None = None,
    left_out: MutableMapping[str, str] | None = None,
    needed: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Find the labels of a structure, in the shapes and units of ``PROPERTIES``.

    Args:
        atoms: Structure; ASE moves some keys to calculator results, so arrays, info and results are all searched.
        source: How messages name the structure.
        keys: Key by property name; replaces the known aliases of that property, and is taken from all others.
        index_order: Order of the indices of Born effective charges in the file.
        properties: Names to look for; all when None.
        left_out: Takes the names of labels with different values under two keys, and what is to be said of it, in place of
            an error.
        needed: Names of which it is an error all the same.

    Returns:
        Labels by property name, float64.

    Raises:
        DataError: Two keys with different values, values that are not numbers or not finite, or a wrong shape.
    """
    keys = keys or {}
    check_names(keys, "keys")
    check_names(properties or (), "properties")
    check_index_order(index_order)
    claimed = set(keys.values())
    labels = {}
    for name in PROPERTIES if properties is None else properties:
        row = PROPERTIES[name]
        aliases = (keys[name],) if name in keys else tuple(key for key in row.keys if key not in claimed)
        try:
            value = _pick(list(_found(atoms, row, aliases, source)), name, source)
        except _TwoValues as error:
            if left_out is None or name in needed:
                raise
            left_out.setdefault(name, str(error))
            continue
        if value is not None:
            labels[name] = value
    if index_order == "displacement_first" and "born_effective_charges" in labels:
        labels["born_effective_charges"] = np.ascontiguousarray(labels["born_effective_charges"].swapaxes(-1, -2))
    return labels


def file_keys(atoms: Atoms) -> set[str]:
    """All keys under which a structure stores something other than its geometry."""
    return (set(atoms.arrays) - {"numbers", "positions"}) | set(atoms.info) | set(_results(atoms))


_OF_ASE = frozenset(
    {"momenta", "masses", "tags", "initial_magmoms", "spacegroup", "unit_cell", "occupancy", "spacegroup_kinds", "numbers"}
)


def unread_keys(atoms: Atoms, keys: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Keys of a structure that hold numbers which are no label, such as a virial; sorted."""
    known = {key for row in PROPERTIES.values() for key in row.keys} | set((keys or {}).values())
    return tuple(sorted(file_keys(atoms) - known - _OF_ASE - set(metadata(atoms, keys))))


TOTAL_CHARGE = "total_charge"
"""The key of the charge of a structure, in e."""


def metadata(atoms: Atoms, keys: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Scalars and words of a structure that are not labels."""
    known = {key for row in PROPERTIES.values() for key in row.keys} | set((keys or {}).values())
    return {
        key: value
        for key, value in atoms.info.items()
        if key not in known and (isinstance(value, str | bool | int | float | np.generic) or key == TOTAL_CHARGE)
    }


_WRITABLE = (np.ndarray, np.generic, str, int, float, list)


def carried_along(atoms: Atoms) -> dict[str, dict[str, Any]]:
    """What a structure has beside its geometry, its scalar metadata and labels; former predictions are left out."""
    labels = {key for row in PROPERTIES.values() for key in (row.predicted_key, *row.keys)}
    known = {"numbers", "positions"} | labels
    kept = metadata(atoms)
    arrays = {key: value for key, value in atoms.arrays.items() if key not in known}
    held = _held_in_place(atoms)
    return {
        "arrays": arrays if held is None else {**arrays, "move_mask": held},
        "info": {
            key: value
            for key, value in atoms.info.items()
            if key not in kept and key not in labels and isinstance(value, _WRITABLE)
        },
        "results": {key: value for key, value in _results(atoms).items() if value is not None and key not in labels},
    }


def _held_in_place(atoms: Atoms) -> np.ndarray | None:
    """Which coordinates may move, 1 or 0, of shape (n_atoms,) or (n_atoms, 3); None where all may."""
    from ase.constraints import FixAtoms, FixCartesian

    if not atoms.constraints:
        return None
    free = np.ones((len(atoms), 3), dtype=np.int64)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            free[constraint.index] = 0
        elif isinstance(constraint, FixCartesian):
            free[constraint.index] = np.where(constraint.mask, 0, free[constraint.index])
    if free.all():
        return None
    return free[:, 0] if (free == free[:, :1]).all() else free


def give_back(atoms: Atoms, carried: Mapping[str, Mapping[str, Any]]) -> None:
    """Give a structure what :func:`carried_along` took."""
    from ase.calculators.singlepoint import SinglePointCalculator

    for key, value in carried["arrays"].items():
        atoms.set_array(key, value)
    atoms.info.update(carried["info"])
    if carried["results"]:
        atoms.calc = SinglePointCalculator(atoms, **carried["results"])


def _results(atoms: Atoms) -> Mapping[str, Any]:
    return getattr(atoms.calc, "results", None) or {}


def _found(atoms: Atoms, row: Property, aliases: tuple[str, ...], source: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (key, value) for each place that holds the property, in the order of the aliases."""
    for key in aliases:
        for store in (atoms.arrays, atoms.info, _results(atoms)):
            if key in store and store[key] is not None:
                value = _shaped(store[key], row, key, len(atoms), source)
                if value is not None:
                    yield key, value


class _TwoValues(DataError):
    """One label has different values under two keys."""


def _pick(candidates: list[tuple[str, np.ndarray]], name: str, source: str) -> np.ndarray | None:
    """The one value of a property, or None."""
    if not candidates:
        return None
    best = [item for item in candidates if item[0] not in _FALLBACK_KEYS] or candidates
    first_key, value = best[0]
    for key, other in best[1:]:
        if not np.allclose(value, other, rtol=1e-10, atol=1e-10):
            where = f"{first_key!r} and {key!r}" if key != first_key else f"{key!r} in two places"
            raise _TwoValues(
                f"{source}: two different values of {name}, {where}. "
                f"Choose one in the configuration: keys: {{{name}: {first_key}}}."
            )
    return value


def _shaped(raw: Any, row: Property, key: str, n_atoms: int, source: str) -> np.ndarray | None:
    """Bring one stored value into the shape of its property; None where all of it is NaN, which says that there is none."""
    try:
        value = np.array(raw, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{source}: {key!r} ({row.name}) must hold numbers, got {str(raw)[:40]!r}.") from error
    expected = (n_atoms, *row.shape) if row.per == "atom" else row.shape
    lead = expected[: len(expected) - len(row.shape)]
    if row.name == "stress" and value.shape == (6,):
        value = value[_VOIGT]
    flat = (*lead, int(np.prod(row.shape)))
    # One atom and one number lose an axis in some formats.
    if value.shape != expected and (value.shape == flat or value.shape == flat[len(lead) :] and n_atoms == 1):
        value = value.reshape(expected)
    elif value.shape == () and expected == (1,):
        value = value.reshape(1)
    if value.shape != expected:
        columns = f" or {flat}" if row.shape else ""
        raise DataError(f"{source}: {key!r} ({row.name}) must have shape {expected}{columns}, got {value.shape}.")
    if np.isnan(value).all():
        return None
    if not np.isfinite(value).all():
        where = f" at atom {np.argwhere(~np.isfinite(value))[0][0]}" if row.per == "atom" else ""
        raise DataError(f"{source}: {key!r} ({row.name}) is not finite{where}. Repair the frame or leave it out.")
    return value
