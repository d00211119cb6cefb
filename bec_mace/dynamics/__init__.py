"""Molecular dynamics with any ASE potential, with Born effective charges and an electric field beside it.

``run`` integrates what a configuration says and keeps the current J(t), a trajectory and a log in a run folder.

Example:
    >>> from bec_mace.dynamics import load_md_config, run  # doctest: +SKIP
    >>> summary = run(load_md_config("configs/md_water_nvt.yaml", ["steps=100"]))  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bec_mace.dynamics.config import MDConfig, load_md_config
    from bec_mace.dynamics.loop import Summary, run

__all__ = ["MDConfig", "Summary", "load_md_config", "run"]

# Resolved at first use: the configuration is read without torch.
_HOMES = {"MDConfig": "config", "load_md_config": "config", "Summary": "loop", "run": "loop"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bec_mace.dynamics' has no attribute '{name}'")
    return getattr(import_module(f"bec_mace.dynamics.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
