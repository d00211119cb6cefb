"""One run at a time in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bec_mace.errors import BecMaceError

try:
    import fcntl
except ImportError:  # Windows; two runs in one folder are not noticed there.
    fcntl = None  # type: ignore[assignment]

_NAME = ".lock"


@contextmanager
def alone_in(folder: Path, kind: type[BecMaceError]) -> Iterator[None]:
    """Hold a folder for the time of a ``with`` block. The system lets it go when the process ends, however it ends.

    Args:
        folder: Exists.
        kind: Of the error.

    Raises:
        BecMaceError: Of this kind: another process holds it.
    """
    if fcntl is None:
        yield
        return
    path = folder / _NAME
    number = _locked(path, kind)
    try:
        yield
    finally:
        if number is not None:
            path.unlink(missing_ok=True)
            os.close(number)


def _locked(path: Path, kind: type[BecMaceError]) -> int | None:
    """An open file that is locked; None where the file system has no locks."""
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(number)
            raise kind(
                f"{path.parent}: another run is at work in this folder; wait for its end, or choose another output."
            ) from None
        except OSError:
            os.close(number)
            return None
        # Who held it before has removed the name meanwhile: then this is a lock on nothing.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(number), path.stat()):
                return number
        os.close(number)
