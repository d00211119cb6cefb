"""``bec-mace train``."""

from __future__ import annotations

from pathlib import Path

import click

from bec_mace.cli.options import config_options


@click.command("train")
@config_options("training.epochs=5")
@click.option("--resume", is_flag=True, help="Go on with the run in the output folder.")
def train_command(config: Path, resume: bool, overrides: tuple[str, ...]) -> None:
    """Train a model as the YAML file CONFIG says.

    The run folder holds the log, the best model, results and pictures, and metrics.csv of a network.
    """
    from bec_mace.config.schema import KernelRunConfig, load_config

    settings = load_config(config, overrides)  # before torch is imported: mistakes are reported at once

    from bec_mace.cli.console import log_to_stderr
    from bec_mace.config.document import naming_lines

    log_to_stderr()
    with naming_lines(config, overrides):
        if isinstance(settings, KernelRunConfig):
            from bec_mace.train.kernel_fit import fit_kernel

            fit_kernel(settings, resume=resume)
        else:
            from bec_mace.train.allocator import keep_freed_memory
            from bec_mace.train.loop import train

            keep_freed_memory()  # of this process, which is ours
            train(settings, resume=resume)
