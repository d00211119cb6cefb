"""Tables that grow, what a reader sees of them, and what a kill leaves."""

import h5py
import numpy as np
import pytest

from bec_mace.errors import DataError
from bec_mace.storage.growing_tables import GrowingTables, Table, complete_rows, open_tables

TABLES = {"time": Table((), np.dtype("f8"), 8, np.nan), "values": Table((2,), np.dtype("f4"), 8, attributes={"unit": "e"})}
ATTRIBUTES = {"format": "test tables", "format_version": 3}


def rows(first, last):
    time = np.arange(float(first), last)
    return {"time": time, "values": np.stack([time, -time], axis=1)}


def make(path, before=None):
    tables = GrowingTables(path, TABLES, "time", ATTRIBUTES, before or {})
    tables.place()
    return tables


def test_rows_are_appended_and_seen_by_a_reader_at_once(tmp_path):
    tables = make(tmp_path / "t.h5", rows(0, 3))
    tables.append(rows(3, 20))
    with open_tables(tmp_path / "t.h5", "test tables", 3, "tests", DataError) as file:
        assert complete_rows(file["time"], np.nan) == tables.length("time") == 20
        np.testing.assert_array_equal(file["values"][:], np.stack([np.arange(20), -np.arange(20)], axis=1))
        assert file["values"].attrs["unit"] == "e" and file["values"].dtype == np.float32
    assert tables.last("time") == 19 and tables.is_open
    tables.close()
    assert not tables.is_open
    assert [path.name for path in tmp_path.iterdir()] == ["t.h5"]


def test_a_row_without_its_clock_is_not_there(tmp_path):
    """A kill between two tables: the clock is shorter, or its last rows were never written."""
    path = tmp_path / "t.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs.update(ATTRIBUTES)
        file.create_dataset("time", data=[0.0, 1.0], maxshape=(None,), chunks=(8,), fillvalue=np.nan).resize(5, axis=0)
        file.create_dataset("offsets", data=[0, 4], maxshape=(None,), chunks=(8,), fillvalue=-1).resize(4, axis=0)
    with open_tables(path, "test tables", 3, "tests", DataError) as file:
        assert complete_rows(file["time"], np.nan) == 2
        assert complete_rows(file["offsets"], -1) == 2


def test_nothing_is_in_place_before_it_is_placed(tmp_path):
    path = tmp_path / "t.h5"
    path.write_bytes(b"before")
    tables = GrowingTables(path, TABLES, "time", ATTRIBUTES, {})
    assert path.read_bytes() == b"before"
    tables.append(rows(0, 2))
    tables.place()
    tables.close()
    with open_tables(path, "test tables", 3, "tests", DataError) as file:
        assert complete_rows(file["time"], np.nan) == 2


@pytest.mark.parametrize(
    ("form", "version", "message"),
    [
        ("other tables", 3, "is an HDF5 file, but not one of bec_mace's tests"),
        ("test tables", 4, "has format version 3, this bec_mace reads 4; update bec_mace"),
    ],
)
def test_another_kind_of_file_is_refused(tmp_path, form, version, message):
    make(tmp_path / "t.h5").close()
    with pytest.raises(DataError, match=message):
        open_tables(tmp_path / "t.h5", form, version, "tests", DataError)


def test_a_file_that_hdf5_cannot_read_is_refused(tmp_path):
    (tmp_path / "t.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="t.h5: HDF5 cannot read it"):
        open_tables(tmp_path / "t.h5", "test tables", 3, "tests", DataError)
