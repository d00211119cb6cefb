"""Files that are whole or not there, and what the folders of all runs share."""

from __future__ import annotations

import glob
import logging
import os
import platform
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from safetensors import SafetensorError

from bec_mace.errors import BecMaceError, FileError

_HOST = re.sub(r"\W", "_", platform.node()) or "host"
_COUNT = count()


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name in the same folder, then rename it.

    The contents are on the disk before the name is: a machine that loses power leaves the old file or the new one. A link
    stays, and the file that it leads to is replaced.

    Args:
        path: The file. It is as it was until the new one is complete.
        write: Gets the temporary name, at which nothing is.

    Raises:
        FileError: Something that is no file has the name, or the file cannot be written.
    """
    path = resolve_links(path)
    temporary = temporary_name(path)
    try:
        write(temporary)
        put_in_place(temporary, path)
    except (RuntimeError, SafetensorError) as error:  # what torch, HDF5 and safetensors make of a full disk
        raise FileError(f"{path}: cannot be written ({str(error).splitlines()[0]}); look for space on the disk.") from error
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a text, complete or not at all; see :func:`replace_file`."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def resolve_links(path: Path) -> Path:
    """The file that a path leads to, which need not exist yet.

    Raises:
        FileError: Something that is no file has the name: a folder, a device, a pipe, or a link in a circle.
    """
    try:
        path = Path(os.path.realpath(path, strict=True)) if path.is_symlink() else path
        mode = path.stat().st_mode
    except FileNotFoundError:
        return Path(os.path.realpath(path)) if path.is_symlink() else path
    if not stat.S_ISREG(mode):
        if stat.S_ISDIR(mode):
            raise FileError(f"{path}: is a folder; name a file.")
        raise FileError(
            f"{path}: is no file but a device or a pipe; results are renamed into place when whole, so name a file."
        )
    return path


def temporary_name(path: Path) -> Path:
    """A name beside a file that no other process and no other call has; names of processes that are gone are cleared away."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{_HOST}-*.partial"):
        number = left.name.rsplit(f"{_HOST}-", 1)[1].split("-")[0]
        if number.isdigit() and int(number) != os.getpid() and not _is_alive(int(number)):
            left.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{_HOST}-{os.getpid()}-{next(_COUNT)}.partial")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a file that is complete, once its contents are on the disk."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    with suppress(OSError):  # Not every system lets a folder be opened.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def check_output(path: Path, inputs: Iterable[str | Path], endings: Collection[str], kind: str = "results") -> None:
    """Refuse an output that would cost a user something, or cannot be written; nothing is changed.

    Args:
        path: What is to be written.
        inputs: What is read; none of these may be overwritten, under another name neither.
        endings: Of the names of such files. A file that is there and ends otherwise is taken for something else.
        kind: What is to be written, for the message.

    Raises:
        FileError: It must not or cannot be written.
    """
    path = resolve_links(path)
    if not path.parent.is_dir():
        raise FileError(f"{path}: the folder {path.parent} does not exist; make it first.")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise FileError(f"{path}: may not be written; choose another file, or change its permissions.")
    if not path.exists():
        return
    for source in map(Path, inputs):
        if source.exists() and source.samefile(path):
            raise FileError(f"{path}: is one of the files to read; choose another output file.")
    if path.suffix.lower() not in endings:
        known = ", ".join(sorted(endings))
        raise FileError(
            f"{path}: is there already and does not look like {kind}, whose names end in {known}; choose another name."
        )


RESUME = "go on with it (--resume) or choose another `output`"


def check_free(folder: Path, traces: Iterable[Path], resume: bool, kind: type[BecMaceError], advice: str = RESUME) -> None:
    """Refuse to overwrite a run.

    Args:
        folder: Of the run.
        traces: Files that a run leaves.
        resume: Whether the run is to go on.
        kind: Of the error.
        advice: What to do where there is a run.

    Raises:
        BecMaceError: Of this kind: the folder holds a run and ``resume`` is false, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise kind(f"{folder}: the output folder is a file; choose another `output`")
    existing = [path.name for path in traces if path.exists()]
    if existing and not resume:
        raise kind(f"{folder}: this folder holds a run already ({existing[0]}); {advice}")


class _LogFile(logging.FileHandler):
    """Lets a failure to write stop the run: a full disk is said once, in one sentence, and not as a traceback for each line."""

    def handleError(self, record: logging.LogRecord) -> None:
        raise  # noqa: PLE0704 -- called where the error is handled


@contextmanager
def logging_to(path: Path, line: str) -> Iterator[None]:
    """Append the package's log to a file for the time of a ``with`` block.

    Args:
        path: The file.
        line: Format of a line, as of :class:`logging.Formatter`.
    """
    logger = logging.getLogger("bec_mace")
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(line, "%Y-%m-%d %H:%M:%S"))
    level = logger.level
    logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
