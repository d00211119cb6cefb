import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from ase.io import write

from bec_mace.dynamics.folder import State, write_state
from bec_mace.dynamics.structure import read_structure
from bec_mace.errors import DataError, DynamicsError

WATER = "bec_mace:water_revpbe_d3.extxyz.gz"


@pytest.fixture
def two(tmp_path):
    """A trajectory of two structures, the second with masses and momenta."""
    first = Atoms("HO", positions=[[0, 0, 0], [0, 0, 1.1]], cell=[3, 4, 5], pbc=[True, True, False])
    second = first.copy()
    second.positions += 0.5
    second.set_masses([2.014, 16.0])
    second.set_momenta([[1.0, 2.0, 3.0], [-0.5, 0.0, 4.0]])
    path = tmp_path / "two.traj"
    write(path, [first, second])
    return path


def test_which_structure(two):
    last = read_structure(str(two))
    np.testing.assert_allclose(last.positions[0], 0.5)
    np.testing.assert_allclose(last.get_masses(), [2.014, 16.0])
    np.testing.assert_allclose(last.get_momenta()[1], [-0.5, 0.0, 4.0])
    first = read_structure(f"{two}@0")
    assert not first.has("momenta") and first.positions[0, 0] == 0 and first.pbc.tolist() == [True, True, False]
    assert np.array_equal(read_structure(f"{two}@-2").positions, first.positions)


def test_a_data_set_of_the_package():
    atoms = read_structure(f"{WATER}@5")
    assert len(atoms) == 192 and atoms.pbc.all() and atoms.calc is None
    assert sorted(atoms.arrays) == ["numbers", "positions"] and not atoms.info
    assert not np.array_equal(atoms.positions, read_structure(f"{WATER}@0").positions)


def test_a_supercell(two):
    atoms = read_structure(str(two), [2, 3, 1])
    assert len(atoms) == 12 and atoms.cell.lengths().tolist() == [6, 12, 5]
    with pytest.raises(DynamicsError, match=r"repeat is \[1, 1, 2\], but the structure is periodic along \[1, 1, 0\]"):
        read_structure(str(two), [1, 1, 2])


def test_the_end_of_another_run(tmp_path, two):
    atoms = read_structure(str(two))
    write_state(tmp_path / "state.npz", State.of(atoms, {"step": 3}))
    again = read_structure(str(tmp_path))
    for name in ("positions", "momenta", "masses", "numbers"):
        np.testing.assert_array_equal(again.arrays[name], atoms.arrays[name])
    assert np.array_equal(again.cell, atoms.cell) and np.array_equal(again.pbc, atoms.pbc)


def test_what_cannot_be_read(two, tmp_path):
    with pytest.raises(DataError, match="none.xyz: no such file"):
        read_structure("none.xyz")
    with pytest.raises(DataError, match="there is no structure 7 in this file; they are counted from 0"):
        read_structure(f"{two}@7")
    write(tmp_path / "other.xyz", Atoms("H"))
    write(tmp_path / "one.xyz", Atoms("H"))
    with pytest.raises(DataError, match="stands for 2 files; name the one to start from"):
        read_structure(str(tmp_path / "o*.xyz"))
    (tmp_path / "bad.xyz").write_text("nonsense\n")
    with pytest.raises(DataError, match=r"bad.xyz: ASE cannot read it \(.*\); check the file"):
        read_structure(str(tmp_path / "bad.xyz"))
    with pytest.raises(DynamicsError, match="the folder has no state.npz; name a folder that `bec-mace md` made"):
        read_structure(str(tmp_path))


def test_constraints_are_refused(tmp_path):
    write(tmp_path / "fixed.traj", Atoms("H2", positions=[[0, 0, 0], [0, 0, 1]], constraint=FixAtoms([0])))
    with pytest.raises(DynamicsError, match=r"the structure has constraints \(FixAtoms\), but all atoms move here"):
        read_structure(str(tmp_path / "fixed.traj"))
