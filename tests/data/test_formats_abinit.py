"""Derivative databases and text outputs of Abinit, made up here in the layout that Abinit writes."""

from __future__ import annotations

import numpy as np
import pytest

from bec_mace.data import read_frames
from bec_mace.data.formats import find_format
from bec_mace.errors import DataError
from bec_mace.units import BOHR

Z = "born_effective_charges"
EPS = "dielectric_tensor"
ACELL = np.array([7.0, 8.0, 9.0])
RPRIM = np.array([[1.0, 0.1, 0.0], [0.2, 0.9, -0.1], [0.0, 0.3, 1.1]])
ROWS = RPRIM * ACELL[:, None]
XRED = np.array([[0.0, 0.0, 0.0], [0.3, 0.6, 0.2], [0.7, 0.1, 0.5]])
ZION = [3.0, 6.0]
TYPAT = [1, 2, 2]
CHARGES = np.array(
    [
        [[2.1, 0.3, -0.2], [0.05, 2.4, 0.6], [-0.4, 0.15, 1.9]],
        [[-1.2, 0.7, 0.1], [-0.3, -0.9, 0.25], [0.45, -0.5, -1.0]],
        [[-0.8, -0.9, 0.2], [0.35, -1.6, -0.75], [0.0, 0.4, -0.95]],
    ]
)
DIELECTRIC = np.array([[3.1, 0.2, -0.1], [0.2, 2.7, 0.3], [-0.1, 0.3, 2.2]])


def number(value: float) -> str:
    return f"{value: .14E}".replace("E", "D")


def derivatives() -> dict[tuple[int, int, int, int], float]:
    """What a calculation has: derivatives by reduced displacements and fields, from the chain rule, one entry at a time.

    An atom is at sum_k x_k R_k, and a reduced field of unit k is 2 pi times the reciprocal vector; so the mixed derivative by
    (field k, x_l) is 2 pi G_k . (Z - z) . R_l, and (2 pi)^2 G_k . chi . G_l by two fields.
    """
    reciprocal = np.linalg.inv(ROWS).T
    field = len(XRED) + 2
    out = {}
    for k in range(3):
        for m in range(3):
            for atom, kind in enumerate(TYPAT):
                bare = CHARGES[atom] - ZION[kind - 1] * np.eye(3)
                value = 2 * np.pi * float(reciprocal[k] @ bare @ ROWS[m])
                out[k + 1, field, m + 1, atom + 1] = value
                out[m + 1, atom + 1, k + 1, field] = value
            second = (np.eye(3) - DIELECTRIC) * abs(np.linalg.det(ROWS)) / (4 * np.pi)
            out[k + 1, field, m + 1, field] = (2 * np.pi) ** 2 * float(reciprocal[k] @ second @ reciprocal[m])
    return out


def database(entries: dict[tuple[int, int, int, int], float], wave_vector: str = "0.0 0.0 0.0") -> str:
    def lines(name, values, per_line=3):
        words = [number(value) for value in np.ravel(values)]
        parts = ["  ".join(words[i : i + per_line]) for i in range(0, len(words), per_line)]
        return "\n".join(f"{name if i == 0 else '':>10}  {part}" for i, part in enumerate(parts))

    block = "\n".join(f"{a:4}{b:4}{c:4}{d:4}{number(value):>22}{number(0.0):>22}" for (a, b, c, d), value in entries.items())
    return f"""
 **** DERIVATIVE DATABASE ****
+DDB, Version number    100401

 DDB of a test

    usepaw         0
     natom         3
    ntypat         2
{lines("acell", ACELL)}
{lines("amu", [27.0, 16.0])}
{lines("kpt", np.zeros((2, 3)))}
{lines("rprim", RPRIM)}
    symrel    1    0    0    0    1    0    0    0    1
     typat         1    2    2
{lines("xred", XRED)}
{lines("znucl", [13.0, 8.0])}
{lines("zion", ZION)}

  Description of the potentials (KB energies)
  8.00000   6.00000    (znucl, zion of a potential)

 **** Database of total energy derivatives ****
 Number of data blocks=    2

 Total energy                 - # elements :       1
   -0.90000000000000D+01

 2nd derivatives (non-stat.)  - # elements : {len(entries):7}
 qpt  {wave_vector}   1.0
{block}

 List of bloks and their characteristics

 2nd derivatives (non-stat.)  - # elements : {len(entries):7}
 qpt  {wave_vector}   1.0
"""


def written(path, text):
    path.write_text(text)
    return path


def test_derivative_database(tmp_path) -> None:
    (frame,) = read_frames(written(tmp_path / "out_DDB", database(derivatives())), index_order="displacement_first")
    assert frame.labels.keys() == {Z, EPS}
    np.testing.assert_allclose(frame.labels[Z], CHARGES, atol=1e-12)
    np.testing.assert_allclose(frame.labels[EPS], DIELECTRIC, atol=1e-12)
    np.testing.assert_allclose(frame.cell, ROWS * BOHR, atol=1e-12)
    np.testing.assert_allclose(frame.positions, XRED @ ROWS * BOHR, atol=1e-12)
    assert frame.atomic_numbers.tolist() == [13, 8, 8] and frame.pbc.all()


