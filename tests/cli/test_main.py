import re
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import bec_mace
from bec_mace.cli.failures import CarefulGroup
from bec_mace.errors import DataError

ROOT = Path(__file__).parents[2]


def python(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, **options)


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom bec_mace.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'ase', 'mace', 'matplotlib', 'pydantic', 'numpy', 'yaml'} & set(sys.modules)))"
    )
    start = time.perf_counter()
    result = python("-c", code)
    seconds = time.perf_counter() - start
    assert result.stdout.splitlines()[-1] == "[]"
    for command in ("train", "evaluate", "predict", "info"):
        assert f"\n  {command} " in result.stdout
    # 0.2 s on an idle machine; the bound leaves room for a busy one.
    assert seconds < 1.5


def test_module_and_version():
    result = python("-m", "bec_mace", "--version")
    assert result.stdout.strip() == f"bec-mace, version {bec_mace.__version__}"


def test_a_mistake_in_a_config_needs_no_torch(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("trainin: 3\n")
    code = (
        "import sys\nfrom bec_mace.cli.main import main\n"
        f"try:\n    main(['train', {str(path)!r}])\nexcept SystemExit as end:\n    print(end.code)\n"
        "print(sorted({'torch', 'mace', 'ase'} & set(sys.modules)))"
    )
    result = python("-c", code)
    assert result.stdout.splitlines() == ["2", "[]"]
    assert "bad.yaml:1: trainin: unknown key; did you mean 'training'?" in result.stderr
    assert "Traceback" not in result.stderr


@click.group(cls=CarefulGroup)
@click.option("--debug", is_flag=True)
def group(debug):
    pass


@group.command()
def train():
    raise KeyboardInterrupt


@group.command()
def mistake():
    raise DataError("water.xyz, frame 3: no cell. Give one.")


@group.command()
def crash():
    raise ZeroDivisionError("first line\nsecond line")


@group.command()
def usage():
    raise click.UsageError("no such thing")


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(group, list(arguments))


def test_a_mistake_of_the_user(invoke):
    result = invoke("mistake")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: water.xyz, frame 3: no cell. Give one.\n"


def test_debug_adds_the_traceback(invoke):
    result = invoke("--debug", "mistake")
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback") and "in mistake" in result.stderr
    assert result.stderr.endswith("Error: water.xyz, frame 3: no cell. Give one.\n")
    assert "in crash" in invoke("--debug", "crash").stderr


def test_an_unexpected_error_keeps_its_traceback_in_a_file(invoke, tmp_path):
    result = invoke("crash")
    assert result.exit_code == 1
    name = re.fullmatch(r"Unexpected error: ZeroDivisionError: first line \(traceback in (.*)\)\n", result.stderr)[1]
    assert "second line" in (tmp_path / name).read_text()


def test_a_folder_that_cannot_be_written(invoke, tmp_path, monkeypatch):
    def refuse(self, *arguments, **options):
        if self.parent == Path("."):
            raise PermissionError("read-only")
        return original(self, *arguments, **options)

    original = Path.write_text
    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    result = invoke("crash")
    assert f"traceback in {tmp_path}/bec-mace-error-" in result.stderr
    assert len(list(tmp_path.glob("bec-mace-error-*.log"))) == 1


def test_ctrl_c(invoke):
    result = invoke("train")
    assert result.exit_code == 130
    assert result.stderr == "\nStopped by Ctrl-C. Go on with the same command and --resume.\n"


def test_errors_of_click_stay_as_they_are(invoke):
    result = invoke("usage")
    assert result.exit_code == 2 and "Usage:" in result.stderr and "no such thing" in result.stderr
