"""What a run needs before its first step: frames, checks, statistics, graphs."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from bec_mace.config.schema import DataConfig
from bec_mace.data import Frame, build_graph, split_frames, summarize
from bec_mace.data.graph import Graph
from bec_mace.data.quality.egg_box import EggBox, find_egg_box
from bec_mace.errors import DataError
from bec_mace.properties import PROPERTIES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameSets:
    """The frames of a run by their use.

    Attributes:
        train: With labels as they are trained.
        validation: The same; may be empty.
        test: With labels as in the files; may be empty.
        egg_box: What was removed from the labels of the others.
    """

    train: list[Frame]
    validation: list[Frame]
    test: list[Frame]
    egg_box: EggBox | None = None


def read_frame_sets(config: DataConfig, properties: Sequence[str]) -> FrameSets:
    """Read the files of a configuration, split them, and log what a person should look at.

    Args:
        config: The ``data`` section.
        properties: The trained properties.

    Raises:
        DataError: If a file cannot be used, a trained property is in no training frame, a validation or test frame has
            an element that no training frame has, dipoles of periodic cells are trained, or trained polarizabilities or
            dielectric tensors make no sense.
    """
    sets = split_frames(config, properties=properties)
    elements = elements_of(sets["train"])
    for name in ("validation", "test"):
        check_elements(sets[name], elements, name)
    everything = [frame for frames in sets.values() for frame in frames]
    check_defined(everything, properties)
    frame_sets = FrameSets(sets["train"], sets["validation"], sets["test"])
    if config.egg_box == "remove":
        frame_sets = without_egg_box(frame_sets)
    for message in summarize(frame_sets.train).warnings:
        logger.warning("training frames: %s", message)
    return frame_sets


def without_egg_box(sets: FrameSets) -> FrameSets:
    """Remove the egg-box error of the training labels from them and from the validation labels; test labels are kept."""
    egg_box = find_egg_box(sets.train)
    if egg_box is None:
        logger.warning(
            "data.egg_box: no egg-box error is sure in the %d training frames; their labels are kept", len(sets.train)
        )
        return sets
    logger.info("egg-box error removed from training and validation labels: %s", egg_box.text())
    return replace(sets, train=egg_box.remove(sets.train), validation=egg_box.remove(sets.validation), egg_box=egg_box)


def check_defined(frames: Sequence[Frame], names: Sequence[str]) -> None:
    """Refuse labels that mean nothing: of a property that is not defined for the frame, or whose trace should be positive.

    Raises:
        DataError: At the first such frame.
    """
    for name, frame in itertools.product(names, frames):
        if name not in frame.labels:
            continue
        row = PROPERTIES[name]
        if not row.is_defined(frame.pbc):
            cure = f"train `{row.instead}` instead and name its key in `data.keys`, or " if row.instead else ""
            raise DataError(f"{frame.source}: {row.why}; {cure}leave the frame out")
        if row.error == "relative" and not np.trace(frame.labels[name]) > 0:
            raise DataError(
                f"{frame.source}: {name} has the trace {np.trace(frame.labels[name]):g}, which must be positive; "
                "repair the frame or leave it out"
            )


def elements_of(frames: Sequence[Frame]) -> list[int]:
    """Atomic numbers that occur in the frames, ascending."""
    return sorted({int(number) for frame in frames for number in frame.atomic_numbers})


def check_elements(frames: Sequence[Frame], elements: Sequence[int], part: str) -> None:
    """Refuse frames with elements the model will not know.

    Raises:
        DataError: At the first such frame.
    """
    known = set(elements)
    for frame in frames:
        unknown = sorted({int(number) for number in frame.atomic_numbers} - known)
        if unknown:
            raise DataError(
                f"{frame.source}: this {part} frame holds elements {symbols(unknown)}, which no training frame has "
                f"({symbols(elements)}); add such frames to the training set or leave this one out"
            )


def symbols(numbers: Sequence[int]) -> str:
    """Chemical symbols, for messages: ``"H, O"``."""
    from ase.data import chemical_symbols

    return ", ".join(chemical_symbols[number] for number in numbers)


def build_graphs(
    frames: Sequence[Frame], r_max: float, dtype: torch.dtype, names: Sequence[str], references: Sequence[str] = ()
) -> list[Graph]:
    """Graphs of all frames, kept in memory, with the labels that are trained.

    Energies stay in float64: float32 rounds the total energy of a cell to some meV. ``references`` are the names of those that
    a model has beside its own.
    """
    return [build_training_graph(frame, r_max, dtype, names, references) for frame in frames]


def build_training_graph(
    frame: Frame, r_max: float, dtype: torch.dtype, names: Sequence[str], references: Sequence[str] = ()
) -> Graph:
    """Graph of one frame; see ``build_graphs``."""
    graph = build_graph(frame, r_max, dtype=dtype)
    labels = {name: graph.labels[name] for name in names if name in graph.labels}
    for name in labels:
        if PROPERTIES[name].double:
            value = torch.tensor(frame.labels[name], dtype=torch.float64)
            labels[name] = value if PROPERTIES[name].per == "atom" else value[None]
    number = references.index(frame.reference) + 1 if frame.reference in references else 0
    return replace(
        graph,
        labels=labels,
        masks={name: graph.masks[name] for name in labels},
        weights={name: torch.tensor([weight], dtype=dtype) for name, weight in frame.weights.items() if name in labels},
        reference=torch.tensor([number]),
    )


def element_weights(weights: Mapping[str, float]) -> dict[int, float]:
    """Element weights by atomic number."""
    from ase.data import atomic_numbers

    return {atomic_numbers[symbol]: weight for symbol, weight in weights.items()}
