"""``bec-mace spectrum``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bec_mace.cli.options import CURRENTS, JSON, PICTURES, TABLES, check_outputs, computing_options, load
from bec_mace.errors import SpectrumError

if TYPE_CHECKING:
    from bec_mace.spectra.currents import Currents

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
def spectrum_command(
    runs: tuple[str, ...],
    output: Path | None,
    json_file: Path | None,
    plot_file: Path | None,
    reference: Path | None,
    prominence: float,
    raman: bool,
    laser: float | None,
    beads: bool,
    model: str | None,
    time_step: float | None,
    velocity_unit: str | None,
    currents_file: Path | None,
    keep_mean: bool,
    device: str,
    precision: str,
    batch_size: int | None,
    **settings: Any,
) -> None:
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
    check_outputs(
        [text for text in (*runs, model, reference) if text is not None],
        output=(output, TABLES, "a table"),
        json=(json_file, JSON, "results"),
        plot=(plot_file, PICTURES, "a picture"),
        **{"save-currents": (currents_file, CURRENTS, "currents")},
    )
    if raman and (model is None or currents_file is not None or reference is not None or velocity_unit or beads):
        raise SpectrumError(
            "--raman: takes trajectories and --model, and no --reference, --save-currents, --velocity-unit or --beads"
        )
    if laser is not None and not raman:
        raise SpectrumError("--laser: is for Raman spectra, with --raman")
    _check_sources(runs, model, time_step, velocity_unit, currents_file, beads)
    if raman and model is not None:
        from bec_mace.cli.scattering import scattering

        computing = {"device": device, "precision": precision, "batch_size": batch_size}
        files = {"output": output, "json_file": json_file, "plot_file": plot_file}
        return scattering(runs, model, time_step, laser, files, computing, {**settings, "subtract_mean": not keep_mean})
    if beads and settings["temperature"] is None:
        raise SpectrumError("--beads: beads move at many times the temperature of the simulation; give that with --temperature")

    from bec_mace.cli.console import log_to_stderr
    from bec_mace.spectra.beads import mean_of_beads
    from bec_mace.spectra.export import read_curve, write_csv, write_json
    from bec_mace.spectra.infrared import Settings, infrared_spectrum
    from bec_mace.spectra.peaks import find_peaks

    log_to_stderr()
    options = {**settings, "subtract_mean": not keep_mean}
    Settings(**options)
    curve = None if reference is None else read_curve(reference)
    currents = _read(runs, model, time_step, velocity_unit, batch_size, device, precision)
    if beads:
        currents = [mean_of_beads(currents, settings["temperature"])]
    if currents_file is not None:
        currents[0].write(currents_file, model=str(model))
    spectrum = infrared_spectrum(currents, **options)
    peaks = find_peaks(spectrum, prominence)
    click.echo(_describe(spectrum.meta))
    click.echo(_table(peaks))
    if output is not None:
        write_csv(spectrum, output)
    if json_file is not None:
        write_json(spectrum, json_file, prominence)
    if plot_file is not None:
        from bec_mace.spectra.plots import plot_spectrum

        label = reference.stem.replace("_", " ") if reference is not None else ""
        plot_spectrum(spectrum, plot_file, curve, label, peaks)


def _check_sources(
    runs: tuple[str, ...],
    model: str | None,
    time_step: float | None,
    velocity_unit: str | None,
    currents_file: Path | None,
    beads: bool,
) -> None:
    """Say what is missing before anything slow is imported."""
    files = [run for run in runs if not Path(run).is_dir() and Path(run).suffix.lower() not in (".h5", ".hdf5")]
    for run in runs:
        if not Path(run).exists():
            raise SpectrumError(f"{run}: no such file or folder")
    if model is None:
        if files:
            raise SpectrumError(f"{files[0]}: is a trajectory; name a model for its Born effective charges with --model")
        for name, value in (("--time-step", time_step), ("--velocity-unit", velocity_unit), ("--save-currents", currents_file)):
            if value is not None:
                raise SpectrumError(f"{name}: is for trajectories, with --model")
        return
    if len(files) + sum(Path(run).is_dir() for run in runs) < len(runs):
        raise SpectrumError("--model: a file of currents holds Z* already; name trajectories or run folders")
    if currents_file is not None and len(runs) > 1 and not beads:
        raise SpectrumError("--save-currents: holds one run; name one trajectory")


def _read(
    runs: tuple[str, ...],
    model: str | None,
    time_step: float | None,
    velocity_unit: str | None,
    batch_size: int | None,
    device: str,
    precision: str,
) -> list[Currents]:
    from bec_mace.spectra.currents import Currents

    if model is None:
        return [Currents.read(run) for run in runs]
    from bec_mace.spectra.from_trajectory import currents_from_trajectory, frame_interval

    for run in runs:
        frame_interval(run, time_step)
    network = load(model, device, precision)
    return [
        currents_from_trajectory(
            run, network, time_step, velocity_unit=velocity_unit, batch_size=batch_size, progress=_with_progress
        )
        for run in runs
    ]


def _with_progress(results: Iterable[Any]) -> Iterable[Any]:
    from tqdm import tqdm

    result: Iterable[Any] = tqdm(results, unit="frame", disable=not sys.stderr.isatty())
    return result


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
