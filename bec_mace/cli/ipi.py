"""``bec-mace ipi``."""

from __future__ import annotations

from pathlib import Path

import click

from bec_mace.cli.options import config_options


@click.command("ipi")
@config_options("address=water")
def ipi_command(config: Path, overrides: tuple[str, ...]) -> None:
    """Give i-PI energies, forces, dipoles and Born effective charges over a socket, as the YAML file CONFIG says.

    i-PI integrates: nuclei with and without quantum effects, in a field where its mode is eda-nve or eda-nvt. Start any number
    of drivers; each ends when i-PI does.
    """
    from bec_mace.config.driver import load_driver_config

    settings = load_driver_config(config, overrides)  # before torch is imported: mistakes are reported at once

    from bec_mace.cli.console import log_to_stderr
    from bec_mace.dynamics.driven import drive

    log_to_stderr()
    drive(settings)
