from __future__ import annotations

import gzip

import numpy as np
import pytest
from ase import Atoms

from bec_mace import datasets
from bec_mace.data import Frame, check_complete, read_frames
from bec_mace.data.reading import expand
from bec_mace.errors import DataError


def dimers(count: int, labelled: int | None = None) -> list[Atoms]:
    frames = []
    for index in range(count):
        atoms = Atoms("HF", positions=[[0, 0, 0], [0.9 + 0.01 * index, 0, 0]])
        if labelled is None or index < labelled:
            atoms.info["REF_energy"] = -1.0 * index
        frames.append(atoms)
    return frames


def test_frames_keep_order_and_source(write_extxyz) -> None:
    path = write_extxyz(dimers(3))
    frames = read_frames(path)
    assert [float(frame.labels["energy"]) for frame in frames] == [0, -1, -2]
    assert frames[2].source == f"{path}, frame 2"


def test_globs_are_sorted_and_lists_keep_order(write_extxyz, tmp_path) -> None:
    for name, start in (("b.extxyz", 3), ("a.extxyz", 2)):
        write_extxyz(dimers(start + 1)[start], name)
    assert [path.name for path in expand(str(tmp_path / "*.extxyz"))] == ["a.extxyz", "b.extxyz"]
    energies = [float(frame.labels["energy"]) for frame in read_frames([tmp_path / "b.extxyz", tmp_path / "a.extxyz"])]
    assert energies == [-3, -2]


def test_compressed_file(write_extxyz, tmp_path) -> None:
    packed = tmp_path / "frames.extxyz.gz"
    packed.write_bytes(gzip.compress(write_extxyz(dimers(2)).read_bytes()))
    assert len(read_frames(packed)) == 2


def test_other_formats(tmp_path) -> None:
    Atoms("NaCl", positions=[[0, 0, 0], [2.8, 0, 0]], cell=[5.6] * 3, pbc=True).write(tmp_path / "crystal.cif")
    frame = read_frames(tmp_path / "crystal.cif")[0]
    assert sorted(frame.atomic_numbers) == [11, 17]
    assert frame.labels == {}


def test_included_set() -> None:
    frames = read_frames("bec_mace:water_revpbe_d3.extxyz.gz", require=["born_effective_charges", "energy", "forces"])
    assert len(frames) == 23
    assert {len(frame) for frame in frames} == {192}
    crystals = read_frames("bec_mace:crystals_dfpt.extxyz.gz", require=["born_effective_charges", "dielectric_tensor"])
    assert len(crystals) == 1216
    assert len({int(number) for frame in crystals for number in frame.atomic_numbers}) == 64
    sums = [np.abs(frame.labels["born_effective_charges"].sum(axis=0)).max() for frame in crystals]
    assert max(sums) < 1e-6
    assert datasets.names() == ["crystals_dfpt.extxyz.gz", "water_revpbe_d3.extxyz.gz"]


def test_unknown_included_set() -> None:
    with pytest.raises(DataError, match="'ice.extxyz' is no included data set. There are: crystals_dfpt.extxyz.gz, water_rev"):
        read_frames("bec_mace:ice.extxyz")


def test_missing_file(tmp_path) -> None:
    with pytest.raises(DataError, match="nothing.xyz: no such file. Paths are relative to"):
        read_frames(tmp_path / "nothing.xyz")
    with pytest.raises(DataError, match="no such file"):
        read_frames(str(tmp_path / "*.none"))


def test_no_files() -> None:
    with pytest.raises(DataError, match="No files of structures were named"):
        read_frames([])


def test_file_named_twice(write_extxyz, tmp_path) -> None:
    path = write_extxyz(dimers(1))
    with pytest.raises(DataError, match="frames.extxyz: named twice"):
        read_frames([path, str(tmp_path / "*.extxyz")])


def test_file_that_ase_cannot_read(tmp_path) -> None:
    path = tmp_path / "broken.extxyz"
    path.write_text("1\nProperties=species:S:1:pos:R:3\nH 0 0 0\n1\nProperties=species:S:1:pos:R:3\nQq 0 0 0\n")
    with pytest.raises(DataError, match=r"broken.extxyz, frame 1: ASE cannot read it \(KeyError"):
        read_frames(path)


