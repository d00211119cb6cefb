from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from bec_mace.data import read_frames
from bec_mace.data.labels import extract_labels, file_keys, metadata
from bec_mace.errors import DataError
from bec_mace.properties import PROPERTIES

TENSORS = np.arange(18.0).reshape(2, 3, 3)


@pytest.fixture
def atoms() -> Atoms:
    return Atoms("HF", positions=[[0, 0, 0], [0.9, 0, 0]])


@pytest.mark.parametrize("key", PROPERTIES["born_effective_charges"].keys)
def test_every_alias_through_a_file(atoms: Atoms, key: str, write_extxyz) -> None:
    atoms.new_array(key, TENSORS.reshape(2, 9))
    labels = read_frames(write_extxyz(atoms))[0].labels
    np.testing.assert_array_equal(labels["born_effective_charges"], TENSORS)


@pytest.mark.parametrize("shape", [(2, 9), (2, 3, 3)])
def test_tensors_in_calculator_results(atoms: Atoms, shape: tuple[int, ...]) -> None:
    atoms.calc = SinglePointCalculator(atoms, born_effective_charges=TENSORS.reshape(shape))
    np.testing.assert_array_equal(extract_labels(atoms, "x")["born_effective_charges"], TENSORS)


def test_displacement_first_is_transposed(atoms: Atoms) -> None:
    atoms.new_array("apt", TENSORS.reshape(2, 9))
    labels = extract_labels(atoms, "x", index_order="displacement_first")
    assert labels["born_effective_charges"][1, 0, 2] == TENSORS[1, 2, 0]
    np.testing.assert_array_equal(labels["born_effective_charges"], TENSORS.transpose(0, 2, 1))


def test_labels_that_ase_moves_to_the_calculator(tmp_path) -> None:
    path = tmp_path / "moved.extxyz"
    path.write_text(
        '2\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-3.5 dipole="1 2 3" pbc="F F F"\nH 0 0 0 1 2 3\nF 0.9 0 0 4 5 6\n'
    )
    labels = read_frames(path)[0].labels
    assert labels["energy"] == -3.5
    assert labels["dipole"].tolist() == [1, 2, 3]
    assert labels["forces"].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_frame_tensors_are_row_major(tmp_path) -> None:
    path = tmp_path / "tensor.extxyz"
    path.write_text('1\nProperties=species:S:1:pos:R:3 REF_polarizability="1 2 3 4 5 6 7 8 9" pbc="F F F"\nH 0 0 0\n')
    assert read_frames(path)[0].labels["polarizability"].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize("key", ["REF_stress", "stress"])
def test_stress_in_voigt_order(atoms: Atoms, key: str) -> None:
    voigt = np.array([1.0, 2, 3, 4, 5, 6])
    if key == "stress":
        atoms.calc = SinglePointCalculator(atoms, stress=voigt)
    else:
        atoms.info[key] = voigt
    assert extract_labels(atoms, "x")["stress"].tolist() == [[1, 6, 5], [6, 2, 4], [5, 4, 3]]


def test_stress_as_nine_numbers_in_a_file(tmp_path) -> None:
    path = tmp_path / "stress.extxyz"
    path.write_text('1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 stress="1 6 5 6 2 4 5 4 3"\nH 0 0 0\n')
    assert read_frames(path)[0].labels["stress"].tolist() == [[1, 6, 5], [6, 2, 4], [5, 4, 3]]


def test_single_atom_keeps_its_axis() -> None:
    atoms = Atoms("H")
    atoms.info["REF_becs"] = np.arange(9.0)
    atoms.info["REF_charges"] = 0.25
    labels = extract_labels(atoms, "x")
    assert labels["born_effective_charges"].shape == (1, 3, 3)
    assert labels["born_effective_charges"][0, 0, 2] == 2
    assert labels["charges"].tolist() == [0.25]


