"""``bec-mace convert``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from bec_mace.cli.failures import USER_MISTAKE
from bec_mace.cli.options import STRUCTURES, check_outputs, label_options, parse_keys, parse_units, units_option
from bec_mace.errors import FileError


@click.command("convert")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCES...")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Extended XYZ file to write, or with .gz.",
)
@label_options
@units_option
@click.option("--skip-errors", is_flag=True, help="Go on past files that cannot be read; say so at the end, and exit with 2.")
def convert_command(
    sources: tuple[str, ...], output: Path, keys: tuple[str, ...], index_order: str, units: tuple[str, ...], skip_errors: bool
) -> None:
    """Write structures and labels of any files into one that training reads without further keys.

    SOURCES are files and globs: outputs of VASP, ph.x, Abinit, CP2K, BORN of phonopy, and all that ASE reads; raw outputs have
    an index order and units of their own. A YAML file with `runs:`, a list of {file: plus_x.out, field: [0.01, 0, 0]} with each
    field and its opposite in V/Å, gives Z* from forces.
    """
    if not output.name.endswith(STRUCTURES):
        raise FileError(f"-o {output}: extended XYZ is written; end the name in one of {', '.join(STRUCTURES)}.")
    check_outputs(sources, output=(output, (".extxyz", ".xyz", ".gz"), "extended XYZ"))

    from bec_mace.cli.console import log_to_stderr
    from bec_mace.data.conversion import convert

    log_to_stderr()
    found = []
    for one in convert(
        list(sources),
        output,
        keys=parse_keys(keys),
        index_order=index_order,
        units=parse_units(units),
        skip_errors=skip_errors,
    ):
        click.echo(one.text())
        found.append(one)
    labels: Counter[str] = Counter()
    for one in found:
        labels.update(one.labels)
    total = sum(one.n_frames for one in found)
    held = ", ".join(f"{name} {'in all' if count == total else f'in {count}'}" for name, count in labels.items()) or "no labels"
    frames = "1 frame" if total == 1 else f"{total} frames"
    click.echo(f"wrote {output}: {frames}, {sum(one.n_atoms for one in found)} atoms: {held}")
    broken = [one for one in found if one.mistake]
    if broken:
        click.echo(f"{len(broken)} of {len(found)} files could not be read:", err=True)
        for one in broken:
            click.echo(f"  {one.mistake}", err=True)
        click.get_current_context().exit(USER_MISTAKE)
