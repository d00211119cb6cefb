"""Extended XYZ and xyz as other programs write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bec_mace.data import read_frames
from bec_mace.data.sources import iter_sources, to_frame
from bec_mace.errors import DataError
from bec_mace.units import BOHR

ATOMS = "O 0 0 0 0.1 0.2 0.3\nH 0.96 0 0 0 0 -0.1\nH -0.24 0.93 0 -0.1 -0.2 -0.2\n"


def write(folder: Path, header: str, atoms: str = ATOMS, name: str = "a.xyz") -> Path:
    path = folder / name
    path.write_text(f"{len(atoms.splitlines())}\n{header}\n{atoms}", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz"])
def test_keys_of_the_header_in_any_case(tmp_path: Path, name: str) -> None:
    header = 'lattice="9 0 0 0 8 0 1 0 7" energy=-1.5 properties=species:S:1:Pos:r:3:force:R:3 PBC="T F T"'
    (frame,) = read_frames(write(tmp_path, header, name=name))
    np.testing.assert_array_equal(frame.cell, [[9, 0, 0], [0, 8, 0], [1, 0, 7]])
    assert frame.pbc.tolist() == [True, False, True]
    np.testing.assert_allclose(frame.labels["forces"][0], [0.1, 0.2, 0.3])
    assert frame.labels["energy"] == -1.5
    np.testing.assert_array_equal(to_frame(next(iter_sources(tmp_path / name))).cell, frame.cell)


def test_a_header_that_says_it_twice_is_refused(tmp_path: Path) -> None:
    header = 'lattice="9 0 0 0 8 0 1 0 7" Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:force:R:3'
    with pytest.raises(DataError, match="both 'Lattice' and 'lattice'; leave one out"):
        read_frames(write(tmp_path, header))


def test_what_looks_like_a_key_inside_a_value_stays(tmp_path: Path) -> None:
    header = 'Lattice="9 0 0 0 8 0 1 0 7" Properties=species:S:1:pos:R:3:force:R:3 comment="a lattice=3 of pbc=x"'
    (frame,) = read_frames(write(tmp_path, header))
    assert frame.info["comment"] == "a lattice=3 of pbc=x"


@pytest.mark.parametrize(
    ("text", "pbc"),
    [
        ('"[true,true,false]"', [True, True, False]),
        ("[T,F,F]", [True, False, False]),
        ('"1 1 0"', [True, True, False]),
        ('"F"', [False] * 3),
    ],
)
def test_periodic_directions_in_any_form(tmp_path: Path, text: str, pbc: list[bool]) -> None:
    (frame,) = read_frames(write(tmp_path, f'Lattice="9 0 0 0 8 0 1 0 7" Properties=species:S:1:pos:R:3:x:R:3 pbc={text}'))
    assert frame.pbc.tolist() == pbc


def test_periodic_directions_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='pbc="maybe" is not understood'):
        read_frames(write(tmp_path, 'Lattice="9 0 0 0 8 0 1 0 7" Properties=species:S:1:pos:R:3:x:R:3 pbc="maybe"'))


def test_isotopes_colons_and_byte_order_marks(tmp_path: Path) -> None:
    path = write(tmp_path, "Properties=species:S:1:pos:R:3:mtt::f:R:3", ATOMS.replace("H", "D", 1))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    (frame,) = read_frames(path, keys={"forces": "mtt::f"})
    assert frame.atomic_numbers.tolist() == [8, 1, 1]
    np.testing.assert_allclose(frame.labels["forces"][2], [-0.1, -0.2, -0.2])
    carried = to_frame(next(iter_sources(path))).to_atoms()
    np.testing.assert_allclose(carried.get_masses(), [15.999, 2.01410177812, 1.008], atol=1e-6)


def ipi(folder: Path, comment: str, name: str = "run.xyz") -> Path:
    path = folder / name
    path.write_text(f"2\n{comment}\n  O  1.0 2.0 3.0\n  H  1.0 2.0 4.8\n" * 2)
    return path


def test_trajectories_of_ipi_have_their_cell_and_units(tmp_path: Path) -> None:
    cell = "# CELL(abcABC):   20.0   18.0    22.0    90.0   60.0   90.0  Step:  0  Bead:  0"
    frames = read_frames(ipi(tmp_path, f"{cell} positions{{atomic_unit}}  cell{{angstrom}}"))
    assert len(frames) == 2 and frames[1].pbc.all()
    np.testing.assert_allclose(frames[0].positions[1], BOHR * np.array([1.0, 2.0, 4.8]))
    np.testing.assert_allclose(frames[0].cell[0], [20.0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(frames[0].cell[2], [11.0, 0, 22.0 * 0.75**0.5], atol=1e-12)
    (same, _) = read_frames(ipi(tmp_path, f"{cell} Traj: positions{{angstrom}}", "new.xyz"))
    np.testing.assert_allclose(same.positions[1], [1.0, 2.0, 4.8])


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("# CELL(abcABC): 20 20 20 90 90 90 becx{atomic_unit} cell{atomic_unit}", "line 1: holds becx; give the file of pos"),
        ("# CELL(abcABC): 20 20 20 90 90 90 Step: 0", "does not say what it holds, or in which units"),
        ("# CELL(abcABC): 20 20 20 90 90 90 positions{furlong}", "the unit 'furlong' of .* is not known"),
        ("# CELL(H): 20 0 0 0 20 0 positions{angstrom}", "not of the kind CELL\\(abcABC\\)"),
    ],
)
def test_what_is_not_understood_of_ipi_is_refused(tmp_path: Path, comment: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_frames(ipi(tmp_path, comment))


CIF = """\
data_x
_cell_length_a 4.2
_cell_length_b 4.2
_cell_length_c 4.2
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Mg1 Mg 0 0 0 SHARE
O1 O 0.5 0.5 0.5 1.0
"""


def test_sites_that_are_occupied_in_part_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.cif"
    path.write_text(CIF.replace("SHARE", "0.5"))
    with pytest.raises(DataError, match=r"a.cif, frame 0: site 0 is occupied in part \(Mg 0.5\)"):
        read_frames(path)
    with pytest.raises(DataError, match="occupied in part"):
        next(iter_sources(path))
    path.write_text(CIF.replace("SHARE", "1.0"))
    assert read_frames(path)[0].atomic_numbers.tolist() == [12, 8]
