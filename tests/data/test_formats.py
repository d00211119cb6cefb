"""Outputs of ph.x, BORN files of phonopy, and how outputs are told from other files."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pytest

from bec_mace.data import formats as outputs
from bec_mace.data import read_frames
from bec_mace.data import sources as streaming
from bec_mace.data.formats.parsing import read_head
from bec_mace.errors import DataError
from bec_mace.units import BOHR

Z = "born_effective_charges"
EPS = "dielectric_tensor"
DIELECTRIC = "Dielectric constant in cartesian axis"
BLOCK = "Effective charges (d Force / dE) in cartesian axis\n"
# As ph.x 7 writes them: both derivatives, with and without the acoustic sum rule, numbers of this test.
NEW_BLOCKS = """
          Effective charges (d Force / dE) in cartesian axis without acoustic sum rule applied (asr)

           atom    1  Na    Mean Z*:        1.00000
      Ex  (        1.00000        0.20000        0.30000 )
      Ey  (        0.40000        5.00000        0.60000 )
      Ez  (        0.70000        0.80000        9.00000 )
REST
          Effective charges Sum: Mean:        0.00000
             -0.07861       -0.00000       -0.00000

          Effective charges (d Force / dE) in cartesian axis with asr applied:
           atom    1  Na    Mean Z*:        2.17483
      E*x (        7.00000       -0.00000        0.00000 )
