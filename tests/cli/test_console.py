import logging
import os
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import pytest

from bec_mace.cli.console import lasting_streams, log_to_stderr


def test_each_message_once_and_plain(capsys):
    log_to_stderr()
    log_to_stderr()
    logging.getLogger("bec_mace.train").info("epoch %d", 3)
    logging.getLogger("bec_mace.train").debug("hidden")
    assert capsys.readouterr().err == "epoch 3\n"


def test_an_exception_on_its_way_up_is_not_printed(capsys):
    log_to_stderr()
    try:
        raise ValueError("on its way")
    except ValueError:
        logging.getLogger("bec_mace").exception("the run stopped")
    assert capsys.readouterr().err == ""


def test_a_stream_outlives_its_reader():
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    with patch.object(sys, "stdout", stream), lasting_streams():
        print("nobody reads this")
        sys.stdout.flush()
        print("nor this")
    stream.close()


def test_other_failures_of_a_stream_are_seen():
    with open("/dev/full", "w") as full:
        with patch.object(sys, "stdout", full), pytest.raises(OSError, match="No space left"), lasting_streams():
            print("x" * 10)
            sys.stdout.flush()
        with suppress(OSError):
            full.close()


@pytest.mark.parametrize("closed", ["2>&1 | true", ">&- 2>&- <&-"])
def test_a_command_whose_output_nobody_reads(closed, tmp_path):
    data = Path(__file__).parents[1] / "files" / "water_clusters_rpbe_d3.extxyz"
    command = f"{shlex.quote(sys.executable)} -m bec_mace predict water {data} -o out.extxyz"
    subprocess.run(["bash", "-c", f"{command} {closed}; echo ${{PIPESTATUS[0]}} > status"], cwd=tmp_path, check=True)
    assert (tmp_path / "status").read_text() == "0\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.extxyz", "status"]
    assert "predicted_becs" in (tmp_path / "out.extxyz").read_text()
