"""What every model must pass, whatever its heads.

Each check takes a model in float64, on any device, and raises :class:`CheckError` with the largest error. ``CHECKS`` lists
them by name. What a property must do follows from its row in the table of properties.

A transposed Z* rotates like a right one, so no symmetry can notice the wrong index order; ``derivative_of_dipole`` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from bec_mace.data import Frame, Graph, build_graph, collate
from bec_mace.models import PolarizationModel
from bec_mace.properties import PROPERTIES
from bec_mace.testing.small_models import copy_model
from bec_mace.testing.structures import make_frame, molecule, slab, triclinic, triclinic_pair, wire

TOLERANCE = 1e-10
Z = "born_effective_charges"

Values = dict[str, Tensor]


class CheckError(AssertionError):
    """A model does not do what physics asks of it."""


def expect(condition: object, message: str) -> None:
    """Raise a :class:`CheckError` unless a condition holds."""
    if not bool(condition):
        raise CheckError(message)


def checked_properties(model: PolarizationModel, frames: tuple[Frame, ...]) -> list[str]:
    """The properties that a model gives of these frames, without what depends on the origin or does not turn along."""
    return [
        name
        for name, row in PROPERTIES.items()
        if name in model.provides
        and row.is_tensor
        and not row.modulo_quantum
        and row.defined != "molecules"
        and all(row.is_defined(frame.pbc) for frame in frames)
    ]


def evaluate(
    model: PolarizationModel, *frames: Frame, dtype: torch.dtype = torch.float64, create_graph: bool = False
) -> Values:
    """All properties of a batch of frames that do not depend on the origin, on the CPU."""
    graph = collate([build_graph(frame, model.r_max, dtype) for frame in frames]).to(device=device_of(model))
    return {name: value.cpu() for name, value in model(graph, checked_properties(model, frames), create_graph).items()}


def device_of(model: PolarizationModel) -> torch.device:
    """Where the weights of a model are."""
    charges = getattr(model, "reference_charges", None)
    return charges.device if isinstance(charges, Tensor) else torch.device("cpu")


def expect_same(actual: Values, expected: Values, tolerance: float = TOLERANCE) -> None:
    """Names, shapes and values agree."""
    expect(actual.keys() == expected.keys(), f"{sorted(actual)} is not {sorted(expected)}")
    for name, value in expected.items():
        expect(actual[name].shape == value.shape, f"{name}: shape {tuple(actual[name].shape)}, not {tuple(value.shape)}")
        error = (actual[name] - value).abs().max().item()
        expect(error < tolerance, f"{name}: largest error {error:.1e}")


def of_atoms(values: Values, atoms: slice | np.ndarray) -> Values:
    """Per-atom properties of some atoms; properties of frames are left out."""
    return {name: value[atoms] for name, value in values.items() if PROPERTIES[name].per == "atom"}


def of_frames(values: Values, extensive: bool) -> Values:
    """Properties of frames that grow with the cell, or those that do not."""
    return {
        name: value
        for name, value in values.items()
        if PROPERTIES[name].per == "frame" and PROPERTIES[name].extensive == extensive
    }


def move(frame: Frame, positions: np.ndarray, cell: np.ndarray | None = None) -> Frame:
    """The frame with other positions, and another cell if one is given."""
    return replace(frame, positions=positions, cell=frame.cell if cell is None else cell)


def random_rotation(seed: int = 3) -> np.ndarray:
    """A proper rotation about no axis in particular, of shape (3, 3)."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return np.asarray(matrix * np.sign(np.linalg.det(matrix)))


def transform(values: Values, matrix: np.ndarray) -> Values:
    """Apply an orthogonal matrix to every vector index."""
    turned = {}
    for name, value in values.items():
        for axis in range(value.dim() - len(PROPERTIES[name].shape), value.dim()):
            value = torch.tensordot(value, torch.tensor(matrix, dtype=value.dtype), dims=([axis], [1])).movedim(-1, axis)
        turned[name] = value
    return turned


