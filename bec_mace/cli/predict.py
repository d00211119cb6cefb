"""``bec-mace predict``."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from bec_mace.cli.options import PREDICTIONS, check_outputs, computing_options, load
from bec_mace.properties import DEVIATION, PROPERTIES

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from bec_mace.predict import Summary


@click.command("predict")
@click.argument("model")
@click.argument("structures", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write: HDF5 if it ends in .h5, extended XYZ otherwise.",
)
@click.option("--resume", is_flag=True, help="Go on with an unfinished prediction of the same output.")
@click.option(
    "--uncertainty",
    is_flag=True,
    help="Add the standard deviation of Z*, from a committee or a kernel model; the latter is much slower.",
)
@click.option(
    "--also",
    "extra",
    multiple=True,
    metavar="NAME",
    help="Write this as well, where the model gives it: dipole, polarization, stress, dipoles, quadrupoles, induced_dipoles, "
    "induced_charges, raman_tensors. Can be given several times.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    metavar="N",
    help="Processes that read and find neighbours.  [default: up to 8 for a GPU, 0 for a CPU]",
)
@computing_options
def predict_command(
    model: str,
    structures: tuple[str, ...],
    output: Path,
    resume: bool,
    uncertainty: bool,
    extra: tuple[str, ...],
    workers: int | None,
    device: str,
    precision: str,
    batch_size: int | None,
) -> None:
    """Predict Born effective charges of STRUCTURES with MODEL.

    MODEL is a file, a run folder, or the name of a model of the package. STRUCTURES is one or more files or globs;
    any format that ASE reads. The output keeps their order. Any number of structures of any size: they are read and
    written one after another, and what does not fit into the memory is computed in blocks.

    \b
    predicted_becs     (n, 9)  Z*[polarization, displacement], row-major, in e
    predicted_becs_std (n, 9)  its standard deviation in e, with --uncertainty
    predicted_charges  (n,)    in e, from monopole and charge_transfer heads
    predicted_energy   eV      and predicted_forces (n, 3) in eV/Å, from an energy head
    predicted_polarizability   (9,)  in Å^3, and predicted_dielectric_tensor (9,) at clamped nuclei, of crystals,
                               from a polarizability head

    An HDF5 file has them as flat arrays, under the names of the properties.
    """  # noqa: D301 - click wants the control character
    check_outputs((model, *structures), output=(output, PREDICTIONS, "predictions"))

    from bec_mace.cli.console import log_to_stderr
    from bec_mace.data.reading import expand
    from bec_mace.predict import predict_files

    log_to_stderr()
    expand(list(structures))  # before the model is loaded
    processes = start_processes(device, precision)
    first = processes is None or processes.global_rank == 0
    network = load(model, device if processes is None else str(processes.device), precision)
    names = [name for name, row in PROPERTIES.items() if name in network.provides and row.written_unasked]
    names += [DEVIATION] * uncertainty + [name for name in dict.fromkeys(extra) if name not in names]
    with stopping_on_termination(), progress_bar(first) as advance:
        summary = predict_files(
            network,
            list(structures),
            output,
            names,
            name=model,
            batch_size=batch_size,
            workers=workers,
            resume=resume,
            processes=processes,
            progress=advance,
        )
    if first:
        written = names if output.suffix in (".h5", ".hdf5") else [PROPERTIES[name].predicted_key for name in names]
        click.echo(f"{describe(summary)}\n{', '.join(written)} in {output}")


@contextmanager
def stopping_on_termination() -> Iterator[None]:
    """Take SIGTERM, which launchers and batch systems send before they kill, for Ctrl-C: what is computed gets written."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def start_processes(device: str, precision: str) -> Fabric | None:
    """The processes that torchrun or SLURM has started; None where this one is alone.

    Raises:
        ModelError: There is no such device.
    """
    if not {"WORLD_SIZE", "SLURM_PROCID"} & set(os.environ):
        return None

    from bec_mace.devices import launch, process_grid
    from bec_mace.errors import ModelError

    per_node, nodes = process_grid()
    return launch(ModelError, device, precision) if per_node * nodes > 1 else None


def describe(summary: Summary) -> str:
    """One line about what was done and how fast."""
    resumed = f", {summary.resumed} of them before" if summary.resumed else ""
    return (
        f"{summary.n_frames} structures{resumed}, {summary.n_atoms} atoms; {summary.atoms_per_second:.0f} atoms/s, "
        f"{summary.model_share:.0%} of the time in the model"
    )


@contextmanager
def progress_bar(first: bool = True) -> Iterator[Callable[[int, int], Any]]:
    """Show structures and atoms per second on a terminal; yields what to call with the numbers of each unit."""
    from tqdm import tqdm

    start, total = time.monotonic(), 0
    with tqdm(unit=" structures", disable=not (first and sys.stderr.isatty())) as bar:

        def advance(n_frames: int, n_atoms: int) -> None:
            nonlocal total
            total += n_atoms
            bar.set_postfix_str(f"{total / max(time.monotonic() - start, 1e-9):.0f} atoms/s", refresh=False)
            bar.update(n_frames)

        yield advance
