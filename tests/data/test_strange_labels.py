"""What ``info`` says of labels that cannot be, of keys that are not read, and of cells that are not periodic."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from bec_mace.data import Frame, read_frames, summarize
from bec_mace.data.quality.label_sizes import strange_labels
from bec_mace.data.quality.periodicity import CellWatch, bonds_across
from bec_mace.testing.structures import molecule, rocksalt

Z = "born_effective_charges"
WATER = "bec_mace:water_revpbe_d3.extxyz.gz"


@pytest.fixture(scope="module")
def water() -> list[Frame]:
    return read_frames(WATER)[:6]


def changed(frames: list[Frame], number: int, **labels: np.ndarray) -> list[Frame]:
    one = replace(frames[number], labels={**frames[number].labels, **labels})
    return [*frames[:number], one, *frames[number + 1 :]]


def test_good_labels_are_not_talked_of(water: list[Frame], files) -> None:
    assert strange_labels(water) == []
    for name in ("quartz_pbe.extxyz", "zirconia_pbe.extxyz", "water_clusters_rpbe_d3.extxyz"):
        assert strange_labels(read_frames(files / name)) == [], name
    assert summarize(read_frames(files / "water_clusters_rpbe_d3.extxyz")).strange == []


def test_stress_in_kbar(water: list[Frame]) -> None:
    (sentence,) = strange_labels(changed(water, 2, stress=np.diag([-251.0, -229.2, 55.7])))
    assert "frame 2: stress of 251 eV/Å^3" in sentence and "kbar" in sentence
    assert strange_labels(changed(water, 2, stress=np.diag([-0.1567, -0.143, 0.0348]))) == []


@pytest.mark.parametrize("name", [Z, "forces"])
def test_zeros_in_place_of_labels(water: list[Frame], name: str) -> None:
    sentences = strange_labels(changed(water, 3, **{name: np.zeros_like(water[3].labels[name])}))
    assert len(sentences) == 1 and f"frame 3: all {name} are zero; a placeholder?" in sentences[0]


def test_a_frame_of_the_other_sign(water: list[Frame]) -> None:
    (sentence,) = strange_labels(changed(water, 4, **{Z: -water[4].labels[Z]}))
    assert "frame 4: born_effective_charges have the other sign" in sentence


def test_a_frame_with_another_order_of_atoms(water: list[Frame]) -> None:
    (sentence,) = strange_labels(changed(water, 1, **{Z: np.roll(water[1].labels[Z], 1, axis=0)}))
    assert "frame 1: born_effective_charges are far from" in sentence or "other sign" in sentence
    (sentence,) = strange_labels(changed(water, 1, **{Z: 4.8 * water[1].labels[Z]}))
    assert "frame 1: born_effective_charges are far from those of the same elements" in sentence


def test_an_energy_in_another_unit(water: list[Frame]) -> None:
    (sentence,) = strange_labels(changed(water, 0, energy=water[0].labels["energy"] / 27.2))
    assert "frame 0: energy is far from that of other frames of its composition" in sentence


def test_keys_that_are_not_read_are_named(tmp_path) -> None:
    path = tmp_path / "a.extxyz"
    header = (
        'Lattice="9 0 0 0 8 0 1 0 7" virial="1 0 0 0 1 0 0 0 1" config_type=x Properties=species:S:1:pos:R:3:spin:R:1:tags:I:1'
    )
    path.write_text(f"1\n{header}\nO 0 0 0 0.5 3\n")
    text = summarize(read_frames(path)).text()
    assert "not read, name them under keys if they are labels: spin in all, virial in all" in text


def test_cells_that_hold_together_across_their_sides(caplog: pytest.LogCaptureFixture) -> None:
    crystal = rocksalt()
    cell = replace(crystal, pbc=np.zeros(3, dtype=bool), labels={})
    assert bonds_across(crystal) == 0 and bonds_across(cell) > 0
    boxed = replace(molecule(), cell=np.diag([15.0, 15.0, 15.0]))
    assert bonds_across(boxed) == 0 and bonds_across(molecule()) == 0
    (sentence,) = summarize([boxed, cell]).strange
    assert "has a cell of three vectors and pbc F F F" in sentence and 'write pbc="T T T"' in sentence
    watch = CellWatch()
    with caplog.at_level(logging.WARNING):
        for frame in (boxed, cell, cell):
            watch.note(replace(frame, source="somewhere"))
    assert len(caplog.records) == 1 and caplog.records[0].message.startswith("somewhere: has a cell")


def test_labels_that_are_nothing_but_nan_are_missing(tmp_path) -> None:
    path = tmp_path / "a.extxyz"
    header = "Properties=species:S:1:pos:R:3:forces:R:3"
    path.write_text(f"1\n{header}\nO 0 0 0 nan nan nan\n1\n{header}\nO 0 0 0 1 2 3\n")
    assert ["forces" in frame.labels for frame in read_frames(path)] == [False, True]
    assert "forces in 1 of 2" in summarize(read_frames(path)).text()
