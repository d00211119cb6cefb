"""Small structures and small models with random weights."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from bec_mace.config.schema import ModelConfig
from bec_mace.data import Frame, Statistics
from bec_mace.models import CommitteeModel, PolarizationModel, build_kernel_model, build_model

ELEMENTS = (1, 6, 8)

# Fresh weights give small and nearly isotropic tensors, which would hide errors.
_GAINS = {"charge_transfer": 1.6, "direct": 6.0, "polarizability": 1.0}

ALL_HEADS = ("monopole", "charge_transfer", "dipole", "direct")
HEAD_SETS = (
    ("monopole",),
    ("dipole",),
    ("charge_transfer",),
    ("direct",),
    ("monopole", "dipole"),
    ("monopole", "charge_transfer", "dipole"),
    ALL_HEADS,
)


def make_frame(numbers: list[int], positions: object, cell: object = None, pbc: object = False) -> Frame:
    return Frame(
        atomic_numbers=np.array(numbers, dtype=np.int64),
        positions=np.array(positions, dtype=np.float64),
        cell=np.zeros((3, 3)) if cell is None else np.array(cell, dtype=np.float64),
        pbc=np.broadcast_to(np.array(pbc, dtype=bool), (3,)).copy(),
    )


def rocksalt() -> Frame:
    """Primitive cell of two atoms, lattice vectors of 2.40 Å, one atom displaced."""
    cell = 1.7 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    return make_frame([6, 8], [[0.0, 0.0, 0.0], [1.82, 1.63, 1.75]], cell, True)


def triclinic_pair() -> Frame:
    """Two atoms in a triclinic cell with lattice vectors of 2.30 to 2.48 Å."""
    cell = [[2.4, 0.2, -0.1], [0.6, 2.2, 0.3], [-0.4, 0.5, 2.4]]
    return make_frame([8, 1], [[0.1, 0.2, 0.3], [1.3, 1.6, 1.1]], cell, True)


def slab() -> Frame:
    """Periodic along two directions; the third lattice vector is zero."""
    cell = [[2.4, 0.3, 0.1], [-0.5, 2.6, 0.2], [0.0, 0.0, 0.0]]
    return make_frame([6, 8, 1], [[0.0, 0.0, 0.0], [1.3, 1.1, 0.9], [0.4, 1.2, 2.0]], cell, (True, True, False))


def wire() -> Frame:
    """Periodic along the second lattice vector alone."""
    cell = [[9.0, 0.0, 0.0], [0.3, 2.2, 0.4], [0.0, 0.0, 0.0]]
    return make_frame([8, 6, 1], [[0.2, 0.1, 0.3], [1.1, 1.2, -0.4], [-0.7, 0.6, 0.8]], cell, (False, True, False))


def molecule() -> Frame:
    positions = [[0.0, 0.1, 0.0], [1.2, 0.0, 0.2], [-0.5, 0.9, 0.3], [-0.6, -0.8, -0.4], [1.9, 0.8, -0.3],
                 [0.2, 0.3, 1.4]]
    return make_frame([6, 8, 1, 1, 1, 6], positions)


def atom() -> Frame:
    """One atom without neighbours."""
    return make_frame([8], [[0.3, -0.2, 0.1]])


def triclinic() -> Frame:
    """Six atoms in a triclinic cell smaller than twice the cutoff, without any symmetry."""
    cell = np.array([[3.6, 0.3, -0.2], [0.7, 3.2, 0.4], [-0.5, 0.6, 4.1]])
    fractions = np.array([[0.02, 0.05, 0.04], [0.41, 0.37, 0.12], [0.11, 0.62, 0.48], [0.69, 0.13, 0.55],
                          [0.58, 0.71, 0.74], [0.23, 0.28, 0.83]])
    return make_frame([6, 8, 1, 8, 6, 1], fractions @ cell, cell, True)


PERIODIC = {"rocksalt": rocksalt, "triclinic_pair": triclinic_pair, "slab": slab, "wire": wire}
FRAMES = {**PERIODIC, "triclinic": triclinic, "molecule": molecule, "atom": atom}


def copy_model(model: PolarizationModel, dtype: torch.dtype | None = None) -> PolarizationModel:
    """A second model with the same weights, free to change."""
    if isinstance(model, CommitteeModel):
        return CommitteeModel([copy_model(member, dtype) for member in model.networks])
    with torch.random.fork_rng(devices=[]):
        build = build_kernel_model if model.config.kind == "kernel" else build_model
        copy = build(model.config, ELEMENTS, model.statistics, dtype or model.reference_charges.dtype)
    copy.load_state_dict(model.state_dict())
    return copy


@cache
def make_model(
    heads: tuple[str, ...],
    num_interactions: int = 2,
    acoustic_sum_rule: str | None = "none",
    dtype: torch.dtype = torch.float64,
    r_max: float = 2.6,
    **sizes: object,
) -> PolarizationModel:
    """A model with random weights that depend on the sizes alone. Do not change it: it is shared."""
    small = {"channels": 3, "max_l": 2, "correlation": 2, "num_radial": 4, "radial_mlp": (8,), "readout_mlp": (5,)}
    sizes = {**small, **sizes}
    config = ModelConfig.model_validate({
        **{name: list(value) if isinstance(value, tuple) else value for name, value in sizes.items()},
        "r_max": r_max, "heads": list(heads), "num_interactions": num_interactions,
        "acoustic_sum_rule": acoustic_sum_rule})
    statistics = Statistics(
        avg_num_neighbors=1.5, reference_charges={1: 0.3, 6: 0.15, 8: -0.5},
        reference_energies={1: -1.1, 6: -2.7, 8: -4.3}, rms_forces=0.7)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(7)
        model = build_model(config, ELEMENTS, statistics, torch.float64)
        for name, head in model.heads.items():
            # The same weights in every head set: the oracle of all heads together then serves all sets.
            torch.manual_seed(len(name))
            for module in head.modules():
                if isinstance(module, torch.nn.Linear):
                    module.reset_parameters()
            for parameter in head.parameters():
                parameter.mul_(_GAINS.get(name, 3.0))
    return model.to(dtype)