def check_rotation(model: PolarizationModel) -> None:
    """Z* -> R Z* R^T, with tensors that are not symmetric, in triclinic cells and slabs."""
    rotation = random_rotation()
    for frame in (triclinic(), slab(), molecule()):
        before = evaluate(model, frame)
        after = evaluate(model, move(frame, frame.positions @ rotation.T, frame.cell @ rotation.T))
        expect_same(after, transform(before, rotation))
        if Z in before:
            asymmetry = (before[Z] - before[Z].transpose(1, 2)).abs().max()
            expect(asymmetry > 1e-4, "the tensors are symmetric: the check would prove nothing")
            wrong = transform(before, rotation.T)[Z]
            expect((after[Z] - wrong).abs().max() > 1e-3, f"{Z} turns both ways: the check would prove nothing")


def check_inversion(model: PolarizationModel) -> None:
    """Z* is even under inversion, forces are odd."""
    for frame in (triclinic(), wire(), molecule()):
        inverted = evaluate(model, move(frame, -frame.positions, -frame.cell))
        expect_same(inverted, transform(evaluate(model, frame), -np.eye(3)))


def check_translation(model: PolarizationModel) -> None:
    """Moving all atoms together changes nothing."""
    for frame in (triclinic(), slab(), molecule()):
        moved = move(frame, frame.positions + np.array([0.7, -1.9, 3.3]))
        expect_same(evaluate(model, moved), evaluate(model, frame))


def check_permutation(model: PolarizationModel) -> None:
    """Properties of atoms go with their atoms, those of frames do not change."""
    for frame in (triclinic(), molecule()):
        order = np.random.default_rng(1).permutation(len(frame))
        permuted = replace(frame, atomic_numbers=frame.atomic_numbers[order], positions=frame.positions[order])
        expected = evaluate(model, frame)
        expect_same(evaluate(model, permuted), {**expected, **of_atoms(expected, order)})


def check_wrapping(model: PolarizationModel) -> None:
    """Moving atoms by lattice vectors changes nothing."""
    for frame in (triclinic(), triclinic_pair(), slab(), wire()):
        shifts = np.random.default_rng(2).integers(-3, 4, size=(len(frame), 3)) * frame.pbc
        moved = move(frame, frame.positions + shifts @ frame.cell)
        expect_same(evaluate(model, moved), evaluate(model, frame))


def check_lattice_vectors(model: PolarizationModel) -> None:
    """Other vectors of the same lattice, one choice left-handed, change nothing."""
    cases = [
        (triclinic(), [[1, 1, 0], [0, 1, -1], [1, 1, 1]]),
        (triclinic_pair(), [[2, 1, 0], [1, 1, 0], [0, -3, 1]]),
        (triclinic(), [[0, 1, 0], [1, 0, 0], [0, 0, 1]]),
        (slab(), [[1, 2, 0], [1, 3, 0], [0, 0, 1]]),
    ]
    for frame, matrix in cases:
        same = move(frame, frame.positions, np.array(matrix) @ frame.cell)
        expect_same(evaluate(model, same), evaluate(model, frame))


def repeat(frame: Frame, counts: tuple[int, int, int]) -> Frame:
    """A supercell; the atoms of each cell stay together."""
    shifts = np.array([(i, j, k) for i in range(counts[0]) for j in range(counts[1]) for k in range(counts[2])])
    positions = ((shifts @ frame.cell)[:, None] + frame.positions).reshape(-1, 3)
    return replace(
        frame,
        atomic_numbers=np.tile(frame.atomic_numbers, len(shifts)),
        positions=positions,
        cell=frame.cell * np.array(counts)[:, None],
    )


def check_supercell(model: PolarizationModel) -> None:
    """Properties of atoms repeat, as do intensive ones of frames; extensive ones grow with the cell."""
    cases = [
        (triclinic_pair(), (2, 1, 1)),
        (triclinic_pair(), (2, 2, 1)),
        (triclinic(), (2, 1, 1)),
        (slab(), (2, 2, 1)),
        (wire(), (1, 3, 1)),
    ]
    for frame, counts in cases:
        n = int(np.prod(counts))
        one, many = evaluate(model, frame), evaluate(model, repeat(frame, counts))
        atoms = {name: value.repeat(n, *[1] * (value.dim() - 1)) for name, value in of_atoms(one, slice(None)).items()}
        expect_same(of_atoms(many, slice(None)), atoms)
        expect_same(of_frames(many, extensive=False), of_frames(one, extensive=False))
        grown = {name: n * value for name, value in of_frames(one, extensive=True).items()}
        expect_same(of_frames(many, extensive=True), grown, TOLERANCE * n)