def test_the_published_charge_of_aluminium_in_aluminium_arsenide(tmp_path) -> None:
    # Abinit's tutorial on response functions prints -5.6248 for the reduced derivative, and a charge of 2.104 from it.
    from bec_mace.data.formats.abinit import read

    text = database({}).replace("natom         3", "natom         1").replace("typat         1    2    2", "typat         1")
    start, end = text.index("      xred"), text.index("     znucl")
    text = text[:start] + "      xred  0.0 0.0 0.0\n" + text[end:]
    block = "\n".join(
        f"{k}   3   {k}   1 -5.6248133230D+00 0.0D+00" if k == m else f"{k} 3 {m} 1 0.0 0.0"
        for k in (1, 2, 3)
        for m in (1, 2, 3)
    )
    text = text.replace(
        "# elements :       0\n qpt  0.0 0.0 0.0   1.0\n", f"# elements : 9\n qpt 0.0 0.0 0.0 1.0\n{block}\n", 1
    )
    (atoms,) = read(written(tmp_path / "DDB", text))
    np.testing.assert_allclose(atoms.arrays["REF_becs"].reshape(3, 3), 2.1048 * np.eye(3), atol=1e-4)


def test_the_two_derivatives_are_averaged_and_their_difference_is_said(tmp_path, caplog) -> None:
    entries = derivatives()
    one_sided = {key: value for key, value in entries.items() if key[3] != 5 or key[1] == 5}
    (frame,) = read_frames(written(tmp_path / "one_DDB", database(one_sided)))
    np.testing.assert_allclose(frame.labels[Z], CHARGES, atol=1e-12)
    changed = {key: value * (1.1 if key[3] == 5 and key[1] < 5 else 1.0) for key, value in entries.items()}
    assert not caplog.text
    (frame,) = read_frames(written(tmp_path / "two_DDB", database(changed)))
    bare = CHARGES - np.array([3.0, 6.0, 6.0])[:, None, None] * np.eye(3)
    np.testing.assert_allclose(frame.labels[Z], CHARGES + 0.05 * bare, atol=1e-12)
    assert "differ by up to 0.7600 e, and their mean is taken" in caplog.text


def test_databases_that_cannot_be_read(tmp_path) -> None:
    text = database(derivatives())
    partial = database({key: value for key, value in derivatives().items() if 3 not in key[1::2]})
    for content, message in (
        (text[:200], "no complete acell in the header of this DDB"),
        (text.replace("0.00000000000000D+00\n   2   5", "********\n   2   5", 1), "stands where a number should be"),
        (text[: text.index("   3   5   3   3") + 20], "expected 6 numbers"),
        (partial, "charges of some atoms or directions alone. Merge the DDB files"),
        (text.replace("znucl", "znucx"), "no complete znucl"),
        (
            text.replace("1.30000000000000D+01", "1.35000000000000D+01"),
            "znucl of the type of atoms 1 is 13.5, which is no element",
        ),
        (text.replace("typat         1    2    2", "typat         1    2"), "natom is 3, but typat has 2"),
    ):
        with pytest.raises(DataError, match=message) as error:
            read_frames(written(tmp_path / "bad_DDB", content))
        assert "bad_DDB" in str(error.value)


def test_derivatives_at_another_wave_vector_are_no_charges(tmp_path) -> None:
    (frame,) = read_frames(written(tmp_path / "q_DDB", database(derivatives(), "0.5 0.0 0.0")))
    assert not frame.labels


def table(title: str, entries: list[tuple[int, int, int, int, float]]) -> str:
    lines = [f"  {title}, in cartesian coordinates,", "     j1       j2             matrix element"]
    lines += ["  dir pert dir pert     real part    imaginary part"]
    for place, (a, b, c, d, value) in enumerate(entries):
        lines += ["  "] if place % 3 == 0 else []
        lines.append(f"{a:4}{b:5}{c:4}{d:5} {value:20.10f} {0.0:20.10f}")
    return "\n".join([*lines, "  "])