def test_own_key_replaces_the_aliases(atoms: Atoms) -> None:
    atoms.info |= {"REF_energy": -1.0, "dft_energy": -2.0}
    assert extract_labels(atoms, "x", keys={"energy": "dft_energy"})["energy"] == -2.0


def test_own_key_is_taken_from_other_properties(atoms: Atoms) -> None:
    atoms.info["REF_dipole"] = np.array([1.0, 2, 3])
    labels = extract_labels(atoms, "x", keys={"polarization": "REF_dipole"})
    assert set(labels) == {"polarization"}


def test_only_the_named_properties_are_read(atoms: Atoms) -> None:
    atoms.info |= {"REF_energy": "broken", "REF_dipole": np.zeros(3)}
    assert set(extract_labels(atoms, "x", properties=["dipole"])) == {"dipole"}


def test_two_keys_with_one_value_are_fine(atoms: Atoms) -> None:
    atoms.info |= {"REF_energy": -1.0}
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    assert extract_labels(atoms, "x")["energy"] == -1.0


def test_two_keys_with_different_values(atoms: Atoms) -> None:
    atoms.info |= {"REF_energy": -1.0}
    atoms.calc = SinglePointCalculator(atoms, energy=-1.1)
    with pytest.raises(DataError, match="a.xyz, frame 3: two different values of energy, 'REF_energy' and 'energy'"):
        extract_labels(atoms, "a.xyz, frame 3")


def test_one_key_in_two_places(atoms: Atoms) -> None:
    atoms.new_array("forces", np.zeros((2, 3)))
    atoms.calc = SinglePointCalculator(atoms, forces=np.ones((2, 3)))
    with pytest.raises(DataError, match="forces, 'forces' in two places"):
        extract_labels(atoms, "x")


def test_free_energy_stands_in_and_never_contradicts(atoms: Atoms) -> None:
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, free_energy=-1.2)
    assert extract_labels(atoms, "x")["energy"] == -1.0
    atoms.calc = SinglePointCalculator(atoms, free_energy=-1.2)
    assert extract_labels(atoms, "x")["energy"] == -1.2


def test_values_that_are_not_finite(atoms: Atoms) -> None:
    tensors = TENSORS.reshape(2, 9).copy()
    tensors[1, 4] = np.nan
    atoms.new_array("bec", tensors)
    with pytest.raises(DataError, match=r"x: 'bec' \(born_effective_charges\) is not finite at atom 1"):
        extract_labels(atoms, "x")


def test_wrong_shape(atoms: Atoms) -> None:
    atoms.new_array("REF_becs", np.zeros((2, 6)))
    with pytest.raises(DataError, match=r"x: 'REF_becs' .* must have shape \(2, 3, 3\) or \(2, 9\), got \(2, 6\)"):
        extract_labels(atoms, "x")


def test_values_that_are_not_numbers(atoms: Atoms) -> None:
    atoms.info["REF_energy"] = "unknown"
    with pytest.raises(DataError, match=r"x: 'REF_energy' \(energy\) must hold numbers, got 'unknown'"):
        extract_labels(atoms, "x")


def test_unknown_property(atoms: Atoms) -> None:
    with pytest.raises(DataError, match="keys: 'enrgy' is no property. Did you mean 'energy'"):
        extract_labels(atoms, "x", keys={"enrgy": "E"})
    with pytest.raises(DataError, match="properties: 'zzz' is no property. Known properties: born_eff"):
        extract_labels(atoms, "x", properties=["zzz"])


def test_unknown_index_order(atoms: Atoms) -> None:
    with pytest.raises(DataError, match="index_order: 'transposed' is unknown"):
        extract_labels(atoms, "x", index_order="transposed")


def test_metadata_and_keys(atoms: Atoms) -> None:
    atoms.info |= {"config_type": "dimer", "step": 4, "REF_energy": -1.0, "mine": -2.0, "vector": np.zeros(3)}
    assert metadata(atoms, {"energy": "mine"}) == {"config_type": "dimer", "step": 4}
    assert file_keys(atoms) == {"config_type", "step", "REF_energy", "mine", "vector"}
