"""Coulomb sums against an independent program, Madelung constants, finite differences and each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bec_mace.electrostatics import ChargedFrames, Coulomb
from bec_mace.errors import ModelError
from bec_mace.testing import coulomb_references as references
from bec_mace.units import COULOMB_CONSTANT

POSITIONS, CHARGES, CELL = (
    torch.tensor(values, dtype=torch.float64) for values in (references.POSITIONS, references.CHARGES, references.CELL)
)


def frames(positions: torch.Tensor = POSITIONS, cell: torch.Tensor = CELL, pbc: str = "TTT") -> ChargedFrames:
    periodic = torch.tensor([[letter == "T" for letter in pbc]])
    return ChargedFrames(positions, torch.zeros(len(positions), dtype=torch.int64), cell[None], periodic)


def charges_of(n: int, seed: int = 0) -> torch.Tensor:
    values = torch.tensor(np.random.default_rng(seed).normal(size=n))
    return values - values.mean()


def test_reference_energy_of_a_molecule() -> None:
    energy = float(Coulomb().energies(CHARGES, frames(pbc="FFF")))
    assert energy == pytest.approx(references.MOLECULE, abs=1e-8)


@pytest.mark.parametrize("method", ["reciprocal", "mesh"])
def test_reference_energy_of_a_crystal(method: str) -> None:
    energy = float(Coulomb(method=method, tolerance=1e-8).energies(CHARGES, frames()))
    assert energy == pytest.approx(references.CRYSTAL, abs=5e-8)
    assert float(Coulomb(method=method).energies(CHARGES, frames())) == pytest.approx(energy, abs=1e-6)


@pytest.mark.parametrize("name", references.CRYSTALS)
def test_madelung_constants(name: str) -> None:
    fractions, distance, constant = references.CRYSTALS[name]
    size, half = 5.4, len(fractions) // 2
    charges = torch.tensor([1.0] * half + [-1.0] * half, dtype=torch.float64)
    crystal = frames(torch.tensor(fractions, dtype=torch.float64) * size, torch.eye(3, dtype=torch.float64) * size)
    energy = float(Coulomb(smearing=0.25, tolerance=1e-10).energies(charges, crystal))
    # Gaussians as narrow as this do not overlap: 2.3 Å are 6.6 of their widths.
    assert -energy / half * distance * size / COULOMB_CONSTANT == pytest.approx(constant, abs=1e-8)


@pytest.mark.parametrize(("method", "pbc"), [("reciprocal", "TTT"), ("mesh", "TTT"), ("auto", "TTF"), ("auto", "FFF")])
def test_derivatives_against_finite_differences(method: str, pbc: str) -> None:
    # A vector that crosses the cutoff as the cell is strained makes a step of the size of the tolerance.
    coulomb, step = Coulomb(method=method, tolerance=1e-9), 1e-4
    charges = CHARGES - CHARGES.mean()
    found = coulomb.interaction(charges, frames(pbc=pbc))

    def slope(up: tuple, down: tuple) -> float:
        return float(coulomb.energies(*up) - coulomb.energies(*down)) / (2 * step)

    for atom in range(3):
        for axis in range(3):
            shift = torch.zeros_like(POSITIONS)
            shift[atom, axis] = step
            expected = -slope((charges, frames(POSITIONS + shift, pbc=pbc)), (charges, frames(POSITIONS - shift, pbc=pbc)))
            assert float(found.forces[atom, axis]) == pytest.approx(expected, abs=1e-7)
    shift = torch.tensor([step, -step, 0.0], dtype=torch.float64)
    expected = slope((charges + shift, frames(pbc=pbc)), (charges - shift, frames(pbc=pbc)))
    assert float(found.potential[0] - found.potential[1]) == pytest.approx(expected, abs=1e-7)
    if pbc == "TTT":
        for a in range(3):
            for b in range(3):
                strain = torch.zeros(3, 3, dtype=torch.float64)
                strain[a, b] = step
                up, down = (torch.eye(3, dtype=torch.float64) + sign * strain for sign in (1, -1))
                expected = slope((charges, frames(POSITIONS @ up, CELL @ up)), (charges, frames(POSITIONS @ down, CELL @ down)))
                assert float(found.virial[0, a, b]) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("pbc", ["TTT", "TTF", "FFF"])
def test_second_derivatives(pbc: str) -> None:
    """What training differentiates: potential and forces by charges and positions."""

    def derivatives(charges: torch.Tensor) -> tuple[torch.Tensor, ...]:
        charges = charges - charges.mean()
        found = Coulomb().interaction(charges, frames(pbc=pbc), create_graph=True)
        return found.energies, found.potential, found.forces, found.virial

    assert torch.autograd.gradcheck(derivatives, (CHARGES.clone().requires_grad_(),), atol=1e-6)


def test_the_mesh_and_the_sum_agree_for_many_atoms() -> None:
    generator = np.random.default_rng(3)
    cell = torch.tensor([[14.0, 0.5, 0.0], [-1.0, 12.0, 2.0], [0.3, 1.0, 16.0]], dtype=torch.float64)
    positions, charges = torch.tensor(generator.random((250, 3))) @ cell, charges_of(250)
    exact, mesh = (Coulomb(method=method).interaction(charges, frames(positions, cell)) for method in ("reciprocal", "mesh"))
    assert float(mesh.energies - exact.energies) / 250 == pytest.approx(0, abs=1e-6)
    assert (mesh.forces - exact.forces).abs().max() < 2e-5 < 1 < exact.forces.abs().max()
    assert (mesh.potential - exact.potential).abs().max() < 2e-5


def test_pieces_give_the_same_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for method, pbc in (("reciprocal", "TTT"), ("mesh", "TTT"), ("direct", "FFF")):
        whole = Coulomb(method=method).interaction(CHARGES, frames(pbc=pbc))
        with monkeypatch.context() as patch:
            for module, name in (("reciprocal_sum", "_PHASES"), ("mesh_sum", "_ATOMS"), ("direct_sum", "_PAIRS")):
                patch.setattr(f"bec_mace.electrostatics.{module}.{name}", 1)
            pieces = Coulomb(method=method).interaction(CHARGES, frames(pbc=pbc))
        assert (pieces.forces - whole.forces).abs().max() < 1e-12
        assert float(pieces.energies - whole.energies) == pytest.approx(0, abs=1e-12)


def test_frames_of_a_batch_do_not_see_each_other() -> None:
    """A crystal, a slab and a molecule with their atoms in any order."""
    sizes, kinds = (3, 2, 4), ("TTT", "TTF", "FFF")
    generator = np.random.default_rng(9)
    cells = torch.stack([CELL, 0.8 * CELL, torch.zeros_like(CELL)])
    positions = [torch.tensor(generator.random((n, 3)) * 4) for n in sizes]
    charges = [charges_of(n, seed=n) for n in sizes]
    order = torch.tensor(generator.permutation(sum(sizes)))
    frame_index = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))[order]
    pbc = torch.tensor([[letter == "T" for letter in kind] for kind in kinds])
    batch = ChargedFrames(torch.cat(positions)[order], frame_index, cells, pbc)
    together = Coulomb().interaction(torch.cat(charges)[order], batch)
    for number, kind in enumerate(kinds):
        alone = Coulomb().interaction(charges[number], frames(positions[number], cells[number], kind))
        assert float(together.energies[number] - alone.energies[0]) == pytest.approx(0, abs=1e-7)
        places = [int((order == sum(sizes[:number]) + atom).nonzero()) for atom in range(sizes[number])]
        assert (together.forces[places] - alone.forces).abs().max() < 1e-7


def test_a_dipole_in_a_wide_cell_sees_its_images() -> None:
    r"""The energy differs from that of the molecule by :math:`-2 \pi k_e \mu^2 / 3 V`."""
    positions = torch.tensor([[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.1]], dtype=torch.float64)
    charges, size = torch.tensor([-0.8, 0.4, 0.4], dtype=torch.float64), 50.0
    wide = frames(positions, torch.eye(3, dtype=torch.float64) * size)
    difference = float(Coulomb().energies(charges, wide) - Coulomb().energies(charges, frames(positions, pbc="FFF")))
    dipole = charges @ positions
    assert difference == pytest.approx(-2 * math.pi * COULOMB_CONSTANT * float(dipole @ dipole) / (3 * size**3), rel=0.01)


def test_slabs_do_not_see_their_images_across_the_vacuum() -> None:
    """A square lattice of dipoles: 9.0336 of the sum of 1/r^3, twice against the plane and once in it with the other sign."""
    size, arm = 20.0, 0.02
    cell = torch.tensor([[size, 0.0, 0.0], [0.0, size, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    charges = torch.tensor([1.0, -1.0], dtype=torch.float64)
    for axis, factor in ((2, 1.0), (0, -0.5)):
        positions = torch.zeros(2, 3, dtype=torch.float64)
        positions[0, axis] = arm
        lattice = Coulomb(tolerance=1e-9).energies(charges, frames(positions, cell, "TTF"))
        alone = Coulomb().energies(charges, frames(positions, pbc="FFF"))
        expected = 0.5 * factor * 9.0336 * COULOMB_CONSTANT * arm**2 / size**3
        assert float(lattice - alone) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("pbc", "charges", "method", "message"),
    [
        ("TFF", CHARGES, "auto", "frame 0 of the batch is periodic in one direction .pbc T F F."),
        ("TTF", CHARGES, "auto", "is a slab with a charge of -0.1 e: its energy is infinite"),
        ("TTT", CHARGES, "direct", "method is direct, which sums over molecules alone, but frame 0"),
    ],
)
def test_what_is_refused(pbc: str, charges: torch.Tensor, method: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Coulomb(method=method).energies(charges, frames(pbc=pbc))


def test_molecules_of_different_sizes_in_one_batch() -> None:
    sizes = (2, 5, 3)
    generator = np.random.default_rng(4)
    positions = [torch.tensor(generator.random((n, 3)) * 5) for n in sizes]
    charges = [charges_of(n, seed=n) for n in sizes]
    frame_index = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    batch = ChargedFrames(torch.cat(positions), frame_index, torch.zeros(3, 3, 3).double(), torch.zeros(3, 3, dtype=torch.bool))
    together = Coulomb().interaction(torch.cat(charges), batch)
    alone = [Coulomb().interaction(q, frames(r, pbc="FFF")) for q, r in zip(charges, positions, strict=True)]
    torch.testing.assert_close(together.energies, torch.cat([one.energies for one in alone]))
    torch.testing.assert_close(together.forces, torch.cat([one.forces for one in alone]))


@pytest.mark.parametrize("method", ["reciprocal", "mesh"])
def test_a_left_handed_cell_is_the_same_crystal(method: str) -> None:
    coulomb = Coulomb(method=method, tolerance=1e-8)
    mirrored = CELL[[1, 0, 2]]
    assert float(torch.linalg.det(CELL) * torch.linalg.det(mirrored)) < 0
    right, left = (coulomb.interaction(CHARGES, frames(cell=cell)) for cell in (CELL, mirrored))
    assert float(left.energies - right.energies) == pytest.approx(0, abs=1e-6)
    assert (left.virial - right.virial).abs().max() < 1e-5 and right.virial.abs().max() > 0.1


def test_the_vacuum_of_a_slab_is_as_wide_as_the_tolerance_asks_for() -> None:
    """Stripes of charge, whose field reaches furthest."""
    cell = torch.tensor([[20.0, 0.0, 0.0], [0.0, 20.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    positions = torch.tensor([[0.0, 0.0, 0.0], [10.0, 0.0, 0.3], [0.0, 10.0, 0.1], [10.0, 10.0, 0.0]], dtype=torch.float64)
    charges = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    usual, wide = (float(Coulomb(tolerance=one).energies(charges, frames(positions, cell, "TTF"))) for one in (1e-6, 1e-11))
    assert usual == pytest.approx(wide, abs=5e-6)
