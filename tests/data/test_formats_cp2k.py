"""Outputs and polar tensors of CP2K, made up here in the layout that CP2K writes."""

from __future__ import annotations

import numpy as np
import pytest

from bec_mace.data import read_frames
from bec_mace.errors import DataError
from bec_mace.units import BOHR, HARTREE

Z = "born_effective_charges"
CELL = np.array([[8.1, 0.0, 0.0], [1.2, 7.4, 0.0], [-0.5, 0.9, 9.3]])
POSITIONS = np.array([[0.1, 0.2, -0.3], [0.9, 0.1, 0.4], [-0.6, 0.8, 0.2]])
FORCES = np.array([[0.01, -0.02, 0.03], [0.004, 0.005, -0.006], [-0.014, 0.015, -0.024]])
CHARGES = np.array(
    [
        [[-0.71, 0.13, -0.22], [0.05, -0.64, 0.31], [-0.14, 0.25, -0.59]],
        [[0.42, 0.07, 0.11], [-0.03, 0.29, 0.18], [0.15, -0.05, 0.38]],
        [[0.31, -0.19, 0.12], [0.06, 0.36, -0.47], [0.02, -0.21, 0.23]],
    ]
)
"""Of oxygen and two hydrogen atoms, as Z[polarization, displacement]."""


def output(periodic="XYZ", new=True, coordinates=True, forces=True, extra="") -> str:
    """A single point of CP2K 2025 (new) or 7.1."""
    vectors = "\n".join(
        f" CELL| Vector {name} [angstrom]:   {row[0]:10.3f}{row[1]:10.3f}{row[2]:10.3f}    |{name}| =    9.999999"
        for name, row in zip("abc", CELL, strict=True)
    )
    sites = "\n".join(
        f"     {n:4d}    {1 if z == 8 else 2} {symbol:2s}{z:5d}{x[0]:14.6f}{x[1]:14.6f}{x[2]:14.6f}    6.0000     15.9994"
        for n, (symbol, z, x) in enumerate(zip("OHH", (8, 1, 1), POSITIONS, strict=True), 1)
    )
    header = "   Atom Kind Element         X             Y             Z       Z(eff)     Mass\n"
    if new:
        rows = "\n".join(
            f" FORCES|   {n:4d} {f[0]: .8E} {f[1]: .8E} {f[2]: .8E}  {np.linalg.norm(f): .8E}" for n, f in enumerate(FORCES, 1)
        )
        table = (
            f" FORCES| Atomic forces [hartree/bohr]\n FORCES|   Atom     x            y            z            |f|\n{rows}\n"
            " FORCES| Sum       0.00000000E+00  0.00000000E+00  0.00000000E+00   0.00000000E+00\n"
        )
    else:
        rows = "\n".join(
            f"{n:7d}{1 if s == 'O' else 2:7d}      {s:2s}{f[0]:20.8f}{f[1]:16.8f}{f[2]:16.8f}"
            for n, (s, f) in enumerate(zip("OHH", FORCES, strict=True), 1)
        )
        table = (
            f" ATOMIC FORCES in [a.u.]\n\n # Atom   Kind   Element          X              Y              Z\n{rows}\n"
            " SUM OF ATOMIC FORCES           0.00000000      0.00000000      0.00000000     0.00000000\n"
        )
    energy = " ENERGY| Total FORCE_EVAL ( QS ) energy [hartree]            -17.215\n"
    old_energy = " ENERGY| Total FORCE_EVAL ( QS ) energy (a.u.):              -17.215\n"
    return f"""
 CP2K| version string:                                       CP2K version 2025.1
 CELL_TOP| Vector a [angstrom]:       1.000     0.000     0.000    |a| =  1.0
{vectors}
{f" POISSON| Periodicity {periodic:>55}" if periodic else ""}

 MODULE QUICKSTEP:  ATOMIC COORDINATES IN {"ANGSTROM" if new else "angstrom"}

{header if coordinates else ""}{sites if coordinates else ""}

 SCF PARAMETERS         Density guess:                                    ATOMIC

{energy if new else old_energy}
{table if forces else ""}
{extra}
"""


def response(charges=CHARGES) -> str:
    """Of linear response: rows are the displacement."""
    lines = [" List of atoms:            1           2           3", "APT | Write the final apt matrix per atom per subset"]
    lines += [" APT | Subset           1", *(f"APT | apt_subset {i:3d}{9.0:15.6f}{9.0:15.6f}{9.0:15.6f}" for i in (1, 2, 3))]
    lines.append("APT | Write the final apt matrix per atom (Position perturbation)")
    for n, tensor in enumerate(charges, 1):
        lines.append(f"APT | Atom{n:3d} - GAPT {np.trace(tensor) / 3:15.6f}")
        lines += ["APT | " + "".join(f"{value:15.6f}" for value in column) for column in tensor.T]
    lines.append("APT | Write the total apt matrix")
    lines += ["APT | " + "".join(f"{value:15.6f}" for value in column) for column in charges.sum(axis=0).T]
    lines += ["APT | End Write the final apt matrix", "APT | Position perturbation sum rules"]
    return "\n".join(
        [
            *lines,
            "APT |            Total APT       Dipole         R * APT",
            "APT |   1  1       0.000000       0.000000       0.1",
            "",
        ]
    )


