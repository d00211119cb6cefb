"""``bec-mace train``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("train")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--resume", is_flag=True, help="Go on with the run in the output folder.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
              help="Set a key of the configuration, such as training.epochs=5. Can be given several times.")
def train_command(config: Path, resume: bool, overrides: tuple[str, ...]) -> None:
    """Train a model as the YAML file CONFIG says.

    The run folder holds the log, metrics.csv, the best model and pictures.
    """
    from bec_mace.config import load_config

    settings = load_config(config, overrides)  # before torch is imported: mistakes are reported at once

    from bec_mace.cli.messages import log_to_stderr
    from bec_mace.training.loop import train

    log_to_stderr()
    train(settings, resume=resume)
