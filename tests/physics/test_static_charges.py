"""Static charges: energy, forces, stress and Z* of charges that act through Coulomb's law, in networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bec_mace.data import Frame, build_graph, collate
from bec_mace.errors import ModelError
from bec_mace.models import PolarizationModel
from bec_mace.testing import structures
from bec_mace.testing.oracle import build_cluster, flows, mace_features, respond_to_charges, respond_to_home
from bec_mace.testing.small_models import make_static_model

Z = "born_effective_charges"
EVERYTHING = (Z, "energy", "forces", "charges", "screening")
COUPLINGS = [
    (("monopole", "energy"), {"sources": ["monopole"], "screening": "local"}),
    (("charge_transfer", "energy"), {"sources": ["charge_transfer"], "screening": "local"}),
    (
        ("monopole", "charge_transfer", "dipole", "energy"),
        {"sources": ["monopole", "charge_transfer"], "screening": "local"},
    ),
    (("monopole", "charge_transfer", "energy"), {"sources": ["charge_transfer"], "screening": "global"}),
    (("monopole", "energy"), {"sources": ["monopole"], "screening": "fixed"}),
]
NAMES = ["monopole-local", "flow-local", "both-local", "flow-global", "monopole-fixed"]


def static_model(heads: tuple[str, ...], section: dict[str, object], **options: object) -> PolarizationModel:
    return make_static_model(heads, str(section["screening"]), tuple(section["sources"]), **options)


def evaluate(model: PolarizationModel, frame: Frame, *names: str, block_size: int | None = None) -> dict[str, torch.Tensor]:
    return model(build_graph(frame, model.r_max), names or EVERYTHING, block_size=block_size)


def moved(frame: Frame, atom: int, axis: int, step: float) -> Frame:
    positions = frame.positions.copy()
    positions[atom, axis] += step
    return replace(frame, positions=positions)


def slow_response(model: PolarizationModel, frame: Frame) -> torch.Tensor:
    """Z* of the static charges from a finite cluster and plain autograd; the neutralizing shifts do not respond."""
    section, field = model.electrostatics, model.r_max * model.config.num_interactions
    cluster = build_cluster(frame, model.r_max, 2 * field)
    vectors = cluster.positions[cluster.receiver] - cluster.positions[cluster.sender]
    features, radial = mace_features(model, cluster.atomic_numbers, vectors, cluster.sender, cluster.receiver)
    lookup = {z: index for index, z in enumerate(model.elements)}
    places = torch.tensor([lookup[int(z)] for z in cluster.atomic_numbers])
    references = model.reference_charges[places]
    references = references - references[: cluster.n_home].mean()
    number = (
        section.number
        if section.number is not None
        else torch.log(torch.expm1(torch.tensor(section.config.first_screening, dtype=torch.float64)))
    )
    logits = 0.0
    if section.readouts is not None:
        logits = sum(section.readouts(layer, feats) for layer, feats in enumerate(features))
    gamma = torch.nn.functional.softplus(number + logits) * torch.ones(len(places), dtype=torch.float64)
    total = torch.zeros(len(frame), 3, 3, dtype=torch.float64)
    identity = torch.eye(3, dtype=torch.float64)
    sources = section.config.sources
    if "monopole" in sources:
        charges = sum(model.heads["monopole"].readouts(layer, feats) for layer, feats in enumerate(features)) + references
        charges = charges - charges[: cluster.n_home].mean().detach()
        dynamic = gamma * charges
        total += respond_to_charges(cluster, dynamic, cluster.distance < field)
        total -= dynamic[: cluster.n_home].mean() * identity
    else:
        total += torch.nn.functional.softplus(number) * references[: cluster.n_home, None, None] * identity
    if "charge_transfer" in sources:
        phi = flows(model.heads["charge_transfer"], features[-1], vectors, radial, cluster.sender, cluster.receiver)
        at_edge = 0.5 * (gamma[cluster.receiver] + gamma[cluster.sender])
        at_home = cluster.receiver < cluster.n_home
        total += respond_to_home(cluster, ((at_edge * phi).unsqueeze(1) * vectors)[at_home].sum(dim=0))
    if "monopole" in model.heads and "monopole" not in sources:
        charges = sum(model.heads["monopole"].readouts(layer, feats) for layer, feats in enumerate(features))
        total += respond_to_charges(cluster, charges, cluster.distance < field)
    if "dipole" in model.heads:
        dipoles = sum(model.heads["dipole"].read(layer, feats, None).dipoles for layer, feats in enumerate(features))
        total += respond_to_home(cluster, dipoles[: cluster.n_home].sum(dim=0))
    return total.detach()


@pytest.mark.parametrize(("heads", "section"), COUPLINGS, ids=NAMES)
@pytest.mark.parametrize(
    "frame", [structures.triclinic_pair(), structures.slab(), structures.molecule()], ids=["pair", "slab", "molecule"]
)
def test_born_effective_charges_against_a_cluster(heads, section, frame) -> None:
    model = static_model(heads, section)
    exact = slow_response(model, frame)
    assert (evaluate(model, frame)[Z] - exact).abs().max() < 1e-10 < 0.1 < exact.abs().max()


@pytest.mark.parametrize(("heads", "section"), COUPLINGS, ids=NAMES)
def test_parts_of_the_heads_add_up(heads, section) -> None:
    model, frame = static_model(heads, section), structures.triclinic()
    out = evaluate(model, frame, Z, "head_contributions")
    assert sorted(out["head_contributions"]) == sorted([*(name for name in heads if name != "energy"), "reference"])
    assert (sum(out["head_contributions"].values()) - out[Z]).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("heads", "section"),
    [*COUPLINGS, (("static_charges", "dipole", "energy"), {"sources": ["static_charges"], "screening": "independent"})],
    ids=[*NAMES, "independent"],
)
@pytest.mark.parametrize(
    "frame", [structures.triclinic(), structures.slab(), structures.molecule()], ids=["crystal", "slab", "molecule"]
)
def test_forces_against_finite_differences(heads, section, frame) -> None:
    model, step = static_model(heads, section), 1e-4
    forces = evaluate(model, frame, "forces")["forces"]
    for atom, axis in ((0, 0), (1, 2), (2, 1)):
        energies = [evaluate(model, moved(frame, atom, axis, sign * step), "energy")["energy"] for sign in (1, -1)]
        assert float(forces[atom, axis] + (energies[0] - energies[1]) / (2 * step)) == pytest.approx(0, abs=1e-6)


def strained(frame: Frame, strain: np.ndarray) -> Frame:
    map_ = np.eye(3) + strain
    return replace(frame, positions=frame.positions @ map_, cell=frame.cell @ map_)


@pytest.mark.parametrize(("heads", "section"), COUPLINGS[:3], ids=NAMES[:3])
def test_stress_against_finite_differences(heads, section) -> None:
    model, frame, step = static_model(heads, section), structures.triclinic(), 1e-5
    stress, volume = evaluate(model, frame, "stress")["stress"][0], abs(np.linalg.det(frame.cell))
    for a, b in ((0, 0), (0, 1), (2, 1)):
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5 * step
        strain[b, a] += 0.5 * step
        up, down = (float(evaluate(model, strained(frame, sign * strain), "energy")["energy"]) for sign in (1, -1))
        assert float(stress[a, b]) == pytest.approx((up - down) / (2 * step) / volume, abs=1e-7)


@pytest.mark.parametrize(("heads", "section"), COUPLINGS, ids=NAMES)
def test_supercells_and_wrapping(heads, section) -> None:
    model, frame = static_model(heads, section, acoustic_sum_rule=None), structures.triclinic()
    one = evaluate(model, frame)
    double = Frame(
        atomic_numbers=np.tile(frame.atomic_numbers, 2),
        positions=np.concatenate([frame.positions, frame.positions + frame.cell[0]]),
        cell=frame.cell * np.array([[2.0], [1.0], [1.0]]),
        pbc=frame.pbc,
    )
    two = evaluate(model, double)
    assert float(two["energy"] - 2 * one["energy"]) == pytest.approx(0, abs=1e-10)
    for name in (Z, "forces", "charges", "screening"):
        assert (two[name][: len(frame)] - one[name]).abs().max() < 1e-10
    elsewhere = frame.positions + np.array([[3, 0, -1], [0, 2, 0], [0, 0, 0], [1, 1, 1], [-4, 0, 0], [0, 0, 2]]) @ frame.cell
    wrapped = evaluate(model, replace(frame, positions=elsewhere + np.array([0.3, -0.2, 0.5])))
    for name in EVERYTHING:
        assert (wrapped[name] - one[name]).abs().max() < 1e-10


@pytest.mark.parametrize(("heads", "section"), COUPLINGS, ids=NAMES)
def test_blocks_batches_and_order(heads, section) -> None:
    model = static_model(heads, section, acoustic_sum_rule=None)
    frames = [structures.triclinic(), structures.molecule(), structures.slab(), structures.rocksalt()]
    whole = model(collate([build_graph(frame, model.r_max) for frame in frames]), EVERYTHING)
    blocks = model(collate([build_graph(frame, model.r_max) for frame in frames]), EVERYTHING, block_size=3)
    start = 0
    for number, frame in enumerate(frames):
        alone = evaluate(model, frame)
        for name in EVERYTHING:
            rows = whole[name][number : number + 1] if name == "energy" else whole[name][start : start + len(frame)]
            assert (rows - alone[name]).abs().max() < 1e-10
        start += len(frame)
    for name in EVERYTHING:
        assert (blocks[name] - whole[name]).abs().max() < 1e-10


def test_charges_sum_to_the_total_charge_and_so_does_z() -> None:
    for heads, section in COUPLINGS:
        model = static_model(heads, section, acoustic_sum_rule="project")
        for total in (0.0, -1.0, 2.0):
            frame = replace(structures.molecule(), info={"total_charge": total})
            out = evaluate(model, frame)
            assert float(out["charges"].sum()) == pytest.approx(total, abs=1e-12)
            assert (out[Z].sum(dim=0) - total * torch.eye(3)).abs().max() < 1e-12


def test_a_field_does_work_that_depends_on_the_ends_alone() -> None:
    """Z* of screened flows is a gradient: a closed path does no work."""
    model, frame = static_model(*COUPLINGS[1]), structures.triclinic()
    nodes, weights = np.polynomial.legendre.leggauss(24)
    rng = np.random.default_rng(5)
    corners = [np.zeros_like(frame.positions), *(0.2 * rng.normal(size=(2, len(frame), 3)))]
    work = 0.0
    for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
        for node, weight in zip(0.5 * (nodes + 1), 0.5 * weights, strict=True):
            at = replace(frame, positions=frame.positions + start + node * (end - start))
            work += weight * float((evaluate(model, at, Z)[Z][:, 0] * torch.tensor(end - start)).sum())
    assert abs(work) < 1e-7


def test_training_differentiates_through_everything() -> None:
    """Derivatives of a loss of Z*, forces and energy by the weights against finite differences."""
    model, frame = static_model(*COUPLINGS[2]), structures.triclinic()
    graph = build_graph(frame, model.r_max)
    torch.manual_seed(1)
    seeds = {name: torch.randn_like(value) for name, value in model(graph, (Z, "forces", "energy", "stress")).items()}

    def loss() -> torch.Tensor:
        out = model(graph, tuple(seeds), create_graph=True)
        return sum((seeds[name] * out[name]).sum() for name in seeds)

    names = (
        "electrostatics.number",
        "electrostatics.readouts.layers.0.0.weight",
        "heads.monopole.readouts.layers.0.0.weight",
        "heads.charge_transfer.flow.radial.weight",
        "reference_charges",
    )
    weights = dict(model.named_parameters())
    chosen = [weights[name] for name in names]
    gradients = torch.autograd.grad(loss(), chosen)
    for weight, gradient in zip(chosen, gradients, strict=True):
        direction = torch.randn_like(weight)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight.add_(sign * 1e-5 * direction)
            values.append(float(loss().detach()))
            with torch.no_grad():
                weight.sub_(sign * 1e-5 * direction)
        assert float((gradient * direction).sum().detach()) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6, abs=1e-7)


def test_wires_are_refused_by_name() -> None:
    model = static_model(*COUPLINGS[0])
    with pytest.raises(
        ModelError, match="frame 0 of the batch is periodic in one direction .pbc F T F.; Coulomb sums of wires"
    ):
        evaluate(model, structures.wire())


def test_single_precision_is_close() -> None:
    model = static_model(*COUPLINGS[2])
    frame = structures.triclinic()
    exact, rough = evaluate(model, frame), evaluate(model.to(torch.float32), frame)
    model.to(torch.float64)
    for name in EVERYTHING:
        assert (rough[name] - exact[name]).abs().max() < 2e-5 * (1 + exact[name].abs().max())
