"""Checks that every model must pass, whatever its heads.

Each check takes a model in float64 and raises AssertionError with the largest error. A new head is covered by adding
its name to ``MODELS`` in test_kit.py; ``CHECKS`` lists the checks by name.

A transposed Z* rotates like a right one, so no symmetry can notice the wrong index order; ``derivative_of_dipole``
does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from bec_mace.data import Frame, Graph, build_graph, collate
from bec_mace.models import PolarizationModel

from .systems import copy_model, make_frame, molecule, slab, triclinic, triclinic_pair, wire

TOLERANCE = 1e-10
# How much a rotation by a random matrix changes each property: number of vector indices.
_RANK = {"born_effective_charges": 2, "charges": 0, "energy": 0, "forces": 1, "stress": 2, "polarizability": 2}
_OF_FRAMES = ("energy", "stress", "polarizability")
_EXTENSIVE = ("energy", "polarizability")


def evaluate(
    model: PolarizationModel, *frames: Frame, dtype: torch.dtype = torch.float64, create_graph: bool = False
) -> dict[str, Tensor]:
    """All properties of the model that do not depend on the origin, of a batch of frames."""
    graph = collate([build_graph(frame, model.r_max, dtype) for frame in frames])
    periodic = all(frame.pbc.all() for frame in frames)
    names = [name for name in _RANK if name in model.provides and (name != "stress" or periodic)]
    return model(graph, names, create_graph)


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = TOLERANCE) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].shape == value.shape, name
        error = (actual[name] - value).abs().max().item()
        assert error < tolerance, f"{name}: largest error {error:.1e}"


def pick(values: dict[str, Tensor], atoms: object) -> dict[str, Tensor]:
    """Per-atom properties of some atoms; properties of frames are left out."""
    return {name: value[atoms] for name, value in values.items() if name not in _OF_FRAMES}


def move(frame: Frame, positions: np.ndarray, cell: np.ndarray | None = None) -> Frame:
    return replace(frame, positions=positions, cell=frame.cell if cell is None else cell)


def random_rotation(seed: int = 3) -> np.ndarray:
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix * np.sign(np.linalg.det(matrix))


def transform(values: dict[str, Tensor], matrix: np.ndarray) -> dict[str, Tensor]:
    """Apply an orthogonal matrix to every vector index."""
    q = torch.tensor(matrix)
    out = {}
    for name, value in values.items():
        rank = _RANK[name]
        out[name] = value if rank == 0 else value @ q.T if rank == 1 else q @ value @ q.T
    return out


def check_rotation(model: PolarizationModel) -> None:
    """Z* -> R Z* R^T, with tensors that are not symmetric, in triclinic cells and slabs."""
    rotation = random_rotation()
    for frame in (triclinic(), slab(), molecule()):
        before = evaluate(model, frame)
        z = before["born_effective_charges"]
        assert (z - z.transpose(1, 2)).abs().max() > 1e-4, "the tensors are symmetric: the check would prove nothing"
        after = evaluate(model, move(frame, frame.positions @ rotation.T, frame.cell @ rotation.T))
        assert_same(after, transform(before, rotation))
        wrong = transform(before, rotation.T)["born_effective_charges"]
        assert (after["born_effective_charges"] - wrong).abs().max() > 1e-3


def check_inversion(model: PolarizationModel) -> None:
    """Z* is even under inversion, forces are odd."""
    for frame in (triclinic(), wire(), molecule()):
        inverted = evaluate(model, move(frame, -frame.positions, -frame.cell))
        assert_same(inverted, transform(evaluate(model, frame), -np.eye(3)))


def check_translation(model: PolarizationModel) -> None:
    for frame in (triclinic(), slab(), molecule()):
        moved = move(frame, frame.positions + np.array([0.7, -1.9, 3.3]))
        assert_same(evaluate(model, moved), evaluate(model, frame))


def check_permutation(model: PolarizationModel) -> None:
    for frame in (triclinic(), molecule()):
        order = np.random.default_rng(1).permutation(len(frame))
        permuted = replace(frame, atomic_numbers=frame.atomic_numbers[order], positions=frame.positions[order])
        expected = evaluate(model, frame)
        assert_same(evaluate(model, permuted), {**expected, **pick(expected, order)})


def check_wrapping(model: PolarizationModel) -> None:
    """Moving atoms by lattice vectors changes nothing."""
    for frame in (triclinic(), triclinic_pair(), slab(), wire()):
        shifts = np.random.default_rng(2).integers(-3, 4, size=(len(frame), 3)) * frame.pbc
        assert np.abs(shifts).max() > 0
        moved = move(frame, frame.positions + shifts @ frame.cell)
        assert_same(evaluate(model, moved), evaluate(model, frame))


def check_lattice_vectors(model: PolarizationModel) -> None:
    """Other vectors of the same lattice, one choice left-handed."""
    cases = [
        (triclinic(), [[1, 1, 0], [0, 1, -1], [1, 1, 1]]),
        (triclinic_pair(), [[2, 1, 0], [1, 1, 0], [0, -3, 1]]),
        (triclinic(), [[0, 1, 0], [1, 0, 0], [0, 0, 1]]),
        (slab(), [[1, 2, 0], [1, 3, 0], [0, 0, 1]]),
    ]
    for frame, matrix in cases:
        assert abs(round(np.linalg.det(matrix))) == 1
        same = move(frame, frame.positions, np.array(matrix) @ frame.cell)
        assert_same(evaluate(model, same), evaluate(model, frame))


def repeat(frame: Frame, counts: tuple[int, int, int]) -> Frame:
    """A supercell; the atoms of each cell stay together."""
    shifts = np.array([(i, j, k) for i in range(counts[0]) for j in range(counts[1]) for k in range(counts[2])])
    positions = ((shifts @ frame.cell)[:, None] + frame.positions).reshape(-1, 3)
    return replace(
        frame, atomic_numbers=np.tile(frame.atomic_numbers, len(shifts)), positions=positions,
        cell=frame.cell * np.array(counts)[:, None])


def check_supercell(model: PolarizationModel) -> None:
    """Z*, charges, forces and stress repeat; energy and polarizability grow with the cell."""
    cases = [(triclinic_pair(), (2, 1, 1)), (triclinic_pair(), (2, 2, 1)), (triclinic(), (2, 1, 1)),
             (slab(), (2, 2, 1)), (wire(), (1, 3, 1))]
    for frame, counts in cases:
        n = int(np.prod(counts))
        one, many = evaluate(model, frame), evaluate(model, repeat(frame, counts))
        expected = {name: value.repeat(n, *[1] * (value.dim() - 1)) for name, value in pick(one, slice(None)).items()}
        assert_same(pick(many, slice(None)), expected)
        for name in set(_EXTENSIVE) & set(one):
            assert (many[name] - n * one[name]).abs().max() < TOLERANCE * n, name


def check_batch(model: PolarizationModel) -> None:
    """A batch of frames of different size and periodicity gives what each gives alone."""
    frames = [triclinic_pair(), molecule(), make_frame([8], [[0.3, -0.2, 0.1]]), slab(), triclinic(), wire()]
    singles = [evaluate(model, frame) for frame in frames]
    expected = {name: torch.cat([single[name] for single in singles]) for name in singles[1]}
    assert_same(evaluate(model, *frames), expected)


def check_training_equals_inference(model: PolarizationModel) -> None:
    """The differentiable evaluation and the one that keeps no graph are different code with the same result."""
    for frames in ((triclinic(), triclinic_pair()), (slab(), wire(), molecule())):
        training = evaluate(model, *frames, create_graph=True)
        assert all(value.requires_grad for value in training.values())
        assert_same(training, evaluate(model, *frames), 1e-12)


def check_no_cross_frame(model: PolarizationModel) -> None:
    """One frame of a batch does not feel another, even where their atoms overlap."""
    frame = molecule()
    other = move(frame, frame.positions + 0.3 * np.random.default_rng(4).normal(size=frame.positions.shape))
    mine = slice(0, len(frame))
    alone = pick(evaluate(model, frame), mine)
    assert_same(pick(evaluate(model, frame, frame), mine), alone, 1e-12)
    assert_same(pick(evaluate(model, frame, other), mine), alone, 1e-12)


def check_input_not_mutated(model: PolarizationModel) -> None:
    graph = collate([build_graph(frame, model.r_max) for frame in (triclinic(), triclinic_pair())])
    tensors = {f.name: getattr(graph, f.name) for f in fields(Graph) if isinstance(getattr(graph, f.name), Tensor)}
    before = {name: value.clone() for name, value in tensors.items()}
    version = {name: getattr(graph, name)._version for name in before}
    model(graph, model.provides)
    for name, value in before.items():
        assert torch.equal(getattr(graph, name), value), name
        assert getattr(graph, name)._version == version[name], name
        assert not getattr(graph, name).requires_grad, name


def check_additivity(model: PolarizationModel) -> None:
    """Two fragments farther apart than the cutoff do not feel each other."""
    frame = molecule()
    other = move(frame, frame.positions @ random_rotation(8).T + np.array([30.0, 5.0, -8.0]))
    pair = make_frame(list(frame.atomic_numbers) * 2, np.concatenate([frame.positions, other.positions]))
    one, two, both = evaluate(model, frame), evaluate(model, other), evaluate(model, pair)
    for fragment, place in ((one, slice(0, len(frame))), (two, slice(len(frame), None))):
        actual, expected = pick(both, place), pick(fragment, slice(None))
        if model.projects:  # The mean that is subtracted is that of all atoms.
            actual, expected = _centred(actual), _centred(expected)
        assert_same(actual, expected)
    for name in set(_EXTENSIVE) & set(both):
        assert (both[name] - one[name] - two[name]).abs().max() < TOLERANCE, name


def _centred(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value - value.mean(dim=0) for name, value in values.items()}


def check_smooth_cutoff(model: PolarizationModel) -> None:
    """Values and slopes of all properties are continuous where a neighbour leaves the cutoff."""
    base = molecule()

    def at(distance: float) -> dict[str, Tensor]:
        away = base.positions[4] + distance * np.array([0.6, 0.64, -0.48])
        frame = make_frame([*base.atomic_numbers, 8], np.concatenate([base.positions, away[None]]))
        others = np.linalg.norm(base.positions - away, axis=1)
        assert (np.delete(others, 4) > model.r_max + 0.1).all(), "another pair is near the cutoff"
        return evaluate(model, frame)

    step = 1e-6
    near, inside, outside, far = (at(model.r_max + k * step) for k in (-2, -1, 1, 2))
    touching, apart = at(model.r_max - 1e-8), at(model.r_max + 1e-8)
    bonded = at(model.r_max - 0.8)
    for name, value in bonded.items():
        assert (value - apart[name]).abs().max() > 1e-5, f"{name} does not feel the neighbour"
        assert (touching[name] - apart[name]).abs().max() < 1e-7, f"{name} jumps"
        slope_inside, slope_outside = (inside[name] - near[name]) / step, (far[name] - outside[name]) / step
        assert (slope_inside - slope_outside).abs().max() < 1e-3, f"the slope of {name} jumps"


def check_float32(model: PolarizationModel) -> None:
    """Single precision, on the same weights, to a relative error of 1e-4."""
    frames = (triclinic(), molecule(), slab())
    low = copy_model(model, torch.float32)
    exact = evaluate(model, *frames)
    for name, value in evaluate(low, *frames, dtype=torch.float32).items():
        assert value.dtype == (torch.float64 if name == "energy" else torch.float32), name
        error = (value.double() - exact[name]).abs().max() / exact[name].abs().max()
        assert error < 1e-4, f"{name}: relative error {error:.1e}"


def check_sum_rule(model: PolarizationModel) -> None:
    """sum_j Z* of each frame is zero with projection, and for heads that depend on edges alone without it."""
    for frame in (triclinic(), slab(), molecule()):
        z = evaluate(model, frame)["born_effective_charges"]
        if model.projects or not {"monopole", "direct"} & set(model.heads):
            assert z.sum(dim=0).abs().max() < 1e-12


def check_derivative_of_dipole(model: PolarizationModel) -> None:
    r"""Z*[j, a, b] of a molecule against finite differences, which notices a wrong index order.

    The dipole is differentiated; for a monopole head sum_i q_i (r_i - r_j) with the arms frozen. A direct head is no
    derivative and is left out.
    """
    if "direct" in model.heads or model.projects:
        return
    frame = molecule()
    z = evaluate(model, frame)["born_effective_charges"].numpy()
    expected = np.stack([_finite_differences(model, frame, atom) for atom in range(len(frame))])
    assert np.abs(z - expected).max() < 1e-7
    assert np.abs(z - expected.transpose(0, 2, 1)).max() > 1e-3


def _finite_differences(model: PolarizationModel, frame: Frame, atom: int) -> np.ndarray:
    """Derivatives of the dipole as seen from where the atom was: of dipole_a - (sum_i q_i) r_j,a with r_j frozen."""
    names = [name for name in ("dipole", "charges") if name in model.provides]
    columns = []
    for axis in range(3):
        moments = {}
        for k in (-2, -1, 1, 2):
            positions = frame.positions.copy()
            positions[atom, axis] += k * 1e-3
            out = model(build_graph(move(frame, positions), model.r_max), names)
            total_charge = out["charges"].sum().item() if "charges" in out else 0.0
            moments[k] = out["dipole"][0].numpy() - total_charge * frame.positions[atom]
        columns.append((8 * (moments[1] - moments[-1]) - (moments[2] - moments[-2])) / (12 * 1e-3))
    return np.stack(columns, axis=1)


CHECKS: dict[str, Callable[[PolarizationModel], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}
"""Every check by name."""
