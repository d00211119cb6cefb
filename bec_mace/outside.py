"""Code from outside the package that a configuration names: calculators, functions of a field, heads.

To import it is to run it. A configuration that names such code is a program: use those of people you trust. What a model file
or a run folder names is not imported unless it is here already or the user says so with :func:`trust`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from bec_mace.errors import BecMaceError

_TRUSTED: set[str] = set()


def trust(modules: Iterable[str]) -> None:
    """Let models and run folders that name these modules import them, which runs the code in them."""
    _TRUSTED.update(modules)


def check_trusted(text: str, where: str, kind: type[BecMaceError]) -> None:
    """Refuse to import what a file of someone else names.

    Args:
        text: ``module:name``.
        where: The file.
        kind: Of the error.

    Raises:
        BecMaceError: Of this kind: the module is neither imported nor trusted.
    """
    module = text.partition(":")[0]
    if module not in _TRUSTED and module not in sys.modules:
        raise kind(
            f"{where}: names {text}, which is code from outside this package, and reading a file does not run code. If you "
            f"trust it, import {module} first; on the command line, `bec-mace --trust {module} ...`."
        )


def import_object(text: str, key: str, kind: type[BecMaceError]) -> Any:
    """Import ``module:name``; modules of the working directory are found too.

    Args:
        text: The words of the configuration.
        key: Where they stand, for the message.
        kind: Of the error.

    Raises:
        BecMaceError: Of this kind: There is no such module, no such name in it, or it cannot be called.
    """
    module, _, name = text.partition(":")
    folder = str(Path.cwd())
    added = folder not in sys.path
    if added:
        sys.path.append(folder)
    try:
        value = getattr(import_module(module), name)
    except ImportError as error:
        raise kind(f"{key}: cannot import {module} ({error}); install it, or start where {module}.py is") from error
    except AttributeError:
        raise kind(f"{key}: the module {module} has no {name}") from None
    finally:
        if added:
            sys.path.remove(folder)
    if not callable(value):
        raise kind(f"{key}: {text} cannot be called; name a class or function")
    return value