def differences(charges=CHARGES) -> str:
    """Of finite differences: rows are the field."""
    lines = []
    for n, (symbol, tensor) in enumerate(zip("OHH", charges, strict=True), 1):
        lines.append(f"{n:6d}{symbol:>6}{np.trace(tensor) / 3:20.10f}")
        lines += ["".join(f"{value:20.10f}" for value in row) for row in tensor]
    return "\n".join([*lines, "", f"Sum of Born charges:{0.02:20.10f}", ""])


def written(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize("new", [True, False])
def test_output(tmp_path, new) -> None:
    (frame,) = read_frames(written(tmp_path / "cp2k.out", output(new=new)))
    assert frame.labels.keys() == {"energy", "forces"}
    np.testing.assert_allclose(frame.labels["forces"], FORCES * HARTREE / BOHR, rtol=1e-12)
    assert frame.labels["energy"] == pytest.approx(-17.215 * HARTREE, rel=1e-14)
    np.testing.assert_allclose(frame.cell, CELL, atol=1e-12)
    np.testing.assert_allclose(frame.positions, POSITIONS, atol=1e-12)
    assert frame.atomic_numbers.tolist() == [8, 1, 1] and frame.pbc.all()


def test_periodic_directions(tmp_path) -> None:
    (frame,) = read_frames(written(tmp_path / "slab.out", output(periodic="XY")))
    assert frame.pbc.tolist() == [True, True, False]
    (frame,) = read_frames(written(tmp_path / "molecule.out", output(periodic="NONE")))
    assert not frame.pbc.any()


@pytest.mark.parametrize("text", [response(), differences()], ids=["response", "differences"])
def test_polar_tensors_with_an_output_beside_them(tmp_path, text) -> None:
    written(tmp_path / "water.out", output())
    path = written(tmp_path / "water-apt-1_0.data", text)
    (frame,) = read_frames(path, index_order="displacement_first")
    assert frame.labels.keys() == {Z, "energy", "forces"}
    np.testing.assert_allclose(frame.labels[Z], CHARGES, atol=1e-12)


def test_polar_tensors_of_several_structures(tmp_path) -> None:
    from ase import Atoms
    from ase.io import write

    structures = [Atoms("OHH", POSITIONS + shift, cell=CELL, pbc=True) for shift in (0.0, 0.1)]
    write(tmp_path / "run.extxyz", structures)
    path = written(tmp_path / "run-dcdr-1_0.data", response() + response(2 * CHARGES))
    first, second = read_frames(path)
    np.testing.assert_allclose(first.labels[Z], CHARGES, atol=1e-12)
    np.testing.assert_allclose(second.labels[Z], 2 * CHARGES, atol=1e-12)
    assert second.positions[0, 0] == pytest.approx(0.2)
    with pytest.raises(DataError, match=r"3 tables of polar tensors, but run.extxyz beside it has 2 structures"):
        read_frames(written(path, response() * 3))


def test_polar_tensors_in_an_output(tmp_path) -> None:
    (frame,) = read_frames(written(tmp_path / "all.out", output(extra=response())))
    np.testing.assert_allclose(frame.labels[Z], CHARGES, atol=1e-12)
    assert "forces" in frame.labels


def test_tensors_by_velocities_are_another_quantity(tmp_path) -> None:
    written(tmp_path / "vcd.out", output())
    path = written(tmp_path / "vcd-dcdr.data", response().replace("Position perturbation", "Velocity perturbation"))
    with pytest.raises(DataError, match="0 tables of polar tensors"):
        read_frames(path)


def test_outputs_that_cannot_be_read(tmp_path) -> None:
    for content, message in (
        (output(coordinates=False), "no complete coordinates in this output of CP2K"),
        (output(periodic=""), "which directions are periodic is not clear from this output of CP2K .nothing"),
        (output(periodic="XYZ", extra=" CELL| Periodicity    NONE"), "POISSON XYZ, CELL NONE"),
        (output(extra=output()), "a second structure"),
        (output(extra=" ENERGY| Total FORCE_EVAL ( QS ) energy [hartree]  -17.3"), "2 energies or tables of forces"),
        (output(extra=" *** WARNING SCF run NOT converged ***"), "SCF run NOT converged; run the calculation again"),
        (output(extra=response()[: response().index("APT | Atom  3") + 40]), "the table of polar tensors is cut off"),
        (output().replace(" FORCES|      3 -1.4", " FORCES|      3 *** -1.4"), "forces of 2 atoms, but the structure has 3"),
    ):
        with pytest.raises(DataError, match=message) as error:
            read_frames(written(tmp_path / "bad.out", content))
        assert "bad.out" in str(error.value)


def test_polar_tensors_that_cannot_be_read(tmp_path) -> None:
    path = tmp_path / "water-apt-1_0.data"
    with pytest.raises(DataError, match="need their structure beside them, as one of .*water.extxyz"):
        read_frames(written(path, differences()))
    written(tmp_path / "water.out", output())
    for content, message in (
        (differences().replace("     O", "     S"), "the elements are not those of water.out"),
        (differences()[:200], "rows of polar tensors|cut off"),
        (differences().replace("     2     H", "     3     H"), "expected atom 2, found"),
        (response(CHARGES * np.array([1.0, 1.0, 0.0])[:, None, None]), "atom 3 is zero in all digits: .*LIST_OF_ATOMS"),
    ):
        with pytest.raises(DataError, match=message) as error:
            read_frames(written(path, content))
        assert path.name in str(error.value)
