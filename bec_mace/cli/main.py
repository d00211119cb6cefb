"""The command ``bec-mace``."""

from __future__ import annotations

import click

from bec_mace.cli.check import check_command
from bec_mace.cli.combine import combine_command
from bec_mace.cli.convert import convert_command
from bec_mace.cli.evaluate import evaluate_command
from bec_mace.cli.failures import CarefulGroup
from bec_mace.cli.info import info_command
from bec_mace.cli.ipi import ipi_command
from bec_mace.cli.md import md_command
from bec_mace.cli.phonons import phonons_command
from bec_mace.cli.predict import predict_command
from bec_mace.cli.spectrum import spectrum_command
from bec_mace.cli.train import train_command
from bec_mace.cli.vibrations import vibrations_command
from bec_mace.outside import trust
from bec_mace.version import __version__


@click.group(cls=CarefulGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "--version", prog_name="bec-mace")
@click.option("--debug", is_flag=True, help="Print the full traceback of an error.")
@click.option(
    "--trust",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Let models that name a head of this module import it, which runs the code in it. Can be given several times.",
)
def main(debug: bool, modules: tuple[str, ...]) -> None:
    """Learn and predict Born effective charges, Z*[polarization, displacement] in e."""
    trust(modules)


for _command in (
    train_command,
    combine_command,
    md_command,
    evaluate_command,
    predict_command,
    info_command,
    convert_command,
    check_command,
    spectrum_command,
    phonons_command,
    vibrations_command,
    ipi_command,
):
    main.add_command(_command)
