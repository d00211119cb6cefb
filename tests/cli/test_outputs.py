"""Nothing of the user's is overwritten, and what the machine refuses is one sentence."""

from __future__ import annotations

import errno
import os

import pytest


def unchanged(result, path, words, before):
    assert result.exit_code == 2, result.stderr
    assert words in result.stderr and len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["mine.yaml", "model.safetensors", "small.extxyz", "hard.extxyz", "soft.extxyz", "table.csv"])
@pytest.mark.parametrize("option", ["predict -o", "evaluate --json", "evaluate --plot"])
def test_files_of_the_user(run, small_frames, tmp_path, name, option):
    frames = tmp_path / "small.extxyz"
    frames.write_bytes(small_frames.read_bytes())
    os.link(frames, tmp_path / "hard.extxyz")
    (tmp_path / "soft.extxyz").symlink_to(frames)
    path = tmp_path / name
    if not path.exists():
        path.write_text("mine")
    before = path.read_bytes()
    command, option = option.split()
    result = run(command, "water", str(frames), option, str(path), *(["--device", "cpu"]))
    unchanged(result, path, "choose another" if command == "predict" else "Error: ", before)


def test_two_outputs_in_one_file(run, small_frames, tmp_path):
    result = run("evaluate", "water", small_frames, "--json", "a.png", "--plot", "a.png")
    assert result.exit_code == 2 and "--json and --plot are one file, a.png; name two" in result.stderr


def test_a_picture_that_nobody_can_draw(run, small_frames):
    result = run("evaluate", "water", small_frames, "--plot", "a.xyz")
    assert result.exit_code == 2 and "--plot a.xyz: is in no known format of pictures; end it in one of .png" in result.stderr


def test_a_folder_where_unfinished_work_would_go(run, small_frames, tmp_path):
    folder = tmp_path / "out.extxyz.partial"
    folder.mkdir()
    (folder / "thesis.json").write_text("mine")
    result = run("predict", "water", small_frames, "-o", "out.extxyz")
    unchanged(result, folder / "thesis.json", "holds what is not of a prediction (thesis.json)", b"mine")


@pytest.mark.parametrize("name", ["/dev/null", "pipe"])
def test_devices_and_pipes_stay_what_they_are(run, small_frames, tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    result = run("predict", "water", small_frames, "-o", name)
    assert result.exit_code == 2 and "is no file but a device or a pipe" in result.stderr
    assert os.stat(tmp_path / "pipe").st_mode == os.lstat(tmp_path / "pipe").st_mode
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "md"])
def test_a_machine_that_refuses_to_write(run, small_frames, tmp_path, monkeypatch, number, command):
    """At the first file that is put in place: one sentence with the reason and a way out."""
    (tmp_path / "run.yaml").write_text(
        f"data: {{train: {small_frames}}}\nmodel: {{r_max: 3, channels: 2, num_interactions: 1, heads: [dipole]}}\n"
        "training: {epochs: 1}\n"
    )
    (tmp_path / "md.yaml").write_text(
        f"structure: {small_frames}\npotential: water\nensemble: nve\ntime_step: 0.5\nsteps: 2\ninitial_temperature: 10\n"
    )

    def refuse(source, target):
        raise OSError(number, os.strerror(number), str(target))

    monkeypatch.setattr("bec_mace.storage.files.os.replace", refuse)
    arguments = {
        "train": ("train", "run.yaml"),
        "predict": ("predict", "water", small_frames, "-o", "out.extxyz"),
        "evaluate": ("evaluate", "water", small_frames, "--json", "out.json"),
        "md": ("md", "md.yaml"),
    }[command]
    result = run(*arguments)
    last = result.stderr.strip().splitlines()[-1]
    assert result.exit_code == 2 and last.startswith("Error: "), result.stderr
    assert os.strerror(number).lower() in last.lower() and ";" in last
    assert "Traceback" not in result.stderr and "Unexpected" not in result.stderr


def test_no_memory(run, small_frames, monkeypatch):
    def refuse(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr("bec_mace.models.checkpoint.read_checkpoint", refuse)
    result = run("predict", "water", small_frames, "-o", "out.extxyz")
    assert result.exit_code == 2 and "the memory is not enough" in result.stderr


def test_a_traceback_that_cannot_be_kept(run, monkeypatch):
    def fail(*arguments, **options):
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("bec_mace.models.checkpoint.read_checkpoint", fail)
    monkeypatch.setattr("pathlib.Path.write_text", lambda *a, **k: (_ for _ in ()).throw(PermissionError(13, "no")))
    result = run("info", "water")
    assert result.exit_code == 1 and "Unexpected error: ZeroDivisionError: a fault of ours" in result.stderr
    assert "no file, none can be written; add --debug" in result.stderr


def test_results_of_yesterday_are_replaced(run, small_frames, tmp_path):
    for name in ("out.json", "out.png"):
        (tmp_path / name).write_text("old")
    result = run("evaluate", "water", small_frames, "--json", "out.json", "--plot", "out.png")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out.json").read_text().startswith("{") and (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
