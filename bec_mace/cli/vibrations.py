"""``bec-mace vibrations``."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bec_mace.cli.options import JSON, PICTURES, TABLES, check_outputs, device_option, load
from bec_mace.errors import PhononError

if TYPE_CHECKING:
    from bec_mace.phonons.molecules import Vibrations


@click.command("vibrations")
@click.argument("structure")
@click.option("--model", required=True, metavar="MODEL", help="Model for Z*, and for forces unless --potential is given.")
@click.option("--potential", metavar="MODEL", help="Another model, for forces.")
@click.option("--relax", is_flag=True, help="Relax the molecule with the potential first.")
@click.option("--max-force", type=float, default=1e-3, show_default=True, metavar="EV/A", help="Where relaxation ends.")
@click.option(
    "--displacement", type=float, default=0.01, show_default=True, metavar="A", help="Of atoms, for second derivatives."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="CSV file of lines to write.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write lines, displacements and settings to this file."
)
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Draw the spectrum.")
@click.option("--width", type=float, default=20.0, show_default=True, metavar="CM-1", help="Of lines in the picture.")
@device_option
@click.option("--precision", type=click.Choice(["float32", "float64"]), default="float64", show_default=True)
def vibrations_command(
    structure: str,
    model: str,
    potential: str | None,
    relax: bool,
    max_force: float,
    displacement: float,
    output: Path | None,
    json_file: Path | None,
    plot_file: Path | None,
    width: float,
    device: str,
    precision: str,
) -> None:
    """Harmonic frequencies and infrared intensities of the molecule in STRUCTURE; Raman too, with polarizabilities.

    STRUCTURE is FILE (its last structure) or FILE@INDEX in any format that ASE reads. Second derivatives are differences of
    forces; intensities come from Z* of the molecule at rest.
    """
    check_outputs(
        [structure, model],
        output=(output, TABLES, "a table"),
        json=(json_file, JSON, "results"),
        plot=(plot_file, PICTURES, "a picture"),
    )
    for name, value in (("--displacement", displacement), ("--max-force", max_force), ("--width", width)):
        if not value > 0:
            raise PhononError(f"{name}: must be greater than 0, got {value:g}")

    from bec_mace.cli.console import log_to_stderr, with_progress
    from bec_mace.dynamics.structure import read_structure
    from bec_mace.integrations.ase import BECCalculator
    from bec_mace.phonons.molecules import relax_molecule, to_dict, vibrations, write_csv

    log_to_stderr()
    atoms = read_structure(structure)
    network = load(model, device, precision)
    options: dict[str, Any] = {"device": network.reference_charges.device, "dtype": precision}
    base = None if potential is None else BECCalculator(load(potential, device, precision), **options)
    calculator = BECCalculator(network, base=base, **options)
    if relax:
        atoms = relax_molecule(atoms, calculator, max_force)
    found = vibrations(atoms, calculator, displacement, partial(with_progress, unit="structure"))
    for line in _table(found):
        click.echo(line)
    if output is not None:
        write_csv(found, output)
    if json_file is not None:
        settings = {"structure": structure, "model": model, "potential": potential or model, "displacement_Å": displacement}
        content = {"meta": {**settings, "relaxed": relax}, **to_dict(found)}
        _write_json(content, json_file)
    if plot_file is not None:
        from bec_mace.phonons.plots import plot_lines

        plot_lines(found, plot_file, width)


def _table(found: Vibrations) -> list[str]:
    raman = found.raman
    lines = [f"{'mode':>5}{'cm^-1':>11}{'km/mol':>12}{'D^2/(Å^2 u)':>14}" + (f"{'Å^4/u':>12}{'depol.':>8}" if raman else "")]
    for number, line in enumerate(found.wavenumbers):
        shown = f"{-line:.1f}i" if line < 0 else f"{line:.1f} "
        lines.append(
            f"{number + 1:>5}{shown:>11}{found.intensities_km_mol[number]:>12.2f}{found.intensities_debye[number]:>14.4f}"
            + (f"{raman[0][number]:>12.3f}{raman[1][number]:>8.3f}" if raman else "")
        )
    dipole = "" if found.dipole_debye is None else f"dipole {found.dipole_debye:.3f} D, "
    lines.append(f"{dipole}zero-point energy {found.zero_point_energy:.4f} eV, largest force {found.largest_force:.2g} eV/Å")
    return lines


def _write_json(content: dict[str, Any], path: Path) -> None:
    from bec_mace.storage.files import replace_text

    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    replace_text(path, text)
