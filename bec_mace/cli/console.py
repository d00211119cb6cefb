"""The package's log on stderr."""

from __future__ import annotations

import logging
import sys


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
