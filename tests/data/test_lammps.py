"""Dumps of LAMMPS: cells against ASE's reader, units, elements that are not guessed."""

import ase.io
import numpy as np
import pytest
from ase import units

from bec_mace.data import read_frames
from bec_mace.data.formats import find_format
from bec_mace.data.reading import read_atoms
from bec_mace.errors import DataError

BOXES = {
    "orthogonal": "pp pp ff\n-1.0 9.0\n0.5 8.5\n0.0 7.0",
    "triclinic": "xy xz yz pp pp pp\n-1.5 11.0 2.0\n0.2 8.0 -0.5\n0.0 7.0 -1.2",
    "tilted back": "xy xz yz pp pp pp\n-2.5 9.0 -1.0\n0.0 8.6 -1.5\n0.0 7.0 0.6",
}


def dump(path, rows, columns="id element xu yu zu vx vy vz", box=BOXES["triclinic"], head="", step=10):
    text = f"{head}ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n{len(rows)}\nITEM: BOX BOUNDS {box}\nITEM: ATOMS {columns}\n"
    with path.open("a") as file:
        file.write(text + "".join(f"{row}\n" for row in rows))
    return path


ROWS = ["2 H 1.9 1.1 0.3 0.5 -0.25 0.125", "1 O 1.0 1.2 1.3 -1.0 2.0 3.0", "3 H 20.0 1.0 1.0 0.0 0.5 0.0"]


def atoms_of(path):
    return list(read_atoms(find_format(path)))


@pytest.mark.parametrize("box", BOXES)
def test_cell_and_positions_are_those_that_ase_reads(box, tmp_path):
    path = dump(tmp_path / "a.lammpstrj", ROWS, box=BOXES[box])
    (mine,), theirs = atoms_of(path), ase.io.read(path, format="lammps-dump-text")
    assert mine.get_chemical_symbols() == ["O", "H", "H"] == theirs.get_chemical_symbols()
    np.testing.assert_allclose(mine.cell.array, theirs.cell.array, atol=1e-12)
    np.testing.assert_allclose(mine.positions, theirs.positions, atol=1e-12)
    assert mine.pbc.tolist() == theirs.pbc.tolist() == [True, True, box != "orthogonal"]


def test_scaled_positions(tmp_path):
    (plain,) = atoms_of(dump(tmp_path / "plain.dump", ROWS))
    origin = np.array([-1.0, 1.4, 0.0])  # the box of the dump bounds the tilted one: xlo is -1.5 - min(0, 2, -0.5, 1.5)
    fractions = np.linalg.solve(plain.cell.array.T, (plain.positions - origin).T).T
    rows = [f"{i + 1} {s} {x} {y} {z}" for i, (s, (x, y, z)) in enumerate(zip("OHH", fractions.tolist(), strict=True))]
    (scaled,) = atoms_of(dump(tmp_path / "scaled.dump", rows, "id element xsu ysu zsu"))
    np.testing.assert_allclose(scaled.positions, plain.positions, atol=1e-12)


@pytest.mark.parametrize(("style", "to_fs", "time"), [("metal", 1e-3, 5.0), ("real", 1.0, 0.005)])
def test_units_that_the_file_says(style, to_fs, time, tmp_path):
    head = f"ITEM: UNITS\n{style}\nITEM: TIME\n0.005\n"
    path = dump(tmp_path / "a.dump", ROWS, head=head)
    dump(path, ROWS, head="ITEM: TIME\n0.010\n", step=11)  # units are said once
    first, second = atoms_of(path)
    np.testing.assert_allclose(first.get_velocities()[0] * units.fs, np.array([-1.0, 2.0, 3.0]) * to_fs, atol=1e-12)
    np.testing.assert_allclose(second.get_velocities(), first.get_velocities())
    assert first.info == {"step": 10, "time_fs": pytest.approx(time)} and second.info["time_fs"] == pytest.approx(2 * time)


def test_units_that_nobody_says(tmp_path):
    (atoms,) = atoms_of(dump(tmp_path / "a.dump", ROWS))
    assert not atoms.has("momenta") and atoms.arrays["velocities"][1].tolist() == [0.5, -0.25, 0.125]


def test_charges_and_what_is_left_aside(tmp_path):
    path = dump(tmp_path / "a.dump", ["1 O 0 0 0 -0.8 1.5", "2 H 1 0 0 0.8 2.5"], "id element x y z q fx")
    (frame,) = read_frames(path)
    assert frame.labels["charges"].tolist() == [-0.8, 0.8] and frame.unread == ("lammps_fx",)


@pytest.mark.parametrize(
    ("columns", "rows", "options", "message"),
    [
        ("id type x y z", ["1 2 0 0 0", "2 1 1 0 0"], {}, r"a.dump, frame 0: has types 1, 2 and no elements. .*dump_modify"),
        ("id x y z", ["1 0 0 0"], {}, "frame 0: has no types and no elements"),
        ("id element x y z", ["1 Ow 0 0 0"], {}, "'Ow' is no element"),
        ("id element x y", ["1 O 0 0"], {}, r"has no positions \(x y z.*only id, element, x, y"),
        ("id element x y z", ["1 O 0 0"], {}, "expected 5 columns"),
        ("id element x y z", ["1 O 0 nan 0"], {}, "x, y, z are not finite"),
        ("id element x y z", ["1 O 0 0 0"], {"head": "ITEM: UNITS\nlj\n"}, "units of the style 'lj' are not known"),
        ("id element x y z", ["1 O 0 0 0"], {"box": "\n0 1\n0 1\n0 1"}, "does not say in which directions it is periodic"),
    ],
)
def test_nothing_is_guessed(columns, rows, options, message, tmp_path):
    path = dump(tmp_path / "a.dump", rows, columns, **options)
    with pytest.raises(DataError, match=message):
        atoms_of(path)


def test_a_dump_that_is_cut_off(tmp_path):
    path = dump(tmp_path / "a.dump", ROWS)
    text = path.read_text()
    path.write_text(text + text.rpartition("3 H")[0])
    with pytest.raises(DataError, match="ends too early; the file is cut off"):
        atoms_of(path)