"""


@pytest.fixture(scope="module")
def text(files) -> str:
    return gzip.decompress((files / "outputs" / "NaCl.ph.out.gz").read_bytes()).decode()


def rows(letter: str) -> str:
    """Atoms 2 to 8, each with rows of its number in the off-diagonal corner."""
    labels = ["Na"] * 3 + ["Cl"] * 4
    return "\n".join(
        f"           atom    {n}  {label}    Mean Z*:  0.1\n      {letter}x  ( 1.0 0.0 {n}.0 )\n"
        f"      {letter}y  ( 0.0 1.0 0.0 )\n      {letter}z  ( 0.0 0.0 1.0 )"
        for n, label in enumerate(labels, start=2)
    )


def test_phonon_output(files) -> None:
    (frame,) = read_frames(files / "outputs" / "NaCl.ph.out.gz", index_order="displacement_first")
    assert frame.labels.keys() == {Z, EPS}
    assert frame.labels[EPS].tolist() == (2.472958201 * np.eye(3)).tolist()
    assert np.diagonal(frame.labels[Z][5]).tolist() == [-1.11114, -1.11198, -1.11198]
    assert frame.atomic_numbers.tolist() == [11] * 4 + [17] * 4
    np.testing.assert_allclose(frame.cell, 10.75311 * BOHR * np.eye(3), rtol=1e-12)
    np.testing.assert_allclose(frame.positions[2], [10.75311 * BOHR / 2, 0, 10.75311 * BOHR / 2], rtol=1e-12)
    assert frame.pbc.all()


def test_the_last_raw_block_counts(text, read) -> None:
    last = text.rindex(BLOCK)
    changed = text[:last] + text[last:].replace("1.09924        0.00000        0.00000", "1.09924  0.25000  -0.50000", 1)
    assert read(changed)[0].labels[Z][0, 0].tolist() == [1.09924, 0.25, -0.5]
    (frame,) = read(text + NEW_BLOCKS.replace("REST", rows("E")))
    assert frame.labels[Z][0].tolist() == [[1, 0.2, 0.3], [0.4, 5, 0.6], [0.7, 0.8, 9]]
    assert frame.labels[Z][:, 0, 2].tolist() == [0.3, 2, 3, 4, 5, 6, 7, 8]
    polarization = NEW_BLOCKS.split("Effective charges Sum")[0].replace("d Force / dE", "d P / du").replace(" E", " P")
    polarization = polarization.replace("Pffective", "Effective").replace(" without acoustic sum rule applied (asr)", "")
    (frame,) = read(text + polarization.replace("REST", rows("P")))
    assert frame.labels[Z][0].tolist() == [[1, 0.2, 0.3], [0.4, 5, 0.6], [0.7, 0.8, 9]]


def test_the_last_dielectric_tensor_counts(text, read) -> None:
    last = text.rindex(DIELECTRIC)
    rows = "2.472958201       0.000000000       0.000000000"
    changed = text[:last] + text[last:].replace(rows, "2.4 0.1 -0.2", 1)
    assert read(changed)[0].labels[EPS][0].tolist() == [2.4, 0.1, -0.2]
    with pytest.raises(DataError, match=r"run_7, line \d+: '\*+' stands where a number"):
        read(text[:last] + text[last:].replace(rows, "*********** 0.0 0.0", 1))
    with pytest.raises(DataError, match=r"run_7, line \d+: expected 3 numbers, found"):
        read(text[: text.index(")\n", last + 200)])


def test_output_with_the_sum_rule_only(text, read) -> None:
    with pytest.raises(DataError, match="run_7: Born effective charges only with the acoustic sum rule applied"):
        read(text.replace(BLOCK, BLOCK.replace("axis", "axis with asr applied:")))


def test_phonon_output_without_charges(text, read) -> None:
    bare = text[: text.index(BLOCK)]
    assert set(read(bare)[0].labels) == {EPS}
    assert read(bare[: bare.index(DIELECTRIC)])[0].labels == {}
    with pytest.raises(DataError, match="found in 0 of 1 .* ph.x writes Born effective charges at q = 0 with epsil"):
        read(bare, require=[Z])


def test_damaged_phonon_output(text, read) -> None:
    last = text.rindex(BLOCK)
    site = "tau(    2) = (    0.00000    0.50000    0.50000  )"
    damage = {
        r"line \d+: Born effective charges of 7 atoms, but the structure has 8": text[
            : text.index("           atom      8", last)
        ],
        r"line \d+: row y of atom 3 is missing": text[: text.index("      Ey", text.index("atom      3", last))],
        r"line \d+: '\*+' stands where": text[:last] + text[last:].replace("1.09924", "*******", 1),
        r"line \d+: expected atom 2 Na, found 'atom      2   Cl'": text[:last]
        + text[last:].replace("atom      2   Na", "atom      2   Cl"),
        "no complete sites in this output": text.replace("        8     Cl  35.4530", " "),
        "no complete lattice parameter and crystal axes": text.replace("(alat)  =", "=").replace("a(1) =", ""),
        r"line \d+: this site is not as before": text
        + "        2     Na  22.9898   "
        + site.replace("0.00000", "0.10000")
        + "\n",
        r"the lattice vectors enclose 1243.3754 bohr\^3, but the volume is given as 1343": text.replace(
            "1243.3759", "1343.3759"
        ),
        "the type of atoms 'Q9' begins with no element": re.sub(r"\bNa\b", "Q9", text),
    }
    for message, content in damage.items():
        with pytest.raises(DataError, match="run_7[,:] " + message):
            read(content)


@pytest.mark.parametrize(("label", "number"), [("Cl1", 17), ("CL", 17), ("Cl_a", 17), ("Ox", 8), ("h2", 1)])
def test_types_of_atoms(text, read, label, number) -> None:
    assert read(re.sub(r"\bCl\b", label, text))[0].atomic_numbers[7] == number


def born(tmp_path, tensors, title="14.400", poscar="POSCAR", atoms=2) -> str:
    lines = [title, " 2.4 0.1 0 0 2.5 0 0.2 0 2.6", *(" ".join(f"{x:.5f}" for x in row) for row in tensors)]
    (tmp_path / "born.txt").write_text("\n".join(lines) + "\n")
    if poscar:
        symbols = "Na Cl\n1.0\n5 0 0\n0 5 0\n0 0 5\nNa Cl\n"
        places = "".join(f"{0.1 * index} 0 0\n" for index in range(atoms))
        (tmp_path / poscar).write_text(f"{symbols}1 {atoms - 1}\nDirect\n{places}")
    return str(tmp_path / "born.txt")


TENSORS = np.arange(18.0).reshape(2, 9)


@pytest.mark.parametrize("title", ["14.400", "# epsilon and Z* of atoms 1 2", "default value"])
@pytest.mark.parametrize("poscar", ["POSCAR", "POSCAR-unitcell"])
def test_born_file_of_all_atoms(tmp_path, title, poscar) -> None:
    (frame,) = read_frames(born(tmp_path, TENSORS, title, poscar), index_order="displacement_first")
    assert frame.labels[Z][1].tolist() == [[9, 10, 11], [12, 13, 14], [15, 16, 17]]
    assert frame.labels[EPS].tolist() == [[2.4, 0.1, 0], [0, 2.5, 0], [0.2, 0, 2.6]]
    assert frame.atomic_numbers.tolist() == [11, 17]


def test_born_file_of_some_atoms(tmp_path) -> None:
    with pytest.raises(DataError, match=r"born.txt: .* of 2 atoms, but the independent atoms .* are 1, 2, 3 of 3"):
        read_frames(born(tmp_path, TENSORS, atoms=3))
    with pytest.raises(DataError, match=r"of 2 atoms \(atoms 1, 5\), but the independent atoms"):
        read_frames(born(tmp_path, TENSORS, "# epsilon and Z* of atoms 1 5"))


def test_born_file_alone_or_damaged(tmp_path) -> None:
    with pytest.raises(DataError, match="needs its structure beside it, as POSCAR-unitcell or POSCAR"):
        read_frames(born(tmp_path, TENSORS, poscar=""))
    path = tmp_path / "born.txt"
    path.write_text(path.read_text().replace("4.00000", "*******"))
    with pytest.raises(DataError, match=r"born.txt, line 3: '\*+' stands where a number should be"):
        read_frames(path)
    path.write_text("\n".join([*path.read_text().splitlines()[:3], "1 2 3"]))
    with pytest.raises(DataError, match="born.txt, line 3"):
        read_frames(path)


def test_other_files_are_left_alone(files, write_extxyz, tmp_path) -> None:
    for path in files.glob("*.extxyz"):
        assert outputs.recognise(path) is None
    table = tmp_path / "table.xyz"
    table.write_text("1\n1 2 3 4 5 6 7 8 9\nH 0 0 0\n")
    assert outputs.recognise(table) is None
    assert outputs.recognise(tmp_path / "nothing") is None
    broken = tmp_path / "OUTCAR.gz"
    broken.write_bytes(b"not compressed")
    assert outputs.recognise(broken) is None
    assert outputs.advice([table]) == ""


def test_recognition_reads_the_beginning_only(tmp_path) -> None:
    path = tmp_path / "long.extxyz"
    path.write_text("x" * 100_000)
    assert len(read_head(path)) == 8192


def test_streams(files) -> None:
    names = ["OUTCAR.0005.002.gz", "NaCl.ph.out.gz", "vasprun.dfpt.xml.gz"]
    frames = [streaming.to_frame(source) for source in streaming.iter_sources([files / "outputs" / name for name in names])]
    assert [len(frame) for frame in frames] == [9, 8, 10]
    assert all(not frame.labels for frame in frames)


def test_numbers_that_touch_types_of_atoms_and_both_derivatives(files, read_text_file, caplog) -> None:
    text = (files / "outputs" / "MgO.both_derivatives.ph.out").read_text()
    assert "1Mg" in text
    for variant in (text, text.replace("1Mg", "1 Mg").replace("2O", "2 O")):
        frame = read_text_file(variant)
        # Rows are the direction of the polarization in both blocks.
        assert frame.labels[Z].tolist()[0] == [[1.97, 0.01, 0.0], [0.0, 1.97, 0.02], [0.03, 0.0, 1.97]]
        assert frame.labels[Z][1, 2].tolist() == [0.03, 0.0, -1.95]
        assert "differ by up to 0.0100 e; (d P / du) is taken" in caplog.text
        other = read_text_file(variant, keys={Z: "becs_of_the_other_derivative"})
        assert other.labels[Z][:, 2].tolist() == [[0.03, 0.0, 1.98], [0.03, 0.0, -1.96]]


@pytest.fixture
def read_text_file(tmp_path):
    def read_text_file(text: str, **options):
        path = tmp_path / "output"
        path.write_text(text)
        (frame,) = read_frames(path, **options)
        return frame

    return read_text_file
