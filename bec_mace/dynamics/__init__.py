"""Molecular dynamics with any ASE potential, with Born effective charges and an electric field beside it.

``run`` integrates what a configuration says and keeps the current J(t), a trajectory and a log in a run folder.

Example:
    >>> from bec_mace.dynamics import load_md_config, run  # doctest: +SKIP
    >>> summary = run(load_md_config("configs/md_water_nvt.yaml", ["steps=100"]))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bec_mace.lazy import lazy

if TYPE_CHECKING:
    from bec_mace.config.dynamics import MDConfig, load_md_config
    from bec_mace.dynamics.integrate import run
    from bec_mace.dynamics.run_report import Summary

__all__ = ["MDConfig", "Summary", "load_md_config", "run"]

# Resolved at first use: the configuration is read without torch.
_HOME = {
    "MDConfig": "bec_mace.config.dynamics",
    "load_md_config": "bec_mace.config.dynamics",
    "Summary": "run_report",
    "run": "integrate",
}

__getattr__, __dir__ = lazy(__name__, _HOME)
