import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from bec_mace.errors import SpectrumError
from bec_mace.spectra import Currents, CurrentsWriter
from bec_mace.spectra.currents import DIFFERENCES

NAMES = ("temperature", "volume", "potential_energy", "kinetic_energy")


def fill(writer, first, last, interval=0.5):
    for row in range(first, last):
        writer.append(
            row * interval, np.arange(6.0).reshape(2, 3) + row, 300.0 + row, 1000.0, -5.0 - row, 2.0 + row, (0.0, 0.1, 0.0)
        )


def new(path, **kwargs):
    return CurrentsWriter(path, ["H", "O"], [4, 2], 0.5, **kwargs)


def test_what_is_written_is_read(tmp_path):
    with new(tmp_path / "currents.h5", model="water", head_set="monopole+dipole", temperature_K=310.0) as writer:
        fill(writer, 0, 250)
        assert len(writer) == 250
    for path in (tmp_path, tmp_path / "currents.h5"):
        run = Currents.read(path)
        assert run.elements == ("H", "O") and run.counts == (4, 2) and len(run) == 250
        np.testing.assert_array_equal(run.current[:, 1, 2], 5.0 + np.arange(250))
        np.testing.assert_array_equal(run.temperature, 300.0 + np.arange(250))
        assert run.field == 0.1 and run.sampling_interval_fs == 0.5 and run.method == "velocities"
    with h5py.File(tmp_path / "currents.h5") as file:
        assert dict(file.attrs)["format"] == "bec_mace currents" and file.attrs["units"] == "e Å/fs"
        assert file.attrs["model"] == "water" and file.attrs["head_set"] == "monopole+dipole"
        assert file.attrs["n_atoms"] == 6 and file.attrs["temperature_K"] == 310.0
        assert {name: file[name].shape for name in NAMES} == dict.fromkeys(NAMES, (250,))
        assert file["potential_energy"][3] == -8.0 and file["kinetic_energy"][3] == 5.0
        assert file["current"].shape == (250, 2, 3) and file["field"].shape == (250, 3)
    assert sorted(os.listdir(tmp_path)) == ["currents.h5"]


def test_a_file_that_is_being_written_is_read_as_far_as_it_was_flushed(tmp_path):
    writer = new(tmp_path / "c.h5", flush_every=100)
    fill(writer, 0, 230)
    assert len(Currents.read(tmp_path / "c.h5")) == 200
    writer.flush()
    assert len(Currents.read(tmp_path / "c.h5")) == 230
    writer.close()
    writer.close()


