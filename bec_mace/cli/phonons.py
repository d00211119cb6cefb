"""``bec-mace phonons``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click


@click.command("phonons")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of the configuration, such as spectrum.damping=5. Can be given several times.",
)
def phonons_command(config: Path, overrides: tuple[str, ...]) -> None:
    """Compute phonons and infrared optics of a crystal as the YAML file CONFIG says.

    phonopy does the phonons (pip install phonopy). The folder holds modes at Gamma with their charges and oscillator
    strengths, longitudinal modes, bands, dielectric function, absorption and reflectivity, and a BORN file for phonopy.
    """
    from bec_mace.config.phonons import load_phonon_config

    settings = load_phonon_config(config, overrides)  # before torch is imported: mistakes are reported at once

    from bec_mace.phonons.lattice import phonopy_module

    phonopy_module()

    from bec_mace.cli.console import log_to_stderr
    from bec_mace.phonons.from_config import run
    from bec_mace.phonons.tables import describe

    log_to_stderr()
    results = run(settings, with_progress)
    for line in describe(results):
        click.echo(line)
    click.echo(f"results are in {settings.output}")


def with_progress(items: Iterable[Any]) -> Iterable[Any]:
    """Show a bar of displaced structures on a terminal."""
    from tqdm import tqdm

    result: Iterable[Any] = tqdm(items, unit="structure", disable=not sys.stderr.isatty())
    return result
