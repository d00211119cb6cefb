"""What a head is told of the features it will read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Features:
    """Sizes of the features and of the readouts.

    Attributes:
        n_layers: Number of layers.
        n_channels: Channels of every irrep.
        components: Where the components of each irrep ("0e", "1o") stand.
        n_radial: Number of radial basis functions of an edge.
        readout_mlp: Hidden units of the last layer's readouts.
        elements: Atomic numbers that the model knows.
        reference_energies: Energy of an isolated atom of each element, in eV.
        energy_scale: Typical size of an energy per atom, in eV.
        shortest_distances: Of pairs of elements in the training frames, (n_elements, n_elements), in Å; empty if not known.
        mace_readouts: Hidden units of the energy readout of each layer of a mace model; None for a network of our own.
        mace_gate: Their nonlinearity.
        mace_zbl: Power, exponent and prefactor of the pair repulsion of a mace model.
        reference_charges: Charge of an atom of each element to start from, in e; empty where nothing is known.
        r_max: Cutoff radius, in Å.
        own_references: For energies that are counted from elsewhere, by name, the energy of an atom of each element over
            ``reference_energies``, in eV.
    """

    n_layers: int
    n_channels: int
    components: Mapping[str, slice]
    n_radial: int
    readout_mlp: tuple[int, ...]
    elements: tuple[int, ...]
    reference_energies: tuple[float, ...]
    energy_scale: float
    shortest_distances: tuple[tuple[float, ...], ...] = ()
    mace_readouts: tuple[tuple[int, ...] | None, ...] | None = None
    mace_gate: str = "silu"
    mace_zbl: tuple[int, float, float] | None = None
    reference_charges: tuple[float, ...] = ()
    r_max: float = math.inf
    own_references: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