def check_batch(model: PolarizationModel) -> None:
    """A batch of frames of different size and periodicity gives what each gives alone."""
    frames = [triclinic_pair(), molecule(), make_frame([8], [[0.3, -0.2, 0.1]]), slab(), triclinic(), wire()]
    singles = [evaluate(model, frame) for frame in frames]
    expected = {name: torch.cat([single[name] for single in singles]) for name in singles[1]}
    expect_same(evaluate(model, *frames), expected)


def check_training_equals_inference(model: PolarizationModel) -> None:
    """The differentiable evaluation and the one that keeps no graph are different code with the same result."""
    for frames in ((triclinic(), triclinic_pair()), (slab(), wire(), molecule())):
        training = evaluate(model, *frames, create_graph=True)
        constant = [name for name, value in training.items() if not value.requires_grad]
        expect(not constant, f"{', '.join(constant)}: cannot be differentiated by the weights")
        expect_same(training, evaluate(model, *frames), 1e-12)


def check_no_cross_frame(model: PolarizationModel) -> None:
    """One frame of a batch does not feel another, even where their atoms overlap."""
    frame = molecule()
    other = move(frame, frame.positions + 0.3 * np.random.default_rng(4).normal(size=frame.positions.shape))
    mine = slice(0, len(frame))
    alone = of_atoms(evaluate(model, frame), mine)
    expect_same(of_atoms(evaluate(model, frame, frame), mine), alone, 1e-12)
    expect_same(of_atoms(evaluate(model, frame, other), mine), alone, 1e-12)


def check_input_not_mutated(model: PolarizationModel) -> None:
    """An evaluation leaves its graph as it was."""
    graph = collate([build_graph(frame, model.r_max) for frame in (triclinic(), triclinic_pair())]).to(device=device_of(model))
    tensors = {f.name: getattr(graph, f.name) for f in fields(Graph) if isinstance(getattr(graph, f.name), Tensor)}
    before = {name: value.clone() for name, value in tensors.items()}
    version = {name: value._version for name, value in tensors.items()}
    model(graph, model.provides)
    for name, value in before.items():
        now = getattr(graph, name)
        expect(torch.equal(now, value) and now._version == version[name], f"{name} of the graph was changed")
        expect(not now.requires_grad, f"{name} of the graph was made to require a gradient")


def check_additivity(model: PolarizationModel) -> None:
    """Two fragments farther apart than the cutoff do not feel each other."""
    frame = molecule()
    other = move(frame, frame.positions @ random_rotation(8).T + np.array([30.0, 5.0, -8.0]))
    pair = make_frame(list(frame.atomic_numbers) * 2, np.concatenate([frame.positions, other.positions]))
    one, two, both = evaluate(model, frame), evaluate(model, other), evaluate(model, pair)
    for fragment, place in ((one, slice(0, len(frame))), (two, slice(len(frame), None))):
        actual, expected = of_atoms(both, place), of_atoms(fragment, slice(None))
        if model.projects:  # The mean that is subtracted is that of all atoms.
            actual, expected = _centred(actual), _centred(expected)
        expect_same(actual, expected)
    total = {name: value + two[name] for name, value in of_frames(one, extensive=True).items()}
    expect_same(of_frames(both, extensive=True), total)


def _centred(values: Values) -> Values:
    return {name: value - value.mean(dim=0) for name, value in values.items()}


