"""Options and steps that several commands share."""

from __future__ import annotations

import glob
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bec_mace.errors import DataError, FileError, ModelError
from bec_mace.storage.files import check_output

if TYPE_CHECKING:
    from bec_mace.models import PolarizationModel

Command = TypeVar("Command", bound=Callable[..., Any])


class BatchSize(click.ParamType):  # type: ignore[type-arg]  # no generic type before click 8.4
    """A whole number from 1, or ``auto``, which becomes None."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Read the text of the option."""
        if value == "auto":
            return None
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"{value!r} is neither a whole number from 1 nor 'auto'.", param, ctx)
        return number


device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")


def config_options(example: str) -> Callable[[Command], Command]:
    """Add the argument CONFIG and --set, with an example of what it sets."""

    def add(command: Command) -> Command:
        setting = click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help=f"Set a key of the configuration, such as {example}. Can be given several times.",
        )
        return click.argument("config", type=click.Path(path_type=Path))(setting(command))

    return add


def computing_options(command: Command) -> Command:
    """Add --device, --precision and --batch-size."""
    for option in (
        click.option(
            "--batch-size",
            type=BatchSize(),
            default="auto",
            show_default=True,
            help="Number of structures in a batch; auto: what the memory of the device allows.",
        ),
        click.option("--precision", type=click.Choice(["float32", "float64"]), default="float32", show_default=True),
        device_option,
    ):
        command = option(command)
    return command


def label_options(command: Command) -> Command:
    """Add --key and --index-order."""
    for option in (
        click.option(
            "--index-order",
            type=click.Choice(["polarization_first", "displacement_first"]),
            default="polarization_first",
            show_default=True,
            help="Order of the indices of Z* in the files.",
        ),
        click.option(
            "--key",
            "keys",
            multiple=True,
            metavar="PROPERTY=KEY",
            help="Key of a property in the files, such as born_effective_charges=my_becs.",
        ),
    ):
        command = option(command)
    return command


def parse_keys(keys: tuple[str, ...]) -> dict[str, str]:
    """Read the texts of ``--key``.

    Raises:
        DataError: A text has no ``=``, or nothing on one side of it.
    """
    return _pairs("--key", keys, "PROPERTY=KEY, for example born_effective_charges=my_becs")


units_option = click.option(
    "--units",
    "units",
    multiple=True,
    metavar="PROPERTY=UNIT",
    help="Unit of a property in files that are no raw outputs, such as forces=hartree/bohr or positions=bohr.",
)


def parse_units(units: tuple[str, ...]) -> dict[str, str]:
    """Read the texts of ``--units``.

    Raises:
        DataError: A text has no ``=``, or nothing on one side of it.
    """
    return _pairs("--units", units, "PROPERTY=UNIT, for example forces=hartree/bohr")


def _pairs(option: str, texts: tuple[str, ...], expected: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        if not name or not value:
            raise DataError(f"{option} {text}: expected {expected}")
        pairs[name] = value
    return pairs


def load(name: str, device: str, precision: str) -> PolarizationModel:
    """Load a model onto a device.

    Raises:
        ModelError: There is no such model, or no such device.
    """
    from bec_mace.devices import DTYPES, find_device
    from bec_mace.models import load_model

    return load_model(name, device=find_device(device, ModelError, "--device"), dtype=DTYPES[precision])


TABLES, JSON = (".csv", ".txt", ".dat"), (".json",)
PICTURES = (".png", ".pdf", ".svg", ".eps", ".ps", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
PREDICTIONS, CURRENTS = (".extxyz", ".xyz", ".h5", ".hdf5"), (".h5", ".hdf5")
"""Endings of the names of what commands write."""
STRUCTURES = (".extxyz", ".xyz", ".extxyz.gz", ".xyz.gz")
"""Of files of structures with labels."""


def check_outputs(inputs: Iterable[str | Path], **outputs: tuple[Path | None, Collection[str], str]) -> None:
    """Refuse output files before the work starts.

    Args:
        inputs: Files and globs that are read.
        **outputs: By option: the file, endings of such files, and what is written.

    Raises:
        FileError: One would overwrite something that is no result, cannot be written, or is named twice.
    """
    read = [path for text in inputs for path in (glob.glob(str(text)) or [str(text)])]
    taken: dict[Path, str] = {}
    for option, (path, endings, kind) in outputs.items():
        if path is None:
            continue
        if kind == "a picture" and path.suffix.lower() not in endings:
            raise FileError(f"--{option} {path}: is in no known format of pictures; end it in one of {', '.join(endings)}.")
        check_output(path, read, endings, kind)
        other = taken.setdefault(path.resolve(), option)
        if other != option:
            raise FileError(f"--{other} and --{option} are one file, {path}; name two.")
