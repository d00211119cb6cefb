"""``bec-mace md``."""

from __future__ import annotations

from pathlib import Path

import click

from bec_mace.cli.options import config_options


@click.command("md")
@config_options("steps=500")
@click.option("--resume", is_flag=True, help="Go on with the run in the output folder.")
def md_command(config: Path, resume: bool, overrides: tuple[str, ...]) -> None:
    """Run molecular dynamics as the YAML file CONFIG says.

    The run folder holds the log, the trajectory, and the current J(t) by element where there is Z*.
    """
    from bec_mace.config.dynamics import load_md_config

    settings = load_md_config(config, overrides)  # before torch is imported: mistakes are reported at once

    from bec_mace.cli.console import log_to_stderr
    from bec_mace.dynamics.integrate import run

    log_to_stderr()
    run(settings, resume=resume)