def test_file_without_structures(tmp_path) -> None:
    path = tmp_path / "empty.extxyz"
    path.write_text("")
    with pytest.raises(DataError, match="empty.extxyz"):
        read_frames(path)


def test_bad_frame_is_named(tmp_path) -> None:
    path = tmp_path / "bad.extxyz"
    head = "1\nProperties=species:S:1:pos:R:3:REF_becs:R:9\n"
    path.write_text(f"{head}H 0 0 0{' 1' * 9}\n{head}H 0 0 0{' 1' * 8} NaN\n")
    with pytest.raises(DataError, match=r"bad.extxyz, frame 1: 'REF_becs' \(born_effective_charges\) is not finite"):
        read_frames(path)


def test_required_property_in_no_frame(write_extxyz) -> None:
    path = write_extxyz(dimers(3))
    message = r"forces: found in 0 of 3 frames \(first: .*frame 0\). The files hold: REF_energy"
    with pytest.raises(DataError, match=message):
        read_frames(path, require=["forces"], allow_missing=["forces"])
    with pytest.raises(DataError, match=r"energy \(key 'my_energy'\): found in 0 of 3"):
        read_frames(path, require=["energy"], keys={"energy": "my_energy"})


def test_required_property_in_some_frames(write_extxyz) -> None:
    path = write_extxyz(dimers(5, labelled=3))
    with pytest.raises(DataError, match=r"energy: found in 3 of 5 frames \(first missing: .*frame 3\)"):
        read_frames(path, require=["energy"])
    frames = read_frames(path, require=["energy"], allow_missing=["energy"])
    assert ["energy" in frame.labels for frame in frames] == [True, True, True, False, False]


def test_required_properties_are_always_read(write_extxyz) -> None:
    frames = read_frames(write_extxyz(dimers(1)), properties=[], require=["energy"])
    assert set(frames[0].labels) == {"energy"}


def test_unknown_names_fail_before_reading(tmp_path) -> None:
    for option in ("require", "allow_missing", "properties"):
        with pytest.raises(DataError, match=f"{option}: 'force' is no property. Did you mean 'forces'"):
            read_frames(tmp_path / "nothing.xyz", **{option: ["force"]})
    with pytest.raises(DataError, match="index_order: 'first' is unknown"):
        read_frames(tmp_path / "nothing.xyz", index_order="first")


def test_check_complete_without_keys() -> None:
    frame = Frame(np.array([1]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool), source="here")
    with pytest.raises(DataError, match=r"dipole: found in 0 of 1 frames \(first: here\). Name its key under keys"):
        check_complete([frame], ["dipole"])


def test_labels_under_two_keys_that_nobody_asks_for_are_left_out(write_extxyz, caplog):
    frames = [Atoms("OH", positions=[[0, 0, 0.1], [0, 0, 1.0]]) for _ in range(2)]
    for number, atoms in enumerate(frames):
        atoms.info.update(REF_energy=-1.5, REF_dipole=[0.0, 0.5, 1.0], dipole=[0.0, 0.5, 1.0 + number])
    path = write_extxyz(frames)
    first, second = read_frames(path, require=["energy"])
    assert set(first.labels) == {"energy", "dipole"} and set(second.labels) == {"energy"}
    assert caplog.text.count("two different values of dipole, 'REF_dipole' and 'dipole'") == 1
    assert "frame 1" in caplog.text and "left out of all frames where this is so" in caplog.text
    chosen = read_frames(path, keys={"dipole": "dipole"}, require=["dipole"])
    assert chosen[1].labels["dipole"].tolist() == [0.0, 0.5, 2.0]
    for asked in ({"require": ["dipole"]}, {"properties": ["dipole"]}, {"allow_missing": ["dipole"]}):
        with pytest.raises(DataError, match="frame 1: two different values of dipole"):
            read_frames(path, **asked)