def check_smooth_cutoff(model: PolarizationModel) -> None:
    """Values and slopes of all properties are continuous where a neighbour leaves the cutoff."""
    base = molecule()

    def at(distance: float) -> Values:
        away = base.positions[4] + distance * np.array([0.6, 0.64, -0.48])
        frame = make_frame([*base.atomic_numbers, 8], np.concatenate([base.positions, away[None]]))
        others = np.linalg.norm(base.positions - away, axis=1)
        expect((np.delete(others, 4) > model.r_max + 0.1).all(), "another pair is near the cutoff; take one of about 2.6 Å")
        return evaluate(model, frame)

    step = 1e-6
    near, inside, outside, far = (at(model.r_max + k * step) for k in (-2, -1, 1, 2))
    touching, apart = at(model.r_max - 1e-8), at(model.r_max + 1e-8)
    for name, value in at(model.r_max - 0.8).items():
        expect((value - apart[name]).abs().max() > 1e-5, f"{name} does not feel the neighbour")
        expect((touching[name] - apart[name]).abs().max() < 1e-7, f"{name} jumps")
        slope_inside, slope_outside = (inside[name] - near[name]) / step, (far[name] - outside[name]) / step
        expect((slope_inside - slope_outside).abs().max() < 1e-3, f"the slope of {name} jumps")


def check_float32(model: PolarizationModel) -> None:
    """Single precision, on the same weights, to a relative error of 1e-4."""
    frames = (triclinic(), molecule(), slab())
    low = copy_model(model, torch.float32)
    exact = evaluate(model, *frames)
    for name, value in evaluate(low, *frames, dtype=torch.float32).items():
        dtype = torch.float64 if PROPERTIES[name].double else torch.float32
        expect(value.dtype == dtype, f"{name} is {value.dtype}, not {dtype}")
        error = (value.double() - exact[name]).abs().max() / exact[name].abs().max()
        expect(error < 1e-4, f"{name}: relative error {error:.1e}")


def check_devices(model: PolarizationModel) -> None:
    """A GPU, where there is one, gives what the CPU gives."""
    if not torch.cuda.is_available():
        return
    frames = (triclinic(), molecule(), slab())
    on_cpu = evaluate(copy_model(model).to("cpu"), *frames)
    expect_same(evaluate(copy_model(model).to("cuda"), *frames), on_cpu)


def check_sum_rule(model: PolarizationModel) -> None:
    """sum_j Z* of each frame is zero with projection, and for heads that depend on edges alone without it."""
    heads = [head for head in model.heads.values() if Z in head.provides]
    if not heads or not (model.projects or all(head.row.sums_to_zero for head in heads)):
        return
    for frame in (triclinic(), slab(), molecule()):
        error = evaluate(model, frame)[Z].sum(dim=0).abs().max()
        expect(error < 1e-12, f"the sum of {Z} over the atoms is {error:.1e} e")


def check_derivative_of_dipole(model: PolarizationModel) -> None:
    r"""Z*[j, a, b] of a molecule against finite differences, which notices a wrong index order.

    The dipole is differentiated; for a monopole head sum_i q_i (r_i - r_j) with the arms frozen. A head whose Z* is no
    derivative, such as ``direct``, is left out.
    """
    heads = [head for head in model.heads.values() if Z in head.provides]
    if not heads or model.projects or not all("dipole" in head.provides for head in heads):
        return
    frame = molecule()
    z = evaluate(model, frame)[Z].numpy()
    expected = np.stack([_finite_differences(model, frame, atom) for atom in range(len(frame))])
    error = np.abs(z - expected).max()
    expect(error < 1e-7, f"{Z}: largest difference from finite differences {error:.1e} e")
    expect(np.abs(z - expected.transpose(0, 2, 1)).max() > 1e-3, f"{Z} is symmetric: the check would prove nothing")


def _finite_differences(model: PolarizationModel, frame: Frame, atom: int) -> np.ndarray:
    """Derivatives of the dipole as seen from where the atom was: of dipole_a - (sum_i q_i) r_j,a with r_j frozen."""
    names = [name for name in ("dipole", "charges") if name in model.provides]
    columns = []
    for axis in range(3):
        moments = {}
        for k in (-2, -1, 1, 2):
            positions = frame.positions.copy()
            positions[atom, axis] += k * 1e-3
            out = model(build_graph(move(frame, positions), model.r_max).to(device=device_of(model)), names)
            total_charge = out["charges"].sum().item() if "charges" in out else 0.0
            moments[k] = out["dipole"][0].cpu().numpy() - total_charge * frame.positions[atom]
        columns.append((8 * (moments[1] - moments[-1]) - (moments[2] - moments[-2])) / (12 * 1e-3))
    return np.stack(columns, axis=1)


CHECKS: dict[str, Callable[[PolarizationModel], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}
"""Every check by name."""
