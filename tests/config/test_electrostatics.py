"""Mistakes in the section ``model.electrostatics``, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bec_mace.config.schema import load_config
from bec_mace.errors import ConfigError

TEXT = """\
data: {train: a.xyz}
training: {epochs: 2}
model:
  r_max: 4.0
  heads: [HEADS]
  electrostatics: {SECTION}
"""


def load(folder: Path, heads: str, section: str) -> object:
    path = folder / "c.yaml"
    path.write_text(TEXT.replace("HEADS", heads).replace("SECTION", section))
    return load_config(path)


@pytest.mark.parametrize(
    ("heads", "section", "message"),
    [
        ("energy, monopole", "sources: [monopol]", "c.yaml:6: .*got 'monopol'; did you mean 'monopole'"),
        ("energy, dipole", "sources: [dipole]", "multipoles act beside charges; add monopole or charge_transfer"),
        (
            "energy, monopole",
            "sources: [polarizability]",
            "what acts comes from monopole or charge_transfer or",
        ),
        ("energy, monopole, quadrupole", "sources: [monopole]", "quadrupole is not among model.electrostatics.sources"),
        ("energy, monopole", "sources: [monopole, quadrupole]", "'quadrupole' is not among model.heads"),
        ("energy, monopole", "sources: [monopole], response: {}", "nothing yields; give dipoles: isotropic or anisotropic"),
        ("energy, monopole", "sources: [monopole], response: {dipoles: isotropc}", "did you mean 'isotropic'"),
        ("energy, monopole", "sources: []", "c.yaml:6: .*sources"),
        ("energy, monopole", "sources: [monopole, monopole]", "stands twice among the sources"),
        ("energy, monopole", "sources: [charge_transfer]", "'charge_transfer' is not among model.heads"),
        ("monopole", "sources: [monopole]", "c.yaml:5: model.heads: .*add the head energy"),
        ("energy, monopole", "sources: [monopole], screening: fixed", "fixed needs epsilon_infinity"),
        ("energy, monopole", "sources: [monopole], screening: independent", "independent takes sources: .static_charges."),
        ("energy, dipole, static_charges", "sources: [static_charges], screening: local", "no polarization to screen"),
        ("energy, monopole, static_charges", "sources: [monopole]", "static_charges is not among model.electrostatics.sources"),
        ("energy, monopole", "sources: [monopole], screening: locl", "did you mean 'local'"),
        ("energy, monopole", "sources: [monopole], smearing: 0", "smearing: must be greater than 0.1"),
        ("energy, monopole", "sources: [monopole], charge_sign: {Ox: -1}", "'Ox' is not the symbol of an element"),
        ("energy, monopole", "sources: [monopole], charge_sign: {O: -2}", "the sign of O must be 1 or -1, got -2"),
    ],
)
def test_mistakes(heads: str, section: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, heads, section)


def test_a_head_that_does_nothing_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(TEXT.replace("HEADS", "dipole, static_charges").replace("  electrostatics: {SECTION}\n", ""))
    with pytest.raises(ConfigError, match="c.yaml:5: model.heads: static_charges do nothing of themselves; add"):
        load_config(path)
    path.write_text(path.read_text().replace("static_charges", "quadrupole"))
    with pytest.raises(ConfigError, match="quadrupole does nothing of itself; add model.electrostatics"):
        load_config(path)


@pytest.mark.parametrize(
    ("heads", "section"),
    [
        ("energy, monopole", "sources: [monopole]"),
        ("energy, charge_transfer, dipole", "sources: [charge_transfer], screening: global, epsilon_infinity: 2.4"),
        ("energy, dipole, static_charges", "sources: [static_charges], screening: independent, method: mesh"),
        ("energy, monopole", "sources: [monopole], screening: fixed, epsilon_infinity: 1.78, charge_sign: {O: -1}"),
        ("energy, monopole, dipole, quadrupole", "sources: [monopole, dipole, quadrupole], response: {dipoles: anisotropic}"),
        ("energy, monopole", "sources: [monopole], response: {charges: atoms}"),
        ("energy, dipole, static_charges, quadrupole", "sources: [static_charges, quadrupole], screening: independent"),
    ],
)
def test_what_is_right(heads: str, section: str, tmp_path: Path) -> None:
    section_read = load(tmp_path, heads, section).model.electrostatics
    expected = section_read.epsilon_infinity
    assert section_read.first_screening == pytest.approx(1.3 if expected is None else expected**0.5)


def test_something_must_tell_the_sign_of_the_charges(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    section = "sources: [monopole], screening: fixed, epsilon_infinity: 1.78"
    text = TEXT.replace("HEADS", "energy, monopole").replace("epochs: 2", "epochs: 2, loss: {weights: {energy: 1, forces: 1}}")
    path.write_text(text.replace("SECTION", section))
    with pytest.raises(ConfigError, match="c.yaml:6: .*tells the sign of the charges; give charge_sign"):
        load_config(path)
    for trained in ("dipole: 1", "born_effective_charges: 1"):
        path.write_text(text.replace("SECTION", section).replace("forces: 1", trained))
        load_config(path)
    path.write_text(text.replace("SECTION", f"{section}, charge_sign: {{O: -1}}"))
    load_config(path)


@pytest.mark.parametrize(
    ("screening", "charges", "gives"), [("global", "edges", True), ("local", "edges", False), ("global", "atoms", False)]
)
def test_polarizabilities_of_a_response_can_be_trained(screening, charges, gives, tmp_path) -> None:
    path = tmp_path / "c.yaml"
    section = f"sources: [monopole], screening: {screening}, response: {{dipoles: isotropic, charges: {charges}}}"
    text = TEXT.replace("HEADS", "energy, monopole").replace("SECTION", section)
    weights = "{epochs: 2, loss: {weights: {born_effective_charges: 1.0, polarizability: 1.0}}}"
    path.write_text(text.replace("{epochs: 2}", weights))
    if gives:
        assert load_config(path).model.electrostatics.has_enthalpy
    else:
        with pytest.raises(ConfigError, match="no head of this model gives 'polarizability'"):
            load_config(path)
