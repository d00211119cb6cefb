"""``bec-mace spectrum --raman``."""

from __future__ import annotations

import click

from bec_mace.cli.spectrum_request import SpectrumRequest


def scattering(request: SpectrumRequest) -> None:
    """Compute a Raman spectrum and write what is asked for."""
    from bec_mace.cli.console import with_progress
    from bec_mace.spectra.raman_spectrum import (
        polarizabilities_from_trajectory,
        raman_spectrum,
        write_raman_csv,
        write_raman_json,
    )

    network, laser = request.network(), request.laser
    found = [
        polarizabilities_from_trajectory(run, network, request.time_step, batch_size=request.batch_size, progress=with_progress)
        for run in request.runs
    ]
    spectrum = raman_spectrum(found, laser, **request.settings)
    blocks = sum(spectrum.meta["blocks"])
    error = f"standard error from {blocks} blocks" if blocks > 1 else "no standard error from one block"
    click.echo(
        f"{len(found)} run{'s' if len(found) > 1 else ''}, {sum(spectrum.meta['length_ps']):.4g} ps; resolution "
        f"{spectrum.meta['resolution_cm-1']:g} cm^-1, {'reduced' if laser is None else f'laser {laser:g} nm'}, {error}"
    )
    click.echo(f"activity of the cell, all lines: {spectrum.activity():.4g} Å^4/u")
    if request.output is not None:
        write_raman_csv(spectrum, request.output)
    if request.json_file is not None:
        write_raman_json(spectrum, request.json_file)
    if request.plot_file is not None:
        from bec_mace.spectra.plots import plot_raman

        plot_raman(spectrum, request.plot_file)
