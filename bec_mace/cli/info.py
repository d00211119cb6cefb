"""``bec-mace info``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from bec_mace.cli.options import label_options, parse_keys


@click.command("info")
@click.argument("target", metavar="MODEL_OR_DATA_OR_CONFIG")
@label_options
def info_command(target: str, keys: tuple[str, ...], index_order: str) -> None:
    """Describe a model, check a configuration, or report what is in a file of structures.

    A name ending in .yaml is a configuration: it is checked and printed with all defaults. A run folder, a
    .safetensors or .json file and the name of a model of the package are models, .h5 a file of predictions. All else is
    data.
    """
    labels = parse_keys(keys)
    if Path(target).suffix in (".yaml", ".yml"):
        click.echo(_checked_config(target), nl=False)
    elif _is_model(target):
        from bec_mace.models import load_model

        click.echo("\n".join(describe_model(load_model(target).metadata)))
    elif Path(target).suffix in (".h5", ".hdf5"):
        click.echo("\n".join(describe_predictions(target)))
    else:
        from bec_mace.data import read_frames, summarize

        click.echo(summarize(read_frames(target, keys=labels, index_order=index_order)).text())


def describe_predictions(target: str) -> Iterator[str]:
    """Yield what is in a file of predictions, line by line."""
    from collections import Counter

    import numpy as np
    from ase.data import chemical_symbols

    from bec_mace.predict import read_predictions
    from bec_mace.properties import PROPERTIES

    frames, atoms, held, sums = 0, 0, Counter[str](), Counter[int]()
    traces: dict[int, float] = {}
    for frame, arrays in read_predictions(target):
        frames, atoms = frames + 1, atoms + len(frame)
        held.update(list(arrays))
        for number in np.unique(frame.atomic_numbers):
            chosen = frame.atomic_numbers == number
            sums[int(number)] += int(chosen.sum())
            if "born_effective_charges" in arrays:
                trace = np.trace(arrays["born_effective_charges"][chosen], axis1=1, axis2=2).sum() / 3
                traces[int(number)] = traces.get(int(number), 0.0) + float(trace)
    yield f"predictions of {frames} structures, {atoms} atoms"
    yield "elements: " + ", ".join(f"{chemical_symbols[z]} {count}" for z, count in sorted(sums.items()))
    yield "holds: " + ", ".join(f"{name} ({PROPERTIES[name].unit})" if name in PROPERTIES else name for name in held)
    if traces:
        means = ", ".join(f"{chemical_symbols[z]} {total / sums[z]:+.3f}" for z, total in sorted(traces.items()))
        yield f"mean of tr Z*/3: {means} e"


def _checked_config(path: str) -> str:
    """A configuration of training, of dynamics where it names an ensemble, of phonons where a supercell, with all defaults."""
    from bec_mace.config.document import read_document
    from bec_mace.config.phonons import load_phonon_config
    from bec_mace.config.schema import format_config, load_config
    from bec_mace.dynamics import load_md_config

    keys = read_document(path).values
    load = load_md_config if "ensemble" in keys else load_phonon_config if "supercell" in keys else load_config
    return format_config(load(path))


def _is_model(target: str) -> bool:
    path = Path(target)
    if path.is_dir() or path.suffix == ".safetensors" or path.with_name(f"{path.name}.safetensors").is_file():
        return True
    if path.suffix == ".json":  # ASE has a format of that name too
        return path.with_suffix(".safetensors").is_file()
    # One bare word that is no file: a model of the package, or a name that load_model explains.
    return not (path.exists() or path.suffix or len(path.parts) > 1 or any(letter in target for letter in "*?["))


def describe_model(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is known of a model, line by line.

    Args:
        metadata: What was stored beside the weights.
    """
    from bec_mace.models.familiarity import FEW, rare_elements

    config = metadata["config"]
    networks = config.get("members", [config])
    heads = dict.fromkeys(head if isinstance(head, str) else next(iter(head)) for one in networks for head in one["heads"])
    yield f"elements: {', '.join(metadata['elements'])}"
    yield f"heads: {', '.join(heads)}"
    if config.get("kind") == "kernel":
        yield (
            f"kernel: power {config['zeta']}, {config['num_representatives']} representatives, up to l = {config['max_l']}, "
            f"r_max {config['r_max']:g} Å"
        )
    else:
        for one in networks:
            yield f"network: {one['num_interactions']} layers, {one['channels']} channels, r_max {one['r_max']:g} Å"
    yield f"parameters: {metadata['number_of_parameters']}"
    for one in networks:
        if one.get("electrostatics"):
            yield from _describe_electrostatics(one["electrostatics"])
    if "static_charges" in metadata:
        from bec_mace.evaluate.charge_report import charge_lines

        yield from charge_lines(metadata["static_charges"])
    rare = rare_elements(metadata)
    if rare:
        held = ", ".join(f"{name} {n}" for name, n in rare.items())
        yield f"in fewer than {FEW} training structures, so that charges may be far off: {held}"
    units = dict(metadata["units"])
    yield f"index order: {units.pop('index_order', 'polarization_first')}"
    yield "units: " + ", ".join(f"{name} {unit}" for name, unit in units.items())
    if "description" in metadata:
        yield f"description: {metadata['description']}"
    training = metadata.get("training_config")
    if training:
        from bec_mace.config.data_entries import DataEntry, entries_of

        train = training["data"]["train"]
        items = [train] if isinstance(train, str) else train
        named = [entry.files for entry in entries_of([one if isinstance(one, str) else DataEntry(**one) for one in items])]
        yield f"trained on: {', '.join(files if isinstance(files, str) else ', '.join(files) for files in named)}"
        own = metadata["statistics"].get("own_reference_energies", {})
        if own:
            yield f"energy references beside those it predicts with: {', '.join(own)}"
    if "data_fingerprint" in metadata:
        yield f"fingerprint of the training data: {metadata['data_fingerprint'][:16]}"
    for name, value in metadata.get("metrics", {}).items():
        yield f"{name.replace('_', ' ')}: {value:.6g}" if isinstance(value, float) else f"{name}: {value}"
    yield f"written by bec_mace {metadata['package_version']}, format {metadata['format_version']}"


def _describe_electrostatics(section: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Coulomb's law: {', '.join(section['sources'])}, screening {section['screening']}, smearing {section['smearing']:g} Å"
    )
    response = section.get("response")
    if response:
        parts = {
            "dipoles": response["dipoles"],
            "charges along" if response["charges"] == "edges" else "charges of": response["charges"],
        }
        yield f"what yields to it: {', '.join(f'{name} {kind}' for name, kind in parts.items() if kind != 'none')}"
