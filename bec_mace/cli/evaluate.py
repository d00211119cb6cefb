"""``bec-mace evaluate``."""

from __future__ import annotations

from pathlib import Path

import click

from bec_mace.cli.options import JSON, PICTURES, check_outputs, computing_options, label_options, load, parse_keys


@click.command("evaluate")
@click.argument("model")
@click.argument("data", nargs=-1, required=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the numbers to this file.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Draw prediction against reference.")
@click.option(
    "--uncertainty",
    is_flag=True,
    help="Also judge the standard deviations of a committee, or of a kernel model; these are much slower.",
)
@click.option(
    "--reference",
    default="",
    metavar="NAME",
    help="Count energies from these references of the model: a name in data.train of its training.",
)
@label_options
@computing_options
def evaluate_command(
    model: str,
    data: tuple[str, ...],
    json_file: Path | None,
    plot_file: Path | None,
    uncertainty: bool,
    reference: str,
    keys: tuple[str, ...],
    index_order: str,
    device: str,
    precision: str,
    batch_size: int | None,
) -> None:
    """Compare the predictions of MODEL with the labels in DATA.

    MODEL is a file, a run folder, or the name of a model of the package. DATA is one or more files or globs; any
    format that ASE reads. Judged is what DATA holds and MODEL gives: Born effective charges, energies, forces, stress,
    dipoles, polarizations, polarizabilities, dielectric tensors; any one of them is enough.
    """
    check_outputs((model, *data), json=(json_file, JSON, "results"), plot=(plot_file, PICTURES, "a picture"))
    labels = parse_keys(keys)

    import json
    from dataclasses import replace

    from bec_mace.cli.console import log_to_stderr
    from bec_mace.data import read_frames
    from bec_mace.evaluate.comparison import check_labelled, compare, format_table, not_judged, summarize_comparison
    from bec_mace.models.own_energies import number_of_reference
    from bec_mace.storage.files import replace_text

    log_to_stderr()
    frames = read_frames(list(data), keys=labels, index_order=index_order)
    check_labelled(frames)
    judged = load(model, device, precision)
    check_labelled(frames, judged.provides)
    if number_of_reference(judged, reference):
        frames = [replace(frame, reference=reference) for frame in frames]
    comparison = compare(judged, frames, batch_size, uncertainty=uncertainty)
    result = summarize_comparison(comparison)
    click.echo(format_table(result))
    for line in not_judged(frames, judged.provides):
        click.echo(f"not judged: {line}")
    if json_file is not None:
        text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
        replace_text(json_file, text)
    if plot_file is not None:
        from bec_mace.evaluate.plots import plot_parity

        plot_parity(comparison, plot_file)
