"""``bec-mace spectrum``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from bec_mace.cli.options import computing_options
from bec_mace.cli.spectrum_request import SpectrumRequest

Command = TypeVar("Command", bound=Callable[..., Any])


def reading_options(command: Command) -> Command:
    """Add the options for trajectories."""
    for option in (
        click.option("--model", metavar="MODEL", help="Model for Z* of a trajectory; of the one in a run folder too."),
        click.option("--time-step", type=float, metavar="FS", help="Time between frames, unless the file says it."),
        click.option("--velocity-unit", help="Unit of a velocity column: ase, A/fs, A/ps or au. Momenta of ASE need none."),
        click.option(
            "--save-currents",
            "currents_file",
            type=click.Path(path_type=Path),
            help="Keep the current of one trajectory in this .h5 file, to use instead of it.",
        ),
    ):
        command = option(command)
    return command


def spectrum_options(command: Command) -> Command:
    """Add the fields of ``Settings``."""
    for option in (
        click.option("--keep-mean", is_flag=True, help="Do not subtract the mean current of each run."),
        click.option("--skip-fs", type=float, default=0.0, metavar="FS", help="Leave out the beginning of each run."),
        click.option(
            "--blocks",
            type=click.IntRange(min=1),
            help="Blocks of each run, for the standard error.  [default: up to 10, two correlation lengths long]",
        ),
        click.option("--volume", type=float, metavar="A3", help="In Å^3.  [default: mean of each run]"),
        click.option("--temperature", type=float, metavar="K", help="In K.  [default: mean of each run]"),
        click.option(
            "--epsilon-infinity",
            type=float,
            default=1.0,
            show_default=True,
            help="Dielectric constant of the electrons, for the real part.",
        ),
        click.option(
            "--quantum-correction",
            type=click.Choice(["harmonic", "none"]),
            default="harmonic",
            show_default=True,
            help="harmonic: classical response; none: lower by (1 - exp(-x)) / x, x = hw/kT.",
        ),
        click.option("--max-wavenumber", type=float, metavar="CM-1", help="Last wavenumber.  [default: 4500 or Nyquist]"),
        click.option("--spacing", type=float, metavar="CM-1", help="Between wavenumbers.  [default: resolution / 4]"),
        click.option(
            "--window",
            type=click.Choice(["gaussian", "hann", "blackman", "none"]),
            default="gaussian",
            show_default=True,
            help="On the correlation function.",
        ),
        click.option(
            "--resolution",
            type=float,
            default=20.0,
            show_default=True,
            metavar="CM-1",
            help="Full width at half maximum of a sharp line; sets the length of the correlation.",
        ),
    ):
        command = option(command)
    return command


@click.command("spectrum")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="CSV file to write.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write numbers and settings to this file.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Draw absorption and shares of elements.")
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Curve to draw beside it, with columns wavenumber_cm-1 and n_alpha_cm-1.",
)
@click.option(
    "--prominence",
    type=float,
    default=0.05,
    show_default=True,
    help="Least prominence of a listed peak, as a share of the highest.",
)
@click.option("--raman", is_flag=True, help="The Raman spectrum instead, of trajectories, with --model.")
@click.option("--laser", type=float, metavar="NM", help="Wavelength of the laser for --raman; without it spectra are reduced.")
@click.option(
    "--beads", is_flag=True, help="The RUNs are the beads of one path-integral simulation, at --temperature: take their mean."
)
@spectrum_options
@reading_options
@computing_options
def spectrum_command(prominence: float, keep_mean: bool, **given: Any) -> None:
    """Compute the infrared spectrum of one or several RUNs of the same system.

    RUN is a folder that `bec-mace md` made, a currents.h5, or a trajectory in any format that ASE reads; a trajectory
    needs --model and, unless `bec-mace md` made it, --time-step. Without velocities, differences of positions are used.
    The trajectories of all beads of a path-integral simulation make one RUN with --beads.

    \b
    n_alpha   refractive index x absorption coefficient, in cm^-1, with standard error over blocks and over runs
    epsilon   imaginary and real part (Kramers-Kronig) of the dielectric function
    shares    of n_alpha by pair of elements; they sum to it

    With --raman: polarized (VV) and depolarized (VH) scattering, isotropic and anisotropic parts, from the polarizability
    of every frame.
    """  # noqa: D301 - click wants the control character
    own = {field.name for field in fields(SpectrumRequest)}
    settings = {name: value for name, value in given.items() if name not in own} | {"subtract_mean": not keep_mean}
    request = SpectrumRequest(**{name: value for name, value in given.items() if name in own}, settings=settings)
    request.check()

    from bec_mace.cli.console import log_to_stderr
    from bec_mace.spectra.infrared import Settings

    log_to_stderr()
    Settings(**settings)
    if request.raman:
        from bec_mace.cli.scattering import scattering

        scattering(request)
    else:
        _absorption(request, prominence)


def _absorption(request: SpectrumRequest, prominence: float) -> None:
    """Compute an infrared spectrum and write what is asked for."""
    from bec_mace.spectra.beads import mean_of_beads
    from bec_mace.spectra.export import read_curve, write_csv, write_json
    from bec_mace.spectra.infrared import infrared_spectrum
    from bec_mace.spectra.peaks import find_peaks

    reference = request.reference
    curve = None if reference is None else read_curve(reference)
    currents = request.currents()
    if request.beads:
        currents = [mean_of_beads(currents, request.settings["temperature"])]
    if request.currents_file is not None:
        currents[0].write(request.currents_file, model=str(request.model))
    spectrum = infrared_spectrum(currents, **request.settings)
    peaks = find_peaks(spectrum, prominence)
    click.echo(_describe(spectrum.meta))
    click.echo(_table(peaks))
    if request.output is not None:
        write_csv(spectrum, request.output)
    if request.json_file is not None:
        write_json(spectrum, request.json_file, prominence)
    if request.plot_file is not None:
        from bec_mace.spectra.plots import plot_spectrum

        label = reference.stem.replace("_", " ") if reference is not None else ""
        plot_spectrum(spectrum, request.plot_file, curve, label, peaks)


def _describe(meta: dict[str, Any]) -> str:
    """What the spectrum is of, and how it was made."""
    runs, blocks = meta["runs"], sum(meta["blocks"])
    temperature = sum(meta["temperature_K"]) / len(runs)
    error = f"standard error from {blocks} blocks" if blocks > 1 else "no standard error from one block"
    return (
        f"{len(runs)} run{'s' if len(runs) > 1 else ''}, {sum(meta['length_ps']):.4g} ps, {temperature:.1f} K; "
        f"resolution {meta['resolution_cm-1']:g} cm^-1 ({meta['window']}), quantum correction "
        f"{meta['quantum_correction']}, {error}; from {' and '.join(meta['method'])}"
    )


def _table(peaks: list[Any]) -> str:
    if not peaks:
        return "no peaks of this prominence"
    lines = [f"{'peak (cm^-1)':>14}{'n alpha (cm^-1)':>18}{'standard error':>17}"]
    lines += [f"{peak.wavenumber:>14.1f}{peak.height:>18.1f}{peak.error:>17.1f}" for peak in peaks]
    return "\n".join(lines)
