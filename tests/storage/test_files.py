"""Files that are whole or not there, and what is not overwritten."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bec_mace.errors import FileError, TrainingError
from bec_mace.storage.files import check_output, logging_to, replace_file
from bec_mace.storage.locks import alone_in

PICTURES = (".png", ".pdf")


def write(text: str):
    return lambda path: path.write_text(text)


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        assert path.read_text() == "old"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        replace_file(path, fail)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("a.txt", "old")]
    replace_file(path, write("new"))
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("a.txt", "new")]


def test_what_torch_says_of_a_full_disk(tmp_path: Path) -> None:
    def fail(temporary: Path) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file\nand more")

    with pytest.raises(FileError, match=r"a.pt: cannot be written \(PytorchStreamWriter failed writing file\); look for space"):
        replace_file(tmp_path / "a.pt", fail)
    assert not list(tmp_path.iterdir())


def test_the_contents_are_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(os, "fsync", lambda number: calls.append("fsync"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    replace_file(tmp_path / "a.txt", write("new"))
    assert calls == ["fsync", "replace", "fsync"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    replace_file(path, lambda outer: (outer.write_text("outer"), replace_file(path, write("inner"))))
    assert path.read_text() == "outer"


def test_what_a_killed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "a[1].txt"
    code = f"""
import logging
import os
from pathlib import Path
from bec_mace.storage.files import replace_file
replace_file(Path({str(path)!r}), lambda place: (place.write_text("half"), os._exit(9)))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".a[1].txt.")
    replace_file(path, write("whole"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a[1].txt"]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "real.txt").write_text("old")
    for name, target in (("link.txt", "far/real.txt"), ("dangling.txt", "far/new.txt")):
        (tmp_path / name).symlink_to(target)
        replace_file(tmp_path / name, write("new"))
        assert (tmp_path / name).is_symlink() and (tmp_path / target).read_text() == "new"


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "is no file but a device"),
        (Path("/dev/null"), "device"),
    ):
        with pytest.raises(FileError, match=words):
            replace_file(path, write("new"))
    with pytest.raises(OSError):
        replace_file(tmp_path / "loop", write("new"))
    assert (tmp_path / "pipe").is_fifo() and Path("/dev/null").is_char_device()


def test_outputs_that_would_cost_something(tmp_path: Path) -> None:
    data = tmp_path / "data.png"
    data.write_text("labels")
    os.link(data, tmp_path / "hard.png")
    (tmp_path / "soft.png").symlink_to(data)
    for name in ("data.png", "hard.png", "soft.png", "./data.png"):
        with pytest.raises(FileError, match=r"is one of the files to read; choose another output file"):
            check_output(tmp_path / name, [tmp_path / "missing", data], PICTURES)
    for name in ("model.safetensors", "run.yaml", "notes", "script.py"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(
            FileError, match=rf"{name}: is there already and does not look like a picture, .* end in .pdf, .png"
        ):
            check_output(tmp_path / name, [data], PICTURES, "a picture")
    with pytest.raises(FileError, match="the folder .*no does not exist"):
        check_output(tmp_path / "no" / "a.png", [], PICTURES)
    (tmp_path / "old.PNG").write_text("a picture of yesterday")
    for name in ("old.PNG", "new", "new.png"):
        check_output(tmp_path / name, [data], PICTURES)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from bec_mace.errors import TrainingError
from bec_mace.storage.locks import alone_in
with alone_in(Path({str(tmp_path)!r}), TrainingError):
    print("held", flush=True)
    input()
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdin is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(TrainingError, match="another run is at work in this folder"), alone_in(tmp_path, TrainingError):
        pass
    other.kill()
    other.wait()
    for stream in (other.stdin, other.stdout):
        stream.close()
    # A process that was killed holds nothing; and who ends leaves nothing.
    with alone_in(tmp_path, TrainingError):
        assert (tmp_path / ".lock").exists()
    assert not list(tmp_path.iterdir())


def test_a_log_that_cannot_be_written_stops_the_run():
    """And is not a traceback for each line, as of logging itself."""
    with pytest.raises(OSError, match="No space left"), logging_to(Path("/dev/full"), "%(message)s"):
        logging.getLogger("bec_mace").info("epoch 1")
