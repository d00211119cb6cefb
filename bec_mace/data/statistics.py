"""What a model must know of the training frames before it sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase.data import chemical_symbols

from bec_mace.data.frames import Frame
from bec_mace.data.neighbours import find_neighbours
from bec_mace.errors import DataError

# The mean number of neighbours needs no more frames than this.
_MAX_FRAMES = 1000


@dataclass(frozen=True)
class Statistics:
    """Scales and references from the training frames.

    Attributes:
        avg_num_neighbors: Mean number of neighbours of an atom within r_max.
        reference_charges: Mean of tr Z / 3 by atomic number, in e; empty without Born effective charges.
        reference_energies: Energy per atom by atomic number, in eV, by least squares; empty without energies.
        rms_forces: Root mean square of the force components, in eV/Å; None without forces.
        shortest_distances: Two atomic numbers, ascending, and how close such atoms come, in Å, for each pair of elements that
            is within r_max somewhere; empty without energies and forces.
        own_reference_energies: For data whose energies are counted from elsewhere, by name, energies per atom over
            ``reference_energies``, by atomic number, in eV.
    """

    avg_num_neighbors: float
    reference_charges: dict[int, float]
    reference_energies: dict[int, float]
    rms_forces: float | None
    shortest_distances: tuple[tuple[int, int, float], ...] = ()
    own_reference_energies: dict[str, dict[int, float]] = field(default_factory=dict)


def compute_statistics(frames: Sequence[Frame], r_max: float | None) -> Statistics:
    """Compute the statistics of the training frames.

    Args:
        frames: Training frames.
        r_max: Cutoff of the model, in Å. None where the model does not ask for the number of neighbours, which is then 1.

    Raises:
        DataError: There are no frames.
    """
    if not frames:
        raise DataError("Statistics need at least one frame, got none.")
    energies = fit_references(frames)
    return Statistics(
        avg_num_neighbors=1.0 if r_max is None else mean_neighbours(frames, r_max),
        reference_charges=mean_charges(frames),
        reference_energies=energies.pop("", {}),
        rms_forces=_rms_forces(frames),
        shortest_distances=shortest_distances(frames, r_max) if r_max is not None and _has_energies(frames) else (),
        own_reference_energies=energies,
    )


def fit_references(frames: Sequence[Frame]) -> dict[str, dict[int, float]]:
    """Energies per atom by atomic number, in eV, those of the model under ``""``; others, by their name, over these."""
    names = sorted({frame.reference for frame in frames})
    shared = fit_energies([frame for frame in frames if not frame.reference])
    found = {"": shared}
    for name in names:
        if name:
            own = fit_energies([frame for frame in frames if frame.reference == name])
            found[name] = {z: energy - shared.get(z, 0.0) for z, energy in own.items()}
    return found


def _has_energies(frames: Sequence[Frame]) -> bool:
    return any({"energy", "forces"} & set(frame.labels) for frame in frames)


def shortest_distances(frames: Sequence[Frame], r_max: float) -> tuple[tuple[int, int, float], ...]:
    """How close atoms of each pair of elements come, in Å; pairs that are never within r_max are left out."""
    distances: dict[tuple[int, int], float] = {}
    for frame in frames:
        edges = find_neighbours(frame, r_max)
        vectors = frame.positions[edges.receiver] - frame.positions[edges.sender] - edges.shifts @ frame.cell
        lengths, numbers = np.linalg.norm(vectors, axis=1), frame.atomic_numbers
        first = np.minimum(numbers[edges.receiver], numbers[edges.sender])
        second = np.maximum(numbers[edges.receiver], numbers[edges.sender])
        for pair in {(int(a), int(b)) for a, b in zip(first, second, strict=True)}:
            shortest = float(lengths[(first == pair[0]) & (second == pair[1])].min())
            distances[pair] = min(shortest, distances.get(pair, shortest))
    return tuple((*pair, distances[pair]) for pair in sorted(distances))


def mean_neighbours(frames: Sequence[Frame], r_max: float) -> float:
    """Mean number of neighbours of an atom within r_max, from at most 1000 frames spread evenly."""
    step = -(-len(frames) // _MAX_FRAMES)
    chosen = frames[::step]
    edges = sum(len(find_neighbours(frame, r_max).sender) for frame in chosen)
    return edges / sum(len(frame) for frame in chosen)


def mean_charges(frames: Sequence[Frame]) -> dict[int, float]:
    """Mean of tr Z / 3 by atomic number, in e: the best isotropic charge of each element in the least-squares sense."""
    labelled = [frame for frame in frames if "born_effective_charges" in frame.labels]
    if not labelled:
        return {}
    numbers = np.concatenate([frame.atomic_numbers for frame in labelled])
    traces = np.concatenate([np.trace(frame.labels["born_effective_charges"], axis1=1, axis2=2) for frame in labelled])
    return {int(number): float(traces[numbers == number].mean() / 3) for number in np.unique(numbers)}


def fit_energies(frames: Sequence[Frame]) -> dict[int, float]:
    """Energy per atom by atomic number, in eV.

    Least squares of E_frame = sum_i e_{Z_i}. Where the compositions do not tell the elements apart, as in a set of
    one compound, it is the solution of smallest norm.
    """
    labelled = [frame for frame in frames if "energy" in frame.labels]
    if not labelled:
        return {}
    elements = np.unique(np.concatenate([frame.atomic_numbers for frame in labelled]))
    counts = np.array([(frame.atomic_numbers[:, None] == elements).sum(axis=0) for frame in labelled], dtype=np.float64)
    energies = np.array([frame.labels["energy"] for frame in labelled])
    solution = np.linalg.lstsq(counts, energies, rcond=None)[0]
    return {int(number): float(energy) for number, energy in zip(elements, solution, strict=True)}


def _rms_forces(frames: Sequence[Frame]) -> float | None:
    forces = [frame.labels["forces"] for frame in frames if "forces" in frame.labels]
    return float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else None


def structures_by_element(frames: Iterable[Frame]) -> dict[str, int]:
    """Number of frames that hold each element, by symbol in the order of the periodic table."""
    counts = Counter(int(z) for frame in frames for z in np.unique(frame.atomic_numbers))
    return {chemical_symbols[z]: counts[z] for z in sorted(counts)}
