"""Born effective charges from OUTCAR and vasprun.xml. Numbers are copied from the text of the files."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from bec_mace.data import read_frames, summarize
from bec_mace.errors import DataError

Z = "born_effective_charges"
EPS = "dielectric_tensor"
DIELECTRIC = "MACROSCOPIC STATIC DIELECTRIC TENSOR (including local field effects in DFT)"
RESPONSE = "Linear response reoptimize wavefunctions"
ION_1 = "     -0.17297      4.22051      3.58279"
MOVED = "     -0.16297      4.22051      3.58279"
SUMMARY = " BORN EFFECTIVE CHARGES (in e, cummulative output)"


@pytest.fixture(scope="module")
def text(files) -> str:
    return gzip.decompress((files / "outputs" / "OUTCAR.0005.002.gz").read_bytes()).decode()


def steps(text: str) -> tuple[str, str, str]:
    """The header of an OUTCAR, an ionic step without response, and one with it."""
    begin = text.index("-" * 20 + " Iteration    1(   1)")
    end = text.index("\n", text.index("LOOP+")) + 1
    whole = text[begin:end]
    return text[:begin], whole[: whole.index(RESPONSE)] + "     LOOP+:  cpu time    1.0\n", whole


def without_listings(text: str) -> str:
    return re.sub(r" +POSITION +DIRECTION.*?total drift[^\n]*\n", "", text, flags=re.DOTALL)


def first_dielectric(frames) -> list:
    return np.round(frames[0].labels[EPS], 6).tolist()


def test_asymmetric_tensors_of_three_files(files) -> None:
    frames = read_frames(str(files / "outputs" / "OUTCAR.*.gz"), require=[Z, "energy", "forces", "stress"])
    assert [Path(frame.source.rpartition(",")[0]).name for frame in frames] == [f"OUTCAR.000{n}.002.gz" for n in (5, 7, 9)]
    first, second, third = (frame.labels[Z] for frame in frames)
    # Row: direction of the field. A transposed reading would have 0.26740 and -0.31206 the other way round.
    assert first[0].tolist() == [[2.98821, 0, 0], [0.00003, 3.62102, -0.31206], [0, 0.26740, 3.43038]]
    assert first[1].tolist() == [[3.46255, 0.27799, 0.27269], [0.27511, 3.14458, 0.15500], [-0.23582, -0.13440, 3.42773]]
    assert first[8, 2].tolist() == [0.50198, 0.56903, -1.71518]
    assert second[1].tolist() == [[3.46335, 0.27108, 0.27057], [0.27721, 3.14517, 0.15710], [-0.23501, -0.13485, 3.42572]]
    assert third[0, 1].tolist() == [0.00004, 3.62437, -0.31600]
    assert frames[0].labels["energy"] == -77.93471329
    assert frames[0].labels["forces"][4].tolist() == [-0.004858, 0.001536, -0.006186]
    assert frames[0].positions[3].tolist() == [-1.10633, 3.05824, 2.97602]
    assert frames[0].atomic_numbers.tolist() == [14] * 3 + [8] * 6
    assert first_dielectric(frames) == [[2.512904, 0, 0], [0, 2.511747, -0.000293], [0, -0.000293, 2.545510]]
    report = summarize(frames).text()
    assert "born_effective_charges in all" in report and "transposed" not in report


def test_content_not_name_decides(text, read) -> None:
    assert read(text)[0].labels[Z][1, 0, 1] == 0.27799
    head = text.index(" INCAR:")
    assert read(text[head:])[0].labels[Z][1, 1, 0] == 0.27511


def test_index_order_and_key_are_for_other_files(text, read, write_extxyz, tmp_path) -> None:
    frames = read(text, index_order="displacement_first", keys={Z: "mine"})
    assert frames[0].labels[Z][1, 0].tolist() == [3.46255, 0.27799, 0.27269]
    atoms = frames[0].to_atoms()
    atoms.set_array("mine", atoms.arrays["REF_becs"])
    mixed = read_frames([tmp_path / "run_7", write_extxyz(atoms)], index_order="displacement_first", keys={Z: "mine"})
    np.testing.assert_array_equal(mixed[0].labels[Z], mixed[1].labels[Z].swapaxes(1, 2))


@pytest.mark.parametrize(
    "header",
    [
        "(including local field effects) (in |e|, cummulative output)",
        "(including local field effects) (in e, cumulative output)",
        "(in |e|, cumulative output)",
    ],
)
def test_headers_of_other_versions(text, read, header) -> None:
    assert read(text.replace("(in e, cummulative output)", header))[0].labels[Z][1, 2, 0] == -0.23582


def test_excluded_local_fields_are_never_taken(text, read) -> None:
    block = text[text.index(SUMMARY) :].split("\n\n")[0]
    without = block.replace("(in e", "(excluding local field effects) (in e").replace("3.46255", "9.00000")
    for order in ([block, without], [without, block]):
        assert read(text.replace(block, "\n\n".join(order)))[0].labels[Z][1, 0, 0] == 3.46255
    only = without_listings(text).replace(block, without)
    assert set(read(only)[0].labels) == {"energy", "forces", "stress"}


def test_hartree_response_is_not_taken(text, read) -> None:
    hartree = text.replace("LRPA    =     F", "LRPA    =     T")
    assert hartree != text
    with pytest.raises(DataError, match=r"found in 0 of 1 frames .*LEPSILON = .TRUE. or LCALCEPS = .TRUE., and LRPA = .FALSE."):
        read(hartree, require=[Z])
    labelled = hartree.replace("(in e, cumm", "(including local field effects) (in e, cumm")
    assert read(labelled)[0].labels[Z][1, 0, 0] == 3.46255


def test_dielectric_tensors_of_other_kinds_are_not_taken(text, read) -> None:
    last = text.rindex(DIELECTRIC)
    ionic = (
        text[last : last + 300].replace("(including local field effects in DFT)", "IONIC CONTRIBUTION").replace("2.5", "9.5")
    )
    hartree = ionic.replace("IONIC CONTRIBUTION", "(including local field effects in RPA (Hartree))")
    assert first_dielectric(read(text[: last + 400] + ionic + hartree + text[last + 400 :]))[0][0] == 2.512904
    assert first_dielectric(read(text[:last] + text[last:].replace("2.512904", "2.612904", 1)))[0][0] == 2.612904
    assert EPS not in read(text.replace("field effects in DFT", "field effects in RPA"))[0].labels
    with pytest.raises(DataError, match=r"run_7, line \d+: expected 3 numbers"):
        read(text[: text.index("2.51", last)])


def test_listing_stands_in_for_a_missing_summary(text, read) -> None:
    stopped = text[: text.index(SUMMARY)]
    np.testing.assert_array_equal(read(stopped)[0].labels[Z], read(text)[0].labels[Z])
    two = stopped[: stopped.index("POSITION         DIRECTION 3")]
    assert Z not in read(two)[0].labels


def test_only_the_step_with_the_response_is_labelled(text, read) -> None:
    header, plain, whole = steps(text)
    moved = plain.replace(ION_1, MOVED)
    for order, labelled in (([moved, whole], 1), ([whole, moved], 0), ([moved, whole, moved], 1)):
        for content in (header + "".join(order), without_listings(header + "".join(order))):
            frames = read(content)
            assert [Z in frame.labels for frame in frames] == [number == labelled for number in range(len(order))]
            assert frames[labelled].positions[0, 0] == -0.17297
            assert frames[labelled].labels[Z][1, 0, 1] == 0.27799


def test_every_step_with_a_response_is_labelled(text, read) -> None:
    header, _, whole = steps(text)
    other = whole.replace(ION_1, MOVED).replace("0.27799", "0.28888")
    assert [frame.labels[Z][1, 0, 1] for frame in read(header + whole + other)] == [0.27799, 0.28888]


def test_response_after_the_last_step_finds_its_structure_by_its_positions(text, read) -> None:
    header, plain, whole = steps(text)
    response = whole[whole.index(RESPONSE) :]
    frames = read(header + plain + plain.replace(ION_1, MOVED) + response)
    assert [Z in frame.labels for frame in frames] == [True, False]
    with pytest.raises(DataError, match=r"run_7, line \d+: these Born effective charges may belong to any of 2 structures"):
        read(without_listings(header + plain + plain.replace(ION_1, MOVED) + response))


def test_response_at_other_positions(text, read) -> None:
    header, plain, whole = steps(text)
    cut = whole.index(RESPONSE)
    with pytest.raises(DataError, match="no structure of this ionic step is at the positions .*NSW = 0"):
        read(header + plain + whole[:cut] + whole[cut:].replace(ION_1, MOVED))
    # One lattice vector further is the same place.
    wrapped = whole[:cut] + whole[cut:].replace(ION_1, "      4.70046      4.22051      3.58279")
    assert read(header + plain.replace(ION_1, MOVED) + wrapped)[1].labels[Z][0, 0, 0] == 2.98821


def test_damaged_blocks(text, read) -> None:
    start = text.index(SUMMARY)
    damage = {
        r"line \d+: Born effective charges of 8 atoms, but the structure has 9": text[: text.index(" ion    9\n", start)],
        r"line \d+: expected 4 numbers, found ''. The file is cut off": text[
            : text.index("\n", text.index(" ion    5\n", start))
        ],
        r"line \d+: expected 4 numbers, found '1     2.98": text[: text.index("2.98821", start) + 7],
        r"line \d+: the block of Born effective charges is empty": text[: start + len(SUMMARY)],
        r"line \d+: '\*\*\*\*\*\*\*' stands where a number": text[:start] + text[start:].replace("3.46255", "*******", 1),
        r"line \d+: 'NaN' stands where a number should be": text[:start] + text[start:].replace("3.46255", "    NaN", 1),
        r"line \d+: expected row 2 of ion 1": text[:start] + text[start:].replace("    2     0.00003", "    3     0.00003", 1),
        r"line \d+: expected ion 5, found 'ion    6'": text[:start] + text[start:].replace(" ion    5\n", " ion    6\n"),
        r"line \d+: the list of Born effective charges is cut off": text[
            : text.index("      1.33039", text.index("DIRECTION 3"))
        ],
    }
    for message, content in damage.items():
        with pytest.raises(DataError, match="run_7, " + message):
            read(content)


def test_outcar_without_response(text, read) -> None:
    header, plain, _ = steps(text)
    assert set(read(header + plain)[0].labels) == {"energy", "forces", "stress"}
    with pytest.raises(DataError, match=r"found in 0 of 1 frames .*The files hold: .*\. VASP writes .* with LEPSILON"):
        read(header + plain, require=[Z])
    with pytest.raises(DataError, match=r"found in 1 of 2 frames .*Add born_.*out of its loss. VASP writes Born"):
        read(header + text[len(header) :] + plain, require=[Z])


TENSORS = np.arange(90).reshape(10, 3, 3) / 8


EPSILON = """\
   <v>       3.26105533      -0.00459066      -0.01281925 </v>
   <v>      -0.00459066       3.26463031      -0.00876741 </v>
   <v>      -0.01281925      -0.00876741       3.24330517 </v>