def output(charges=CHARGES, response="field", dataset="3", echo_of=("", "")) -> str:
    """A text output with a ground state and a response; names of variables get an ending where the data sets differ."""
    n, axes = len(charges), (1, 2, 3)
    by_field = [(b, j + 1, a, n + 2, charges[j, a - 1, b - 1]) for a in axes for j in range(n) for b in axes]
    by_motion = [(a, n + 2, b, j + 1, charges[j, a - 1, b - 1]) for j in range(n) for b in axes for a in axes]
    blocks = [table("Dielectric tensor", [(a, n + 2, b, n + 2, DIELECTRIC[a - 1, b - 1]) for a in axes for b in axes])]
    if response in ("field", "both"):
        blocks.append(table("Effective charges", by_field).replace("es,\n", "es,\n  (from electric field response) \n", 1))
    if response in ("motion", "both"):
        blocks.append(table("Effective charges", by_motion).replace("es,\n", "es,\n  (from phonon response) \n", 1))
    vectors = "\n".join(f" R({i})={''.join(f'{x:11.7f}' for x in row)}  G({i})=  0.1 0.0 0.0" for i, row in enumerate(ROWS, 1))

    def variable(name, values, per_line=3, ending=""):
        words = [f"{value:18.10E}" for value in np.ravel(values)]
        parts = ["".join(words[i : i + per_line]) for i in range(0, len(words), per_line)]
        return "\n".join(f"{name + ending if i == 0 else '':>17}{part}" for i, part in enumerate(parts))

    echo = "\n".join(
        [
            variable("acell", ACELL) + " Bohr",
            variable("amu", [27.0, 16.0]),
            "P           mkmem         10",
            "            natom           3",
            variable("rprim", RPRIM),
            "            typat      1  2  2",
            variable("xangst", XRED),
            *(
                variable("xred", XRED + shift, ending=ending)
                for shift, ending in zip((0.0, 0.01), echo_of, strict=True)
                if ending or not shift
            ),
            "            znucl       13.00000    8.00000",
        ]
    )
    return f"""
.Version 10.1.4.5 of ABINIT, released Sep 2024.
.(MPI version, prepared for a x86_64_linux_gnu13.2 computer)

 -outvars: echo values of preprocessed input variables --------
{echo.replace("E-01", "E-02")}

================================================================================
== DATASET  1 ==================================================================
 R(1)=  0.0000000  5.3050000  5.3050000  G(1)= -0.0942507  0.0942507  0.0942507
== DATASET  {dataset} ==================================================================
 Real(R)+Recip(G) space primitive vectors, cartesian coordinates (Bohr,Bohr^-1):
{vectors}
  2nd-order matrix (non-cartesian coordinates, masses not included,
   asr not included )
   1    1   1    1         5.0079061807         0.0000000000

{chr(10).join(blocks)}
  Phonon wavevector (reduced coordinates) :  0.00000  0.00000  0.00000
== END DATASET(S) ==============================================================

 -outvars: echo values of variables after computation  --------
{echo}

================================================================================
"""


@pytest.mark.parametrize("response", ["field", "motion", "both"])
def test_text_output(tmp_path, response) -> None:
    path = written(tmp_path / "run.abo", output(response=response))
    (frame,) = read_frames(path, index_order="displacement_first")
    assert frame.labels.keys() == {Z, EPS}
    np.testing.assert_allclose(frame.labels[Z], CHARGES, atol=1e-10)
    np.testing.assert_allclose(frame.labels[EPS], DIELECTRIC, atol=1e-10)
    np.testing.assert_allclose(frame.cell, ROWS * BOHR, atol=1e-9)
    np.testing.assert_allclose(frame.positions, XRED @ ROWS * BOHR, atol=1e-9)
    assert frame.atomic_numbers.tolist() == [13, 8, 8]


def test_the_structure_is_that_of_the_data_set(tmp_path) -> None:
    (frame,) = read_frames(written(tmp_path / "run.abo", output(echo_of=("1", "3"))))
    np.testing.assert_allclose(frame.positions, (XRED + 0.01) @ ROWS * BOHR, atol=1e-9)


def test_imposed_neutrality_is_said(tmp_path, caplog) -> None:
    read_frames(written(tmp_path / "raw.abo", output()))
    assert not caplog.text
    read_frames(written(tmp_path / "neutral.abo", output(CHARGES - CHARGES.mean(axis=0))))
    assert "neutral.abo: Born effective charges sum to zero in all digits" in caplog.text and "chneut" in caplog.text


def test_text_outputs_that_cannot_be_read(tmp_path) -> None:
    text = output()
    entry = "   2    1   3    5 "
    for content, message in (
        (text[: text.index("== END")], "ends before Abinit repeats its variables"),
        (text.replace(entry, "#" + entry), "the entry 2 1 3 5 is missing"),
        (text.replace("7.0000000000E+00", "7.1000000000E+00"), "data set 3 are not those of acell and rprim"),
        (text.replace("            typat      1  2  2", ""), "the typat of data set 3 is not among the variables"),
        (output(echo_of=("1?", "2?")), r"the xred of data set 3 is not among .*xred1\?, xred2\?"),
    ):
        with pytest.raises(DataError, match=message) as error:
            read_frames(written(tmp_path / "bad.abo", content))
        assert "bad.abo" in str(error.value)


def test_ground_states_go_to_ase(tmp_path) -> None:
    path = written(tmp_path / "scf.abo", "\n.Version 9.10.3 of ABINIT\n")
    kind = find_format(path).output
    assert kind is not None
    with pytest.raises(DataError, match="ASE cannot read it|no structures"):
        read_frames(path)
