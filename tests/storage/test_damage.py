"""HDF5 files that are cut off: one sentence, at once."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from bec_mace.errors import BecMaceError, DataError
from bec_mace.predict import predict_files, read_predictions
from bec_mace.spectra.currents import Currents
from bec_mace.storage.growing_tables import GrowingTables, Table, open_tables, refusing_damage
from bec_mace.testing.small_models import make_model


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory, files_of_tests: Path) -> Path:
    path = tmp_path_factory.mktemp("h5") / "out.h5"
    predict_files(make_model(("monopole",)), [files_of_tests], path, ("born_effective_charges",))
    return path


@pytest.fixture(scope="module")
def files_of_tests() -> Path:
    return Path(__file__).parents[1] / "files" / "water_clusters_rpbe_d3.extxyz"


@pytest.fixture(scope="module")
def currents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("h5") / "currents.h5"
    rng, n = np.random.default_rng(2), 50
    Currents(
        time=np.arange(n) * 1.0,
        current=rng.normal(size=(n, 2, 3)),
        temperature=np.full(n, 300.0),
        volume=np.full(n, 1000.0),
        elements=("H", "O"),
        sampling_interval_fs=1.0,
        source="test",
        counts=(2, 1),
    ).write(path)
    return path


def read(path: Path) -> object:
    if path.name.startswith("currents"):
        return Currents.read(path).current.tobytes()
    return [(frame.positions.tobytes(), result["born_effective_charges"].tobytes()) for frame, result in read_predictions(path)]


@pytest.mark.parametrize("kind", ["predictions", "currents"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95, 0.999])
def test_files_that_are_cut_off(kind: str, share: float, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    whole = request.getfixturevalue(kind).read_bytes()
    path = tmp_path / f"{kind}.h5"
    path.write_bytes(whole[: int(share * len(whole))])
    start = time.monotonic()
    with pytest.raises(BecMaceError, match=f"{kind}.h5: .*(cut off|cannot read)"):
        read(path)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("kind", ["finished", "of a killed writer"])
def test_flipped_bits(kind: str, tmp_path: Path) -> None:
    """What is read is what was written, or a sentence says that it is not; HDF5 alone tries for minutes."""
    values = np.random.default_rng(4).normal(size=(30, 3))
    columns = {"a": Table((3,), np.dtype("f8"), 8), "clock": Table((), np.dtype("f8"), 8, np.nan)}
    tables = GrowingTables(tmp_path / "t.h5", columns, "clock", {"format": "x", "format_version": 1}, {})
    for number, row in enumerate(values):
        tables.append({"a": row[None], "clock": np.array([float(number)])})
    if kind == "finished":
        tables.close()
    (temporary,) = tmp_path.glob(".partial-*")
    whole, rng, refused = temporary.read_bytes(), np.random.default_rng(5), 0
    for position, bit in zip(rng.integers(len(whole), size=60), rng.integers(8, size=60), strict=True):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bit
        (path := tmp_path / "damaged.h5").write_bytes(damaged)
        start = time.monotonic()
        try:
            with open_tables(path, "x", 1, "things", DataError) as file, refusing_damage(path, DataError):
                assert np.array_equal(file["a"][:], values) and np.array_equal(file["clock"][:], np.arange(30.0))
        except DataError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
        assert time.monotonic() - start < 2
    assert refused > 15


def test_a_file_of_another_kind(currents: Path) -> None:
    with pytest.raises(DataError, match="is an HDF5 file, but not one of bec_mace's predictions"):
        list(read_predictions(currents))
