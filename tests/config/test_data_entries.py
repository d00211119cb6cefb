"""Entries of ``data.train`` with references and weights of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from bec_mace.config.data_entries import DataEntry, entries_of, reference_names
from bec_mace.config.schema import RunConfig, format_config, load_config
from bec_mace.errors import ConfigError

TEXT = """\
training: {epochs: 2, loss: {weights: {energy: 1, forces: 1}}}
model: {r_max: 4.0, heads: [energy]}
data:
  train:
  - ENTRY
"""


def load(folder: Path, text: str) -> RunConfig:
    path = folder / "c.yaml"
    path.write_text(text)
    config = load_config(path)
    assert isinstance(config, RunConfig)
    return config


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{files: a.xyz, referense: own}", "c.yaml:5: data.train.0.referense: unknown key; did you mean 'reference'?"),
        ("{reference: vasp}\n  - b.xyz", "c.yaml:5: data.train.0.files: missing key"),
        ("b.xyz\n  - {files: a.xyz, weights: {energie: 1}}", "c.yaml:6: .*'energie' is not a known property"),
        ("b.xyz\n  - {files: a.xyz, weights: {energy: -1}}", "c.yaml:6: data.train.1.weights.energy: must be at least 0"),
        ("b.xyz\n  - {files: a.xyz, weights: {dipole: 1}}", "c.yaml:6: .*'dipole' is not among training.loss.weights"),
        ("{files: a.xyz, reference: own}", "c.yaml:5: .*every entry has references of its own"),
        ("b.xyz\n  - {files: a.xyz, reference: ' '}", "c.yaml:6: .*a reference needs a name"),
        ("7", "c.yaml:5: data.train.0: expected text, got 7"),
    ],
)
def test_mistakes_have_their_line(entry: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, TEXT.replace("ENTRY", entry))


def test_a_mapping_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"c.yaml:\d: data.train: .*write entries as a list"):
        load(tmp_path, TEXT.replace("  - ENTRY", "    files: a.xyz"))


def test_references_of_energies_that_are_not_trained(tmp_path: Path) -> None:
    text = TEXT.replace("energy: 1, ", "").replace("ENTRY", "b.xyz\n  - {files: a.xyz, reference: own}")
    with pytest.raises(ConfigError, match="c.yaml:6: .*references of energies do nothing"):
        load(tmp_path, text)


def test_entries_and_their_names(tmp_path: Path) -> None:
    text = "b.xyz\n  - c.xyz\n  - {files: a.xyz, reference: own, weights: {forces: 0.5}}\n  - {files: [d.xyz], reference: q}"
    config = load(tmp_path, TEXT.replace("ENTRY", text))
    entries = entries_of(config.data.train)
    assert [entry.files for entry in entries] == [["b.xyz", "c.xyz"], "a.xyz", ["d.xyz"]]
    assert reference_names(entries) == ["", "own 1", "q"]
    assert entries[1].weights == {"forces": 0.5}
    (tmp_path / "again.yaml").write_text(format_config(config))
    assert load_config(tmp_path / "again.yaml") == config


def test_plain_lists_stay_what_they_were(tmp_path: Path) -> None:
    config = load(tmp_path, TEXT.replace("ENTRY", "b.xyz\n  - c.xyz"))
    assert config.data.train == ["b.xyz", "c.xyz"]
    assert entries_of("a.xyz") == [DataEntry(files=["a.xyz"])]


def test_kernel_models_count_all_labels_alike(tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    entry = "{files: a.xyz, reference: own, weights: {born_effective_charges: 0.5}}"
    path.write_text(f"model: {{kind: kernel, r_max: 4.0, heads: [dipole]}}\ndata:\n  train:\n  - b.xyz\n  - {entry}\n")
    with pytest.raises(ConfigError, match="kernel models have no energies.*\n.*kernel models have no factors of labels"):
        load_config(path)
