import gc
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase.io import read, write

from bec_mace.data import Frame
from bec_mace.data.sources import FrameText
from bec_mace.errors import DataError, FileError, ModelError
from bec_mace.models import load_model
from bec_mace.predict import predict, predict_files, read_predictions
from bec_mace.predict.hdf5 import Hdf5Part
from bec_mace.predict.partial import RECORD, Part, PartialRun

Z = "born_effective_charges"
NAMES = (Z, "charges", "energy", "forces")


def stopping(monkeypatch, after, kind=KeyboardInterrupt):
    """End a prediction after some units; every unit is on the disk at once."""
    monkeypatch.setattr("bec_mace.predict.partial._SECONDS", -1.0)
    append = Part.append
    count = []

    def careful(self, done):
        append(self, done)
        count.append(done)
        if len(count) == after:
            raise kind

    monkeypatch.setattr(Part, "append", careful)


def content(path):
    return (
        path.read_bytes()
        if path.suffix != ".h5"
        else [
            [frame.positions.tobytes(), *(np.asarray(result[name]).tobytes() for name in NAMES)]
            for frame, result in read_predictions(path)
        ]
    )


@pytest.mark.parametrize("name", ["out.extxyz", "out.h5"])
def test_a_stopped_prediction_goes_on_and_ends_the_same(model, path, frames, tmp_path, monkeypatch, name):
    whole, output = tmp_path / f"whole{Path(name).suffix}", tmp_path / name
    summary = predict_files(model, path, whole, NAMES, batch_size=3)
    assert (summary.n_frames, summary.n_atoms, summary.resumed) == (len(frames), sum(map(len, frames)), 0)
    assert 0 < summary.model_share < 1 and summary.atoms_per_second > 0
    output.write_text("old")
    with monkeypatch.context() as patch:
        stopping(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            predict_files(model, path, output, NAMES, batch_size=3)
    assert output.read_text() == "old"
    with pytest.raises(DataError, match=f"{name}.partial: holds an unfinished prediction; go on with it \\(--resume\\)"):
        predict_files(model, path, output, NAMES, batch_size=3)
    # What a kill leaves behind the last commit: half a batch, and half a record.
    data, journal = (tmp_path / f"{name}.partial" / f"0{ending}" for ending in (whole.suffix, ".journal"))
    journal.write_bytes(journal.read_bytes() + b"half")
    if whole.suffix == ".extxyz":
        data.write_bytes(data.read_bytes() + b"3\nhalf")
    progress = []
    again = predict_files(
        model,
        path,
        output,
        NAMES,
        batch_size=3,
        resume=True,
        progress=lambda n_frames, n_atoms: progress.append((n_frames, n_atoms)),
    )
    assert again.resumed == 6 and again.n_frames == len(frames)
    assert sum(n_frames for n_frames, _ in progress) == len(frames) - 6
    assert content(output) == content(whole)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([name, whole.name])


def test_what_is_resumed_must_be_the_same(model, path, frames, tmp_path, monkeypatch):
    structures, output = tmp_path / "in.extxyz", tmp_path / "out.extxyz"
    structures.write_bytes(path.read_bytes())

    def again(names=NAMES, batch_size=2, processes=None):
        predict_files(model, structures, output, names, batch_size=batch_size, resume=True, processes=processes)

    with monkeypatch.context() as patch:
        stopping(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            again()
    names = ", ".join(NAMES)
    with pytest.raises(DataError, match=f"cannot resume, .* started with properties {names}, now it is {Z}; restore"):
        again(names=(Z,))
    with pytest.raises(DataError, match="started with batch_size 2, now it is auto"):
        again(batch_size=None)
    two = SimpleNamespace(global_rank=0, world_size=2, barrier=lambda: None)
    with pytest.raises(DataError, match="started with processes 1, now it is 2"):
        again(processes=two)
    weight = model.reference_charges
    weight.data += 1e-6
    try:
        with pytest.raises(DataError, match="started with model [0-9a-f]+, now it is [0-9a-f]+"):
            again()
    finally:
        weight.data -= 1e-6
    atoms = [frame.to_atoms() for frame in frames]
    write(structures, atoms[:4])
    with pytest.raises(DataError, match="there are fewer structures than are predicted already|up to .* are not those"):
        again()
    atoms[1].positions[0] += 0.01
    write(structures, atoms)
    with pytest.raises(DataError, match="the structures up to .*in.extxyz, frame 1 are not those"):
        again()
    (tmp_path / "out.extxyz.partial" / "run.json").write_text("{")
    with pytest.raises(DataError, match="cannot resume, run.json cannot be read .*; use another output"):
        again()


def test_fewer_structures_than_before(model, path, tmp_path, monkeypatch):
    structures, output = tmp_path / "in.extxyz", tmp_path / "out.extxyz"
    structures.write_bytes(path.read_bytes())
    with monkeypatch.context() as patch:
        stopping(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            predict_files(model, structures, output, (Z,), batch_size=1)
    lines = path.read_text().splitlines(keepends=True)
    structures.write_text("".join(lines[: 2 + int(lines[0])]))
    with pytest.raises(DataError, match="cannot resume, there are fewer structures than are predicted already"):
        predict_files(model, structures, output, (Z,), batch_size=1, resume=True)


def test_a_prediction_that_failed_at_once_leaves_nothing(model, tmp_path):
    (tmp_path / "bad.xyz").write_text("2\n\nC 0 0 0\nO 0 0 1.1\n")
    with pytest.raises(ModelError, match="frame 0: the model has not seen C"):
        predict_files(model, tmp_path / "bad.xyz", tmp_path / "out.h5", (Z,))
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.xyz"]


def test_a_bad_structure_late_keeps_the_others(model, frames, tmp_path):
    atoms = [frame.to_atoms() for frame in frames[:3]]
    write(tmp_path / "in.extxyz", atoms)
    with (tmp_path / "in.extxyz").open("a") as file:
        file.write("1\n\nXx 0 0 0\n")
    with pytest.raises(DataError, match=r"in.extxyz, frame 3: "):
        predict_files(model, tmp_path / "in.extxyz", tmp_path / "out.extxyz", (Z,), batch_size=1)
    write(tmp_path / "in.extxyz", atoms)
    assert predict_files(model, tmp_path / "in.extxyz", tmp_path / "out.extxyz", (Z,), batch_size=1, resume=True).resumed == 3
    assert len(read(tmp_path / "out.extxyz", ":")) == 3


def test_outputs_that_cannot_be(model, path, tmp_path):
    with pytest.raises(FileError, match="is a folder; name a file"):
        predict_files(model, path, tmp_path, (Z,))
    with pytest.raises(FileError, match="no does not exist; make it first"):
        predict_files(model, path, tmp_path / "no" / "out.h5", (Z,))
    with pytest.raises(FileError, match="is one of the files to read"):
        predict_files(model, path, path, (Z,))
    with pytest.raises(ModelError, match="head_contributions: cannot be written to a file; there are born_effective"):
        predict_files(model, path, tmp_path / "out.h5", ("head_contributions",))
    (tmp_path / "out.h5.partial").write_text("")
    with pytest.raises(DataError, match="out.h5.partial: a file is where the folder of unfinished work goes"):
        predict_files(model, path, tmp_path / "out.h5", (Z,))


@pytest.mark.parametrize("name", ["out.extxyz", "out.h5"])
def test_parts_are_joined_in_order(model, path, tmp_path, name):
    """Three processes, one after another: the first, which joins, has to come again."""
    whole, output = tmp_path / f"whole{Path(name).suffix}", tmp_path / name
    predict_files(model, path, whole, NAMES, batch_size=2)

    def process(rank):
        predict_files(
            model,
            path,
            output,
            NAMES,
            batch_size=2,
            resume=True,
            processes=SimpleNamespace(global_rank=rank, world_size=3, barrier=lambda: None),
        )

    with pytest.raises(DataError, match="parts of the prediction are missing; go on with --resume"):
        process(0)
    for rank in (1, 2, 0):
        process(rank)
    assert content(output) == content(whole)
    assert not output.with_name(f"{name}.partial").exists()


def test_a_process_that_died_is_told(model, path, tmp_path):
    def fail():
        raise RuntimeError("Connection closed by peer")

    with pytest.raises(DataError, match="another process has ended before its work was done.*--resume"):
        predict_files(
            model, path, tmp_path / "out.h5", (Z,), processes=SimpleNamespace(global_rank=1, world_size=2, barrier=fail)
        )


def test_two_processes_of_torchrun_write_what_one_writes(path, tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    both = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            "2",
            "-m",
            "bec_mace",
            "predict",
            "water",
            str(path),
            "--batch-size",
            "4",
            "-o",
            "two.h5",
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert both.returncode == 0, both.stderr[-2000:]
    assert both.stdout.count("structures") == 1
    predict_files(load_model("water"), path, tmp_path / "one.h5", NAMES, batch_size=4)
    one, two = (list(read_predictions(tmp_path / name)) for name in ("one.h5", "two.h5"))
    for (frame, result), (other_frame, other) in zip(one, two, strict=True):
        np.testing.assert_array_equal(frame.positions, other_frame.positions)
        for name in NAMES:
            # Not to the last bit: another number of threads rounds in another way.
            np.testing.assert_allclose(other[name], result[name], rtol=1e-4, atol=1e-4)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["one.h5", "two.h5"]


@pytest.mark.parametrize("workers", [0, 1])
def test_only_a_few_frames_are_in_memory(model, frames, tmp_path, workers):
    """Those of a batch, of the one before, and what the workers hold ready."""
    structures = tmp_path / "in.extxyz"
    write(structures, [frame.to_atoms() for frame in frames] * 5)

    def alive():
        return sum(type(item) in (Frame, FrameText) for item in gc.get_objects())

    before, counts = alive(), []
    predict_files(
        model,
        structures,
        tmp_path / "out.h5",
        (Z,),
        batch_size=2,
        workers=workers,
        progress=lambda n_frames, n_atoms: counts.append(alive() - before),
    )
    assert len(counts) == 5 * len(frames) // 2
    assert max(counts) <= 10 + 8 * workers


def test_a_reader_finds_what_predict_gives(model, path, frames, tmp_path, monkeypatch):
    monkeypatch.setattr("bec_mace.predict.hdf5._ATOMS_IN_MEMORY", 20)  # several blocks
    predict_files(model, path, tmp_path / "out.h5", NAMES, name="small")
    pairs = list(read_predictions(tmp_path / "out.h5"))
    for frame, expected, (found, result) in zip(frames, predict(model, frames, NAMES), pairs, strict=True):
        assert isinstance(found, Frame) and found.labels == {}
        for name in ("atomic_numbers", "positions", "cell", "pbc"):
            np.testing.assert_array_equal(getattr(found, name), getattr(frame, name))
        assert set(result) == set(NAMES)
        for name in NAMES:
            np.testing.assert_allclose(result[name], expected[name], rtol=1e-12, atol=1e-13)
            assert result[name].shape == expected[name].shape


def test_the_layout_is_as_documented(model, path, frames, tmp_path):
    import h5py

    predict_files(model, path, tmp_path / "out.h5", NAMES, name="small")
    with h5py.File(tmp_path / "out.h5") as file:
        assert dict(file.attrs)["format"] == "bec_mace predictions"
        assert (file.attrs["model"], file.attrs["precision"], file.attrs["index_order"]) == (
            "small",
            "float64",
            "polarization_first",
        )
        assert list(file.attrs["structures"]) == [str(path)]
        sizes = [len(frame) for frame in frames]
        assert file["offsets"][:].tolist() == [0, *np.cumsum(sizes)]
        assert file[Z].shape == (sum(sizes), 3, 3) and file[Z].attrs["unit"] == "e" and file[Z].attrs["per"] == "atom"
        assert file["energy"].shape == (len(frames),) and file["energy"].attrs["unit"] == "eV"
        assert file["positions"].attrs["unit"] == "Å"


def test_a_file_can_be_read_while_it_is_written(model, path, frames, tmp_path, monkeypatch):
    stopping(monkeypatch, 2)
    monkeypatch.setattr(Hdf5Part, "close", lambda self: None)  # killed
    with pytest.raises(KeyboardInterrupt):
        predict_files(model, path, tmp_path / "out.h5", (Z,), batch_size=2)
    assert len(list(read_predictions(tmp_path / "out.h5.partial" / "0.h5"))) == 4


def test_files_that_are_no_predictions(tmp_path):
    import h5py

    def refused(message):
        with pytest.raises(DataError, match=message):
            next(read_predictions(tmp_path / "x.h5"))

    refused("x.h5: no such file")
    (tmp_path / "x.h5").write_text("no")
    refused("x.h5: HDF5 cannot read it")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["format"] = "other"
    refused("is an HDF5 file, but not one of bec_mace's predictions")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs.update({"format": "bec_mace predictions", "format_version": 9})
    refused("has format version 9, this bec_mace reads 1; update bec_mace")


def test_records_without_data_do_not_count(tmp_path):
    run = PartialRun(tmp_path / "out.extxyz", {}, {})
    run.create()
    rows = np.zeros(3, RECORD)
    rows["place"] = (5, 10, 15)
    run.journal(0).write_bytes(rows.tobytes())
    run.data(0).write_bytes(b"0123456789ab")
    assert run.records(0)["place"].tolist() == [5, 10]