"""


@pytest.fixture
def write_vasprun(files, tmp_path):
    """A vasprun.xml with tensors, written as VASP does."""
    content = gzip.decompress((files / "outputs" / "vasprun.dfpt.xml.gz").read_bytes()).decode()

    def write(tensors=TENSORS, change=lambda text: text, place=" </calculation>"):
        sets = "".join(
            "   <set>\n" + "".join("    <v>" + "".join(f"{x:17.8f}" for x in row) + " </v>\n" for row in tensor) + "   </set>\n"
            for tensor in tensors
        )
        array = f'  <array name="born_charges" >\n   <dimension dim="1">ion</dimension>\n{sets}  </array>\n'
        epsilon = '  <varray name="epsilon" >\n' + EPSILON.replace("3.2", "9.2") + "  </varray>\n"
        epsilon = epsilon.replace("epsilon", "epsilon_rpa") + epsilon.replace("9.2", "3.2")
        path = tmp_path / "result"
        whole = content.replace(" </calculation>", epsilon + " </calculation>", 1)
        path.write_text(change(whole.replace(place, array + place, 1)))
        return path

    return write


def test_vasprun(write_vasprun) -> None:
    frame = read_frames(write_vasprun(), index_order="displacement_first")[0]
    np.testing.assert_array_equal(frame.labels[Z], TENSORS)
    assert frame.labels[EPS][1].tolist() == [-0.00459066, 3.26463031, -0.00876741]
    assert frame.labels["energy"] == -74.80839851
    assert frame.labels["forces"][1].tolist() == [0.00592010, 0.00404827, 0.01129992]
    assert frame.atomic_numbers.tolist() == [13] * 4 + [8] * 6


def test_vasprun_labels_its_own_calculation(write_vasprun) -> None:
    def double(text):
        begin, end = text.index(" <calculation>"), text.index(" </calculation>") + len(" </calculation>\n")
        bare = re.sub(r"  <array name=\"born_charges\".*?</array>\n", "", text[begin:end], flags=re.DOTALL)
        bare = re.sub(r"  <varray name=\"epsilon\".*?</varray>\n", "", bare, flags=re.DOTALL)
        return text[:begin] + bare.replace("0.64790400", "0.65790400") + text[begin:end] + text[end:]

    frames = read_frames(write_vasprun(change=double))
    assert [Z in frame.labels for frame in frames] == [False, True]
    assert [EPS in frame.labels for frame in frames] == [False, True]


def test_damaged_vasprun(write_vasprun) -> None:
    cases = [
        (r"Born effective charges of 9 atoms, but the structure has 10", {"tensors": TENSORS[:9]}),
        (r"Born effective charges of 11 atoms, but", {"tensors": np.ones((11, 3, 3))}),
        (r"is cut off", {"change": lambda text: text[: text.index("  </array>\n", text.index("born_charges"))]}),
        (r"'\*+' stands where a number", {"change": lambda text: text.replace("11.12500000", "***********")}),
        (r"dielectric tensor is cut off", {"change": lambda text: text[: text.index("3.26463031")]}),
        (r"'\*+' stands where", {"change": lambda text: text.replace("3.26463031", "**********")}),
        (r"expected 9 numbers", {"change": lambda text: text.replace("      11.12500000", "")}),
        (r"outside a calculation", {"place": ' <structure name="finalpos" >'}),
    ]
    for message, options in cases:
        with pytest.raises(DataError, match=rf"result, line \d+: .*{message}"):
            read_frames(write_vasprun(**options))


def test_vasprun_without_tensors(files) -> None:
    path = files / "outputs" / "vasprun.dfpt.xml.gz"
    assert set(read_frames(path)[0].labels) == {"energy", "forces", "stress"}
    with pytest.raises(DataError, match="VASP writes Born effective charges with LEPSILON"):
        read_frames(path, require=[Z])


def test_dielectric_tensor_of_finite_fields(text, read) -> None:
    """LCALCEPS writes the header without "in DFT"."""
    frames = read(without_listings(text).replace("effects in DFT)", "effects)"))
    assert first_dielectric(frames) == [[2.512904, 0, 0], [0, 2.511747, -0.000293], [0, -0.000293, 2.545510]]


VASPRUN = "MgO.vasprun.xml"


def changed_vasprun(files, tmp_path, *changes):
    text = (files / "outputs" / VASPRUN).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "vasprun.xml"
    path.write_text(text)
    (frame,) = read_frames(path)
    return frame


def test_vasprun_of_electrons_that_have_not_converged(files, tmp_path, caplog) -> None:
    frame = changed_vasprun(files, tmp_path)
    assert frame.labels[Z].shape == (2, 3, 3)
    assert "vasprun.xml, frame 0: the electrons have not converged in 3 steps" in caplog.text
    caplog.clear()
    changed_vasprun(files, tmp_path, ('name="NELM"> 3<', 'name="NELM"> 60<'))
    assert "converged" not in caplog.text


def test_vasprun_of_hartree_response(files, tmp_path, caplog) -> None:
    frame = changed_vasprun(files, tmp_path, ('name="LRPA"> F', 'name="LRPA"> T'))
    assert Z not in frame.labels and EPS not in frame.labels
    assert "LRPA = .TRUE. leaves exchange and correlation out" in caplog.text


def test_outcar_of_electrons_that_have_not_converged(text, read, caplog) -> None:
    read(text)
    assert "converged" not in caplog.text
    read(text.replace("aborting loop because EDIFF is reached", "aborting loop EDIFF was not reached (unconverged)", 1))
    assert "frame 0: the electrons have not converged" in caplog.text
    caplog.clear()
    most = re.search(r"NELM   = +\d+;", text)[0]
    read(text.replace("aborting loop because EDIFF is reached", "", 1).replace(most, "NELM   = 3;"))
    assert "frame 0: the electrons have not converged" in caplog.text
