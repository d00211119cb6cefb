"""``bec-mace check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bec_mace.cli.options import (
    JSON,
    PICTURES,
    STRUCTURES,
    check_outputs,
    label_options,
    parse_keys,
    parse_units,
    units_option,
)
from bec_mace.errors import DataError, FileError

if TYPE_CHECKING:
    from bec_mace.data.quality.checkup import Checkup

FOUND = 1
"""Exit status where something is wrong with the labels."""
_SENTENCES = 5


@click.command("check")
@click.argument("data", nargs=-1, required=True, metavar="DATA...")
@label_options
@units_option
@click.option(
    "--sum-rule",
    type=float,
    default=0.05,
    show_default=True,
    metavar="E",
    help="Residual of a row over √n that passes.",
)
@click.option(
    "--outlier", type=float, default=10.0, show_default=True, metavar="N", help="Spreads from one charge per element that pass."
)
@click.option("--near", type=float, default=0.01, show_default=True, metavar="A", help="Distance of atoms of near duplicates.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Extended XYZ file for the frames that pass.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all measures and findings to this file.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Draw the measures.")
def check_command(
    data: tuple[str, ...],
    keys: tuple[str, ...],
    index_order: str,
    units: tuple[str, ...],
    sum_rule: float,
    outlier: float,
    near: float,
    output: Path | None,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Look for labels of Z* that are wrong; the exit status is 1 where some are.

    Checked are the acoustic sum rule and, for molecules with a dipole, the rotational one, for each direction of the
    polarization; the symmetry of sites (spglib); atoms far from one charge per element; transposed labels; sizes, signs and
    units; cells that are not periodic; errors of real-space grids; near duplicates.
    """
    if output is not None and not output.name.endswith(STRUCTURES):
        raise FileError(f"-o {output}: extended XYZ is written; end the name in one of {', '.join(STRUCTURES)}.")
    for name, value in (("--sum-rule", sum_rule), ("--outlier", outlier), ("--near", near)):
        if not value > 0:
            raise DataError(f"{name}: must be greater than 0, got {value:g}")
    check_outputs(
        data,
        output=(output, (".extxyz", ".xyz", ".gz"), "extended XYZ"),
        json=(json_file, JSON, "results"),
        plot=(plot_file, PICTURES, "a picture"),
    )

    from bec_mace.cli.console import log_to_stderr
    from bec_mace.data.conversion import read_source, write_frames
    from bec_mace.data.quality.checkup import check_labels
    from bec_mace.data.reading import expand

    log_to_stderr()
    order, names, of_files = index_order, parse_keys(keys), parse_units(units)
    frames = [one for path in expand(list(data)) for one in read_source(path, keys=names, index_order=order, units=of_files)]
    if not any(frame.labels for frame in frames):
        raise DataError(
            f"{', '.join(map(str, data))}: none of {len(frames)} frames has a label that is known, so there is nothing to "
            "check. Name the keys of this file, such as --key born_effective_charges=bec"
        )
    found = check_labels(frames, acoustic=sum_rule, spreads=outlier, close=near)
    click.echo("\n".join(_lines(found)))
    kept = [frame for number, frame in enumerate(frames) if number not in found.wrong]
    if output is not None:
        if not kept:
            raise DataError(f"{output}: not written, no frame passes.")
        write_frames(kept, output)
        click.echo(f"wrote {output}: {len(kept)} of {len(frames)} frames")
    if json_file is not None:
        import json

        from bec_mace.storage.files import replace_text

        replace_text(json_file, json.dumps(found.to_dict(), indent=1, ensure_ascii=False) + "\n")
    if plot_file is not None:
        from bec_mace.data.quality.plots import plot_checkup

        plot_checkup(found, plot_file)
    if found.findings:
        click.get_current_context().exit(FOUND)


def _limit(limit: float | None) -> str:
    return "varies" if limit is None else f"{limit:.4g}"


def _lines(found: Checkup) -> list[str]:
    width = max((len(row.name) for row in found.rows), default=5)
    lines = [f"{'check':<{width}}{'frames':>8}{'wrong':>7}{'typical':>11}{'worst':>11}{'limit':>9}  unit"]
    for row in found.rows:
        numbers = "" if row.typical is None else f"{row.typical:>11.4g}{row.worst:>11.4g}{_limit(row.limit):>9}  {row.unit}"
        lines.append(f"{row.name:<{width}}{row.n_frames:>8}{row.n_found:>7}{numbers}")
    for name in dict.fromkeys(finding.check for finding in found.findings):
        own = [finding.text for finding in found.findings if finding.check == name]
        lines += ["", *own[:_SENTENCES]]
        if len(own) > _SENTENCES:
            lines.append(f"... and {len(own) - _SENTENCES} more of '{name}'; --json has all")
    lines += ["", *found.left_out] if found.left_out else []
    held = len(found.sources)
    return [*lines, "", f"{held - len(found.wrong)} of {held} frames pass"]