def test_a_killed_writer_leaves_what_it_flushed_and_can_go_on(tmp_path):
    code = (
        "from tests.spectra.test_currents import new, fill\n"
        f"writer = new({str(tmp_path / 'c.h5')!r}, flush_every=10)\n"
        "fill(writer, 0, 77)\nprint('go', flush=True)\nrow = 77\n"
        "while True:\n    fill(writer, row, row + 1); row += 1\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    rows = len(Currents.read(tmp_path / "c.h5"))
    assert rows >= 70 and rows % 10 == 0
    with new(tmp_path / "c.h5", resume=True) as writer:
        assert len(writer) == rows
        writer.truncate(65)
        fill(writer, 65, 90)
    run = Currents.read(tmp_path / "c.h5")
    np.testing.assert_array_equal(run.current[:, 0, 0], np.arange(90.0))
    np.testing.assert_array_equal(run.time, 0.5 * np.arange(90))


def test_truncate(tmp_path):
    with new(tmp_path / "c.h5") as writer:
        fill(writer, 0, 50)
        writer.truncate(41)
        assert len(writer) == 41
        writer.truncate(41)
        with pytest.raises(SpectrumError, match="has 41 rows, cannot keep 42; it does not belong to this run"):
            writer.truncate(42)
        writer.truncate(0)
        fill(writer, 0, 3)
    assert len(Currents.read(tmp_path / "c.h5")) == 3


def test_an_existing_file_is_not_overwritten_nor_mixed(tmp_path):
    new(tmp_path / "c.h5").close()
    with pytest.raises(SpectrumError, match="c.h5: is there already; resume the run or remove the file"):
        new(tmp_path / "c.h5")
    with pytest.raises(SpectrumError, match=r"elements of the file is \['H', 'O'\], of this run \['H', 'S'\]"):
        CurrentsWriter(tmp_path / "c.h5", ["H", "S"], [4, 2], 0.5, resume=True)
    with pytest.raises(SpectrumError, match=r"counts of the file is \[4, 2\], of this run \[2, 2\]"):
        CurrentsWriter(tmp_path / "c.h5", ["H", "O"], [2, 2], 0.5, resume=True)
    with pytest.raises(SpectrumError, match="sampling_interval_fs of the file is 0.5, of this run 1.0"):
        CurrentsWriter(tmp_path / "c.h5", ["H", "O"], [4, 2], 1.0, resume=True)


def test_the_writer_checks_what_it_is_given(tmp_path):
    for elements, counts in ((["O", "H"], [2, 4]), (["H", "Xx"], [4, 2]), (["H", "O"], [4]), ([], [])):
        with pytest.raises(SpectrumError, match="ascending order of atomic number"):
            CurrentsWriter(tmp_path / "c.h5", elements, counts, 0.5)
    with pytest.raises(SpectrumError, match="the sampling interval must be a positive time in fs, got 0"):
        CurrentsWriter(tmp_path / "c.h5", ["H"], [2], 0.0)
    with (
        new(tmp_path / "c.h5") as writer,
        pytest.raises(SpectrumError, match=r"current must have shape \(2, 3\), got \(3, 2\)"),
    ):
        writer.append(0.0, np.zeros((3, 2)), 300.0, 1000.0, 0.0, 0.0)


def test_files_that_are_no_currents(tmp_path):
    with pytest.raises(SpectrumError, match="none.h5: no such file or folder"):
        Currents.read(tmp_path / "none.h5")
    with pytest.raises(SpectrumError, match="the folder has no currents.h5; name a folder that `bec-mace md` made"):
        Currents.read(tmp_path)
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(SpectrumError, match="text.h5: HDF5 cannot read it"):
        Currents.read(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["time"] = np.arange(3.0)
    with pytest.raises(SpectrumError, match="is an HDF5 file, but not one of bec_mace's currents"):
        Currents.read(tmp_path / "other.h5")
    with h5py.File(tmp_path / "other.h5", "a") as file:
        file.attrs.update(format="bec_mace currents", format_version=7)
    with pytest.raises(SpectrumError, match="has format version 7, this bec_mace reads 1"):
        Currents.read(tmp_path / "other.h5")


def test_currents_are_checked():
    def make(time=(0.0, 1.0, 2.0), current=None, interval=1.0, elements=("H",), temperature=3):
        return Currents(
            np.array(time),
            np.zeros((3, 1, 3)) if current is None else current,
            np.full(temperature, 300.0),
            np.full(3, 10.0),
            elements,
            interval,
        )

    assert len(make()) == 3 and len(make().after(1.5)) == 1
    with pytest.raises(SpectrumError, match=r"current must have shape \(3, 1, 3\), got \(3, 3\)"):
        make(current=np.zeros((3, 3)))
    with pytest.raises(SpectrumError, match=r"temperature must have shape \(3,\), got \(2,\)"):
        make(temperature=2)
    with pytest.raises(SpectrumError, match="no elements"):
        make(current=np.zeros((3, 0, 3)), elements=())
    with pytest.raises(SpectrumError, match="row 1 holds a time or a current that is not finite"):
        make(current=np.array([0.0, np.inf, 0.0])[:, None, None] + np.zeros((3, 1, 3)))
    with pytest.raises(SpectrumError, match="rows 1 and 2 are 3 fs apart, others 1 fs"):
        make(time=(0.0, 1.0, 4.0))
    with pytest.raises(SpectrumError, match="the sampling interval must be a positive time"):
        make(interval=-1.0)
    with pytest.raises(SpectrumError, match="has 3 rows, 3 fs; skipping 3 fs leaves none"):
        make().after(3.0)


def test_write_and_read_again(tmp_path):
    run = Currents(
        np.arange(5.0),
        np.arange(30.0).reshape(5, 2, 3),
        np.full(5, 300.0),
        np.full(5, np.nan),
        ("H", "O"),
        1.0,
        method=DIFFERENCES,
        counts=(2, 1),
    )
    run.write(tmp_path / "c.h5", model="water")
    run.write(tmp_path / "c.h5", model="water")
    again = Currents.read(tmp_path / "c.h5")
    np.testing.assert_array_equal(again.current, run.current)
    assert again.method == DIFFERENCES and again.counts == (2, 1) and np.isnan(again.volume).all()
    assert sorted(os.listdir(tmp_path)) == ["c.h5"]
