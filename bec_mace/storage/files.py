"""Files that are whole or not there, and what the folders of all runs share."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bec_mace.errors import BecMaceError


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name in the same folder, then rename it.

    Args:
        path: The file. It is as it was until the new one is complete.
        write: Gets the temporary name, at which nothing is.
    """
    temporary = path.with_name(f".{path.name}.partial")
    temporary.unlink(missing_ok=True)  # left by a run that was killed
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


RESUME = "go on with it (--resume), choose another `output`, or delete it"


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


@contextmanager
def logging_to(path: Path, line: str) -> Iterator[None]:
    """Append the package's log to a file for the time of a ``with`` block.

    Args:
        path: The file.
        line: Format of a line, as of :class:`logging.Formatter`.
    """
    logger = logging.getLogger("bec_mace")
    handler = logging.FileHandler(path, encoding="utf-8")
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
