"""Each check finds the mistake that it is for, in that frame alone, and nothing in labels that are right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bec_mace.data import Frame, read_frames
from bec_mace.data.quality.bond_lengths import strange_distances
from bec_mace.data.quality.checkup import Checkup, check_labels
from bec_mace.data.quality.near_duplicates import near_duplicates

Z = "born_effective_charges"
FILES = Path(__file__).parents[2] / "files"


@pytest.fixture(scope="module")
def clusters() -> list[Frame]:
    return read_frames(FILES / "water_clusters_rpbe_d3.extxyz")


@pytest.fixture(scope="module")
def zirconia() -> list[Frame]:
    return read_frames(FILES / "zirconia_pbe.extxyz")


def with_charges(frames: list[Frame], number: int, charges: np.ndarray) -> list[Frame]:
    frame = frames[number]
    return [*frames[:number], replace(frame, labels={**frame.labels, Z: charges}), *frames[number + 1 :]]


def found_by(found: Checkup) -> dict[str, set[int]]:
    return {
        one.check: {n for other in found.findings if other.check == one.check for n in other.frames} for one in found.findings
    }


def test_right_labels_pass(clusters: list[Frame], zirconia: list[Frame]) -> None:
    for frames in (clusters, zirconia, read_frames(FILES / "quartz_pbe.extxyz"), read_frames(FILES / "nacl_lda.extxyz")):
        found = check_labels(frames)
        assert not found.findings and not found.wrong and not found.left_out
        assert {row.n_found for row in found.rows} == {0}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_broken_field_run_breaks_one_row(clusters: list[Frame], axis: int) -> None:
    charges = clusters[4].labels[Z].copy()
    charges[:, axis] += np.random.default_rng(axis).normal(scale=0.2, size=charges[:, axis].shape)
    found = check_labels(with_charges(clusters, 4, charges))
    letter = "xyz"[axis]
    expected = {f"{rule} sum rule, P along {letter}" for rule in ("acoustic", "rotational")}
    assert {name for name in found_by(found) if "sum rule" in name} == expected
    assert found.wrong == {4}
    size = float(np.linalg.norm(charges.sum(axis=0)[axis]))
    (text,) = [one.text for one in found.findings if one.check == f"acoustic sum rule, P along {letter}"]
    assert f"frame 4: the acoustic sum rule fails by {size:.3f} e in the row of the polarization along {letter}." in text


def test_the_charge_of_an_ion_is_no_mistake(clusters: list[Frame]) -> None:
    frame = clusters[0]
    charges = frame.labels[Z] + np.eye(3) / len(frame)
    found = check_labels(with_charges(clusters, 0, charges))
    assert found.wrong == {0} and len([name for name in found_by(found) if name.startswith("acoustic")]) == 3
    ion = replace(with_charges(clusters, 0, charges)[0], info={"total_charge": 1.0})
    assert not [name for name in found_by(check_labels([ion, *clusters[1:]])) if name.startswith("acoustic")]


def test_one_transposed_frame(clusters: list[Frame]) -> None:
    found = check_labels(with_charges(clusters, 7, clusters[7].labels[Z].swapaxes(1, 2)))
    assert found_by(found) == {"transposed": {7}}
    everywhere = [replace(one, labels={**one.labels, Z: one.labels[Z].swapaxes(1, 2)}) for one in clusters]
    assert found_by(check_labels(everywhere)) == {"transposed": set(range(len(clusters)))}


def test_site_symmetry() -> None:
    """Rutile: tensors that respect the sum rule but not the symmetry of the sites."""
    from ase.spacegroup import crystal

    atoms = crystal(("Ti", "O"), [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.96, 90, 90, 90])
    tensor = {"Ti": np.array([[6.2, 1.0, 0.0], [1.0, 6.2, 0.0], [0.0, 0.0, 7.5]])}
    turned = tensor["Ti"] * np.array([[1, -1, 1], [-1, 1, 1], [1, 1, 1]])
    oxygen = [np.array([[-3.1, sign * 1.7, 0.0], [sign * 1.7, -3.1, 0.0], [0.0, 0.0, -3.75]]) for sign in (1, 1, -1, -1)]
    atoms.set_array("REF_becs", np.array([tensor["Ti"], turned, *oxygen]).reshape(-1, 9))
    right = Frame.from_atoms(atoms)
    assert not check_labels([right]).findings
    charges = right.labels[Z].copy()
    charges[0, 0, 2] += 0.3
    charges[3, 0, 2] -= 0.3
    found = check_labels(with_charges([right], 0, charges))
    assert found_by(found) == {"site symmetry": {0}}
    (row,) = [row for row in found.rows if row.name == "site symmetry"]
    # The component is forbidden, so all of it breaks the symmetry but for what the average leaves: nothing.
    assert row.worst == pytest.approx(0.3, abs=1e-9) and row.n_frames == 1


def test_without_spglib_symmetry_is_left_out(zirconia: list[Frame], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "spglib", None)
    found = check_labels(zirconia)
    assert found.left_out == [
        f"{zirconia[0].source}: the symmetry of sites is not checked, and the symmetry that this takes is found by spglib: "
        "pip install spglib"
    ]


def test_an_atom_of_another_sign(zirconia: list[Frame]) -> None:
    frames = read_frames(FILES / "quartz_pbe.extxyz")
    charges = frames[1].labels[Z].copy()
    charges[[5, 6]] = -charges[[5, 6]]
    found = check_labels(with_charges(frames, 1, charges))
    assert found_by(found)["far from one charge per element"] == {1}
    (text,) = [one.text for one in found.findings if one.check.startswith("far")]
    assert "frame 1: Z* of atom " in text and "and 1 more atoms." in text
    whole = check_labels(with_charges(zirconia, 3, -zirconia[3].labels[Z]))
    assert found_by(whole)["sizes and units"] == {3}


def test_units(clusters: list[Frame], zirconia: list[Frame]) -> None:
    bohr = [replace(one, positions=one.positions * 1.8897) for one in clusters[:2]]
    assert "are lengths in bohr?" in strange_distances(bohr[0])
    assert "are lengths in nm?" in strange_distances(replace(clusters[0], positions=clusters[0].positions / 10))
    close = clusters[5].positions.copy()
    close[1] = close[0] + [0.0, 0.0, 0.3]
    assert "atoms 0 and 1 are 0.300 Å" in strange_distances(replace(clusters[5], positions=close)).replace("1 and 0", "0 and 1")
    assert found_by(check_labels([*clusters[2:], bohr[0]]))["sizes and units"] == {len(clusters) - 2}
    large = [replace(one, labels={**one.labels, Z: 14.4 * one.labels[Z]}) for one in zirconia]
    texts = [one.text for one in check_labels(large).findings if one.check == "sizes and units"]
    assert any("the median charge of Zr is +" in text and "are Z* in another unit than e?" in text for text in texts)


def test_near_duplicates(zirconia: list[Frame]) -> None:
    moved = zirconia[2].positions + [0.3, 0.2, 0.1]
    moved[1, 2] += 0.006
    # Two of three atoms move by a third of it, when the shift as a whole is taken out.
    twin = replace(zirconia[2], positions=moved, source="twin")
    ((first, second, distance),) = near_duplicates([*zirconia, twin])
    assert (first, second) == (2, len(zirconia)) and distance == pytest.approx(0.004, abs=1e-9)
    found = check_labels([*zirconia, twin])
    assert found_by(found) == {"near duplicates": {len(zirconia)}}
    assert "twin: nearly the structure of" in found.findings[0].text and "differ by up to 0.000 e" in found.findings[0].text
    assert not list(near_duplicates([*zirconia, replace(twin, positions=moved + [[0, 0, 0], [0, 0, 0.02], [0, 0, 0]])]))
    assert not list(near_duplicates([*zirconia, replace(twin, cell=twin.cell + 0.02)]))


def test_many_structures_lose_no_pair() -> None:
    generator = np.random.default_rng(2)
    base = [generator.normal(size=(20, 3)) for _ in range(300)]
    frames = [Frame(np.ones(20, dtype=np.int64), one, np.zeros((3, 3)), np.zeros(3, dtype=bool)) for one in base]
    frames += [replace(one, positions=one.positions + generator.uniform(-0.004, 0.004, (20, 3))) for one in frames[::10]]
    assert [pair[:2] for pair in near_duplicates(frames)] == [(10 * n, 300 + n) for n in range(30)]


def test_a_perfect_crystal_has_no_forces() -> None:
    from ase.build import bulk

    frames = []
    for shift in (0.0, 0.1, 0.2):
        atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
        atoms.positions[0, 0] += shift
        atoms.set_array("REF_forces", np.zeros((8, 3)) if shift != 0.1 else np.full((8, 3), 0.1))
        frames.append(Frame.from_atoms(atoms, source=f"frame {shift}"))
    found = check_labels(frames)
    assert found_by(found) == {"sizes and units": {2}} and "all forces are zero" in found.findings[0].text
