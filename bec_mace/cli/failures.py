"""What a user sees when something goes wrong: one sentence, and an exit status."""

from __future__ import annotations

import errno
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from bec_mace.cli.console import lasting_streams
from bec_mace.errors import BecMaceError

USER_MISTAKE = 2
UNEXPECTED = 1
INTERRUPTED = 130


class CarefulGroup(click.Group):
    """A group of commands that turns every exception into one line on stderr.

    A mistake of the user exits with 2, an unexpected error with 1 and its traceback in a file, Ctrl-C with 130.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run as a program, whose output may lose its reader."""
        with lasting_streams():
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command and report what it raises."""
        debug = bool(ctx.params.get("debug"))
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except BecMaceError as error:
            if debug:
                click.echo(traceback.format_exc(), err=True)
            click.echo(f"Error: {error}", err=True)
            ctx.exit(USER_MISTAKE)
        except KeyboardInterrupt as interrupt:
            hint = " Go on with the same command and --resume." if ctx.invoked_subcommand in ("train", "md", "predict") else ""
            click.echo(f"\nStopped by {str(interrupt) or 'Ctrl-C'}.{hint}", err=True)
            ctx.exit(INTERRUPTED)
        except (OSError, MemoryError) as error:
            if debug:
                click.echo(traceback.format_exc(), err=True)
            click.echo(f"Error: {_in_words(error)}", err=True)
            ctx.exit(USER_MISTAKE)
        except Exception as error:  # the last resort: nobody should read a traceback unasked
            if _is_memory(error):
                click.echo(f"Error: {_in_words(MemoryError())}", err=True)
                ctx.exit(USER_MISTAKE)
            text = traceback.format_exc()
            if debug:
                click.echo(text, err=True)
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            click.echo(f"Unexpected error: {reason} (traceback in {_keep(text)})", err=True)
            ctx.exit(UNEXPECTED)


_CURES = {
    errno.ENOSPC: "free some, or write to another disk",
    errno.EDQUOT: "free some, or write to another disk",
    errno.EACCES: "change its permissions, or use another place",
    errno.EPERM: "change its permissions, or use another place",
    errno.EROFS: "write to another disk",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ENOTDIR: "a part of the path is a file; correct it",
    errno.EISDIR: "name a file",
    errno.ENOENT: "check the name",
    errno.ELOOP: "a link leads to itself; correct it",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EIO: "the disk does not work; use another",
}


def _is_memory(error: Exception) -> bool:
    """Whether torch or numpy found no memory."""
    text = str(error)
    return isinstance(error, RuntimeError) and ("allocate memory" in text or "out of memory" in text.lower())


def _in_words(error: OSError | MemoryError) -> str:
    """What the machine refuses, where, and what to do."""
    if isinstance(error, MemoryError):
        return f"the memory is not enough ({str(error) or 'out of memory'}); use a smaller model or batch, or a larger machine."
    reason = (error.strerror or str(error) or type(error).__name__).splitlines()[0]
    place = f"{error.filename}: " if error.filename else ""
    cure = _CURES.get(error.errno or 0, "look at the file system")
    return f"{place}{reason[:1].lower()}{reason[1:]}; {cure}."


def _keep(text: str) -> str:
    """Write a traceback into the working directory, or where temporary files go; return where."""
    name = f"bec-mace-error-{time.strftime('%Y%m%d-%H%M%S')}.log"
    for folder in (".", tempfile.gettempdir()):
        with suppress(OSError):
            path = Path(folder) / name
            path.write_text(text, encoding="utf-8")
            return str(path)
    return "no file, none can be written; add --debug"
