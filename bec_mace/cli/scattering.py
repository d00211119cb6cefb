"""``bec-mace spectrum --raman``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from bec_mace.cli.options import load


def scattering(
    runs: tuple[str, ...],
    model: str,
    time_step: float | None,
    laser: float | None,
    files: Mapping[str, Path | None],
    computing: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Compute a Raman spectrum and write what is asked for.

    Args:
        runs: Trajectories, or folders with one.
        model: Gives polarizabilities.
        time_step: Between two frames, in fs.
        laser: Its wavelength, in nm.
        files: ``output``, ``json_file`` and ``plot_file``.
        computing: ``device``, ``precision`` and ``batch_size``.
        settings: Of the spectrum.
    """
    from bec_mace.cli.console import log_to_stderr
    from bec_mace.spectra.from_trajectory import frame_interval
    from bec_mace.spectra.raman_spectrum import (
        polarizabilities_from_trajectory,
        raman_spectrum,
        write_raman_csv,
        write_raman_json,
    )

    log_to_stderr()
    for run in runs:
        frame_interval(run, time_step)
    network = load(model, computing["device"], computing["precision"])
    found = [
        polarizabilities_from_trajectory(run, network, time_step, batch_size=computing["batch_size"], progress=_with_progress)
        for run in runs
    ]
    spectrum = raman_spectrum(found, laser, **settings)
    blocks = sum(spectrum.meta["blocks"])
    error = f"standard error from {blocks} blocks" if blocks > 1 else "no standard error from one block"
    click.echo(
        f"{len(runs)} run{'s' if len(runs) > 1 else ''}, {sum(spectrum.meta['length_ps']):.4g} ps; resolution "
        f"{spectrum.meta['resolution_cm-1']:g} cm^-1, {'reduced' if laser is None else f'laser {laser:g} nm'}, {error}"
    )
    click.echo(f"activity of the cell, all lines: {spectrum.activity():.4g} Å^4/u")
    if (output := files["output"]) is not None:
        write_raman_csv(spectrum, output)
    if (json_file := files["json_file"]) is not None:
        write_raman_json(spectrum, json_file)
    if (plot_file := files["plot_file"]) is not None:
        from bec_mace.spectra.plots import plot_raman

        plot_raman(spectrum, plot_file)


def _with_progress(results: Iterable[Any]) -> Iterable[Any]:
    from tqdm import tqdm

    result: Iterable[Any] = tqdm(results, unit="frame", disable=not sys.stderr.isatty())
    return result
