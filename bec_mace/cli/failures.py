"""What a user sees when something goes wrong: one sentence, and an exit status."""

from __future__ import annotations

import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import click

from bec_mace.errors import BecMaceError

USER_MISTAKE = 2
UNEXPECTED = 1
INTERRUPTED = 130


class CarefulGroup(click.Group):
    """A group of commands that turns every exception into one line on stderr.

    A mistake of the user exits with 2, an unexpected error with 1 and its traceback in a file, Ctrl-C with 130.
    """

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
        except Exception as error:  # the last resort: nobody should read a traceback unasked
            text = traceback.format_exc()
            if debug:
                click.echo(text, err=True)
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            click.echo(f"Unexpected error: {reason} (traceback in {_keep(text)})", err=True)
            ctx.exit(UNEXPECTED)


def _keep(text: str) -> Path:
    """Write a traceback into the working directory, or where temporary files go; return its path."""
    name = f"bec-mace-error-{time.strftime('%Y%m%d-%H%M%S')}.log"
    path = Path(name)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError:
        path = Path(tempfile.gettempdir()) / name
        path.write_text(text, encoding="utf-8")
    return path
