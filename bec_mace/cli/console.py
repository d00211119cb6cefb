"""The package's log on stderr, and streams whose reader may leave."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class _Lasting(io.TextIOBase):
    """A stream that goes on silently when nobody reads it any more: a run is worth more than its messages."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._surviving():
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._surviving():
            self._stream.flush()

    def _surviving(self) -> suppress:
        return _Silenced(self._stream)

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def buffer(self) -> Any:
        return self._stream.buffer


class _Silenced(suppress):
    """Takes a broken pipe, a terminal that is gone, or a full disk for the end of a stream's use."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(OSError)
        self._stream = stream

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if not isinstance(error, OSError) or error.errno not in (errno.EPIPE, errno.EIO, errno.EBADF):
            return False
        with suppress(OSError, ValueError):  # From here on everything goes nowhere, also what is waiting in the buffer.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        return True


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Let a command outlive the reader of its output, for the time of a ``with`` block.

    A descriptor that is closed from the beginning is opened to nowhere: else the next file that is opened would take its
    number, and what a library prints would land in that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # Takes the lowest number that is free: this one.
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Lasting(stream or open(os.devnull, "w", encoding="utf-8")) for stream in before)  # noqa: SIM115
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # no generic type in Python 3.10
    """Writes above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


def _no_traceback(record: logging.LogRecord) -> bool:
    # An exception that is logged on its way up is reported once, at the end.
    return record.exc_info is None


def log_to_stderr(level: int = logging.INFO) -> None:
    """Show the package's log on stderr, each message as one plain line. Calling it again changes nothing."""
    package = logging.getLogger("bec_mace")
    package.handlers = [handler for handler in package.handlers if not isinstance(handler, _Handler)]
    handler = _Handler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(_no_traceback)
    package.addHandler(handler)
    package.setLevel(level)
    package.propagate = False


def with_progress(items: Iterable[Any], unit: str = "frame") -> Iterable[Any]:
    """The items, with a bar on a terminal."""
    from tqdm import tqdm

    result: Iterable[Any] = tqdm(items, unit=unit, disable=not sys.stderr.isatty())
    return result
