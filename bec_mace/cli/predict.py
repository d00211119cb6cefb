"""``bec-mace predict``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bec_mace.cli.options import check_writable, computing_options, load
from bec_mace.errors import DataError
from bec_mace.files import replace_file

if TYPE_CHECKING:
    from ase import Atoms

    from bec_mace.data import Frame

DEVIATION = "born_effective_charges_std"
COLUMNS = {
    "born_effective_charges": "predicted_becs",
    DEVIATION: "predicted_becs_std",
    "charges": "predicted_charges",
    "energy": "predicted_energy",
    "forces": "predicted_forces",
}
"""Properties that are written, and their keys. No key is one that ASE moves into a calculator on reading."""


@click.command("predict")
@click.argument("model")
@click.argument("structures", nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Extended XYZ file to write.")
@click.option("--uncertainty", is_flag=True, help="Add the standard deviation of Z*, from a kernel model; much slower.")
@computing_options
def predict_command(model: str, structures: tuple[str, ...], output: Path, uncertainty: bool, device: str, precision: str,
                    batch_size: int | None) -> None:
    """Predict Born effective charges of STRUCTURES with MODEL.

    MODEL is a file, a run folder, or the name of a model of the package. STRUCTURES is one or more files or globs;
    any format that ASE reads. The output keeps their order.

    \b
    predicted_becs     (n, 9)  Z*[polarization, displacement], row-major, in e
    predicted_becs_std (n, 9)  its standard deviation in e, with --uncertainty
    predicted_charges  (n,)    in e, from monopole and charge_transfer heads
    predicted_energy   eV      and predicted_forces (n, 3) in eV/Å, from an energy head
    """  # noqa: D301 - click wants the control character
    check_writable(output)

    from bec_mace.cli.messages import log_to_stderr
    from bec_mace.data import read_frames
    from bec_mace.data.reading import expand
    from bec_mace.inference import predict

    log_to_stderr()
    if output.resolve() in {path.resolve() for path in expand(list(structures))}:
        raise DataError(f"{output}: is one of the structures to read; choose another output file")
    frames = read_frames(list(structures), properties=())
    network = load(model, device, precision)
    names = [name for name in COLUMNS if name in network.provides and name != DEVIATION] + [DEVIATION] * uncertainty
    results = predict(network, frames, names, batch_size)
    write_predictions(output, frames, _with_progress(results, len(frames)))
    click.echo(f"{len(frames)} structures with {', '.join(COLUMNS[name] for name in names)} in {output}")


def write_predictions(output: Path, frames: Iterable[Frame], results: Iterable[Mapping[str, Any]]) -> None:
    """Write structures and predictions as extended XYZ, complete or not at all.

    Args:
        output: The file. It is written under another name and renamed at the end.
        frames: The structures.
        results: Predictions in the same order, arrays by property name.
    """
    from ase.io import write

    def write_all(temporary: Path) -> None:
        for frame, result in zip(frames, results, strict=True):
            write(temporary, annotate(frame, result), format="extxyz", append=True)

    replace_file(output, write_all)


def annotate(frame: Frame, result: Mapping[str, Any]) -> Atoms:
    """Return the structure of a frame with predictions under the keys of ``COLUMNS``, tensors as 9 columns."""
    atoms = frame.to_atoms()
    for name, value in result.items():
        if name == "energy":
            atoms.info[COLUMNS[name]] = float(value)
        else:
            atoms.set_array(COLUMNS[name], value.reshape(len(atoms), -1) if value.ndim > 1 else value)
    return atoms


def _with_progress(results: Iterable[Mapping[str, Any]], total: int) -> Iterable[Mapping[str, Any]]:
    from tqdm import tqdm

    return tqdm(results, total=total, unit="structure", disable=not sys.stderr.isatty())
