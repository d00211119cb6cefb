"""Multipoles and the response to them, against independent programs, finite differences and each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bec_mace.electrostatics import ChargedFrames, Coulomb, Multipoles
from bec_mace.electrostatics.response import Edges, Susceptibilities, polarizability_of, respond
from bec_mace.testing import coulomb_references as references


def tensor(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


POSITIONS, CELL = tensor(references.POSITIONS), tensor(references.CELL)
SOURCES = Multipoles(tensor(references.CHARGES), tensor(references.DIPOLES), tensor(references.QUADRUPOLES))
NEUTRAL = replace(SOURCES, charges=SOURCES.charges - SOURCES.charges.mean())
POLARIZABILITIES, CAPACITIES = tensor(references.POLARIZABILITIES), tensor(references.CAPACITIES)


def frames(positions: torch.Tensor = POSITIONS, cell: torch.Tensor = CELL, pbc: str = "TTT") -> ChargedFrames:
    periodic = torch.tensor([[letter == "T" for letter in pbc]])
    return ChargedFrames(positions, torch.zeros(len(positions), dtype=torch.int64), cell[None], periodic)


@pytest.mark.parametrize("method", ["reciprocal", "mesh", "auto"])
@pytest.mark.parametrize("name", ["q", "q u", "q u Q"])
def test_reference_energies(name, method) -> None:
    crystal = method != "auto"
    sources = Multipoles(*[SOURCES.charges, SOURCES.dipoles, SOURCES.quadrupoles][: len(name.split())])
    energy = float(Coulomb(method=method, tolerance=1e-9).energies(sources, frames(pbc="TTT" if crystal else "FFF")))
    assert energy == pytest.approx(references.reference_energy(name, crystal), abs=5e-8)
    assert float(Coulomb(method=method).energies(sources, frames(pbc="TTT" if crystal else "FFF"))) == pytest.approx(
        energy, abs=2e-6
    )


@pytest.mark.parametrize("pbc", ["FFF", "TTT"])
@pytest.mark.parametrize("name", ["q u Q kappa", "q u Q alpha", "q u Q kappa alpha"])
def test_reference_energies_with_response(name, pbc) -> None:
    yielding = Susceptibilities(
        polarizabilities=POLARIZABILITIES if "alpha" in name else None,
        capacities=CAPACITIES if "kappa" in name else None,
        floats=False,
    )
    energy = respond(Coulomb(tolerance=1e-9), SOURCES, frames(pbc=pbc), yielding).energies.detach()
    assert float(energy) == pytest.approx(references.reference_energy(name, pbc == "TTT"), abs=5e-8)


def derivatives_agree(energy, value: torch.Tensor, found: torch.Tensor, tolerance: float = 1e-6) -> None:
    """A gradient against central differences of a function of a tensor."""
    step = 1e-4
    for place in np.ndindex(*value.shape):
        shift = torch.zeros_like(value)
        shift[place] = step
        slope = float(energy(value + shift) - energy(value - shift)) / (2 * step)
        assert float(found[place]) == pytest.approx(slope, abs=tolerance)


@pytest.mark.parametrize(("method", "pbc"), [("reciprocal", "TTT"), ("mesh", "TTT"), ("auto", "TTF"), ("auto", "FFF")])
def test_derivatives_against_finite_differences(method, pbc) -> None:
    """Of the energy with all responses, by positions, sources and strain."""
    coulomb = Coulomb(method=method, tolerance=1e-9)
    edges = Edges(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0]), torch.zeros(3, 3, dtype=torch.float64))
    yielding = Susceptibilities(POLARIZABILITIES, tensor([0.02, 0.01, 0.03]), edges, CAPACITIES)

    def energy(positions=POSITIONS, dipoles=NEUTRAL.dipoles, quadrupoles=NEUTRAL.quadrupoles, strain=None):
        sources = Multipoles(NEUTRAL.charges, dipoles, quadrupoles)
        return respond(coulomb, sources, frames(positions, pbc=pbc), yielding, strain).energies.sum()

    given = [value.clone().requires_grad_() for value in (POSITIONS, NEUTRAL.dipoles, NEUTRAL.quadrupoles)]
    strain = torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=True)
    found = torch.autograd.grad(energy(*given, strain), [*given, *([strain] if pbc == "TTT" else [])])
    derivatives_agree(lambda value: energy(positions=value).detach(), POSITIONS, found[0])
    derivatives_agree(lambda value: energy(dipoles=value).detach(), NEUTRAL.dipoles, found[1])
    derivatives_agree(lambda value: energy(quadrupoles=value).detach(), NEUTRAL.quadrupoles, found[2])
    if pbc == "TTT":

        def of_strain(value: torch.Tensor) -> torch.Tensor:
            map_ = torch.eye(3, dtype=torch.float64) + value[0]
            sources = frames(POSITIONS @ map_, CELL @ map_)
            return respond(coulomb, NEUTRAL, sources, yielding).energies.sum().detach()

        derivatives_agree(of_strain, torch.zeros(1, 3, 3, dtype=torch.float64), found[3])


@pytest.mark.parametrize("pbc", ["TTT", "TTF", "FFF"])
def test_third_derivatives(pbc) -> None:
    """What a loss of forces and Z* differentiates once more."""
    yielding = Susceptibilities(POLARIZABILITIES, capacities=CAPACITIES)

    def forces(charges: torch.Tensor, dipoles: torch.Tensor) -> torch.Tensor:
        positions = POSITIONS.clone().requires_grad_()
        sources = Multipoles(charges - charges.mean(), dipoles, NEUTRAL.quadrupoles)
        energies = respond(Coulomb(), sources, frames(positions, pbc=pbc), yielding).energies
        return torch.autograd.grad(energies.sum(), positions, create_graph=True)[0]

    inputs = tuple(value.clone().requires_grad_() for value in (SOURCES.charges, SOURCES.dipoles))
    assert torch.autograd.gradcheck(forces, inputs, atol=1e-6)


def test_mesh_and_sum_agree_for_many_atoms() -> None:
    generator = np.random.default_rng(3)
    cell = tensor([[14.0, 0.5, 0.0], [-1.0, 12.0, 2.0], [0.3, 1.0, 16.0]])
    positions, n = tensor(generator.random((120, 3))) @ cell, 120
    charges, dipoles, seconds = (tensor(generator.normal(size=size)) for size in ((n,), (n, 3), (n, 3, 3)))
    seconds = seconds + seconds.transpose(1, 2)
    seconds = seconds - seconds.diagonal(dim1=1, dim2=2).mean(dim=1).view(-1, 1, 1) * torch.eye(3)
    sources = Multipoles(charges - charges.mean(), 0.3 * dipoles, 0.3 * seconds)
    exact, mesh = (
        respond(Coulomb(method=method), sources, frames(positions, cell), Susceptibilities(POLARIZABILITIES.repeat(40, 1, 1)))
        for method in ("reciprocal", "mesh")
    )
    assert float((mesh.energies - exact.energies).detach()) / n == pytest.approx(0, abs=2e-6)
    assert (mesh.dipoles - exact.dipoles).abs().max() < 1e-5 < 0.1 < exact.dipoles.abs().max()


def test_multipoles_are_limits_of_charges() -> None:
    """A dipole and a quadrupole of charges close together, seen by another charge, and by a dipole."""
    arm, far = 0.01, tensor([2.0, 0.7, -0.4])
    near = tensor([[arm, 0, 0], [-arm, 0, 0], [0, arm, 0], [0, -arm, 0]])
    charges = tensor([1.0, 1.0, -1.0, -1.0])
    second = torch.einsum("i,ia,ib->ab", charges, near, near)
    zero = torch.zeros_like(far)

    def interaction(positions: list, charges: list, seconds: list) -> float:
        """With a charge and a dipole further away."""
        n = len(positions)
        values = []
        for there in (1.0, 0.0):
            dipoles = torch.cat([torch.zeros(n, 3, dtype=torch.float64), there * tensor([[0.3, -0.2, 0.5]])])
            sources = Multipoles(tensor([*charges, there * 0.7]), dipoles, torch.stack([*seconds, torch.zeros_like(second)]))
            values.append(float(Coulomb().energies(sources, frames(torch.stack([*positions, far]), pbc="FFF"))))
        return values[0] - values[1]

    of_charges = interaction(list(near), charges.tolist(), [torch.zeros_like(second)] * 4)
    of_second = interaction([zero], [0.0], [second])
    assert of_second == pytest.approx(of_charges, rel=1e-3)
    assert abs(of_charges) > 1e-5


def test_edges_and_dipoles_in_a_uniform_field() -> None:
    """The energy in a field is of second order, with the polarizability of the shares."""
    edges = Edges(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0]), POSITIONS - POSITIONS[[1, 2, 0]])
    yielding = Susceptibilities(POLARIZABILITIES, tensor([0.02, 0.01, 0.03]), edges)
    total = polarizability_of(yielding, 3, POSITIONS).sum(dim=0)
    assert (total - total.T).abs().max() < 1e-15 and total.diagonal().min() > 0.1

    def enthalpy(field: torch.Tensor) -> torch.Tensor:
        return respond(Coulomb(), NEUTRAL, frames(pbc="FFF"), yielding, uniform=field[None]).energies.sum()

    zero = torch.zeros(3, dtype=torch.float64)
    made = respond(Coulomb(), NEUTRAL, frames(pbc="FFF"), yielding)
    polarization = made.dipoles.sum(dim=0) + (made.flow.unsqueeze(1) * edges.vectors).sum(dim=0)
    assert (torch.autograd.functional.jacobian(enthalpy, zero) + polarization).abs().max() < 1e-12
    assert (torch.autograd.functional.hessian(enthalpy, zero) + total).abs().max() < 1e-12


def test_exchanged_charges_sum_to_zero() -> None:
    made = respond(Coulomb(), NEUTRAL, frames(), Susceptibilities(capacities=CAPACITIES))
    assert abs(float(made.charges.detach().sum())) < 1e-14 < 1e-3 < float(made.charges.detach().abs().max())
    bound = respond(Coulomb(), NEUTRAL, frames(), Susceptibilities(capacities=CAPACITIES, floats=False))
    assert abs(float(bound.charges.detach().sum())) > 1e-3


def test_sums_in_single_precision_have_phases_in_double() -> None:
    """Far from the origin too."""
    exact = Coulomb().energies(NEUTRAL, frames())
    for shift in (0.0, 1e4):
        single = Coulomb().energies(NEUTRAL, replace(frames(POSITIONS + shift), precision=torch.float32))
        assert float(single - exact) == pytest.approx(0, abs=3e-6)
