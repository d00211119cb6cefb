"""``bec-mace phonons``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from bec_mace.cli.options import config_options


@click.command("phonons")
@config_options("spectrum.damping=5")
def phonons_command(config: Path, overrides: tuple[str, ...]) -> None:
    """Compute phonons and infrared optics of a crystal as the YAML file CONFIG says.

    phonopy does the phonons (pip install phonopy). The folder holds modes at Gamma with their charges and oscillator
    strengths, longitudinal modes, bands, dielectric function, absorption and reflectivity, and a BORN file for phonopy.
    """
    from bec_mace.config.phonons import load_phonon_config

    settings = load_phonon_config(config, overrides)  # before torch is imported: mistakes are reported at once

    from bec_mace.phonons.lattice import phonopy_module

    phonopy_module()

    from bec_mace.cli.console import log_to_stderr, with_progress
    from bec_mace.phonons.from_config import run
    from bec_mace.phonons.tables import describe

    log_to_stderr()
    results = run(settings, partial(with_progress, unit="structure"))
    for line in describe(results):
        click.echo(line)
    click.echo(f"results are in {settings.output}")
