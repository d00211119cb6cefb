"""``bec-mace combine``."""

from __future__ import annotations

from pathlib import Path

import click

from bec_mace.cli.options import device_option


@click.command("combine")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder of the committee.")
@device_option
def combine_command(runs: tuple[Path, ...], output: Path, device: str) -> None:
    """Make a committee of the networks in the folders RUNS, and judge it on the frames that they all held out.

    The runs differ in seed, size or heads and share their data section. The committee predicts their mean.
    """
    from bec_mace.cli.console import log_to_stderr
    from bec_mace.devices import find_device
    from bec_mace.errors import ModelError
    from bec_mace.train.combine_runs import combine_runs

    log_to_stderr()
    combine_runs(runs, output, find_device(device, ModelError, "--device"))
