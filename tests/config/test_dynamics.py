import subprocess
import sys

import pytest

from bec_mace.config.dynamics import MDConfig, load_md_config
from bec_mace.config.ensembles import ENSEMBLES
from bec_mace.config.schema import format_config
from bec_mace.errors import ConfigError

GOOD = """\
structure: water.extxyz@3
potential: water
ensemble: {name: langevin, temperature: 330}
time_step: 5e-1
steps: 1e3
"""


@pytest.fixture
def write(tmp_path):
    def _write(text, name="md.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def problems(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_md_config(path, overrides)
    return str(caught.value).replace(f"{path.parent}/", "")


def test_values_and_short_forms(write):
    config = load_md_config(write(GOOD, "small.yaml"))
    assert config.output.as_posix() == "runs/small" and config.steps == 1000 and config.time_step == 0.5
    assert config.potential.model == "water" and config.charges is None and config.electric_field is None
    config = load_md_config(
        write(GOOD), ["ensemble=nve", "electric_field=[0, 1, -0.5]", "potential={mace: a.model}", "charges=water"]
    )
    assert config.ensemble.name == "nve" and config.electric_field.constant == [0.0, 1.0, -0.5]
    assert load_md_config(write(GOOD), ["electric_field=mine:pulse"]).electric_field.function == "mine:pulse"
    pulse = "electric_field={pulse: {amplitude: [0, 0, 1], center_fs: 50, width_fs: 5}}"
    assert load_md_config(write(GOOD), [pulse]).electric_field.pulse.frequency_cm == 0.0


def test_round_trip_of_the_resolved_file(write):
    config = load_md_config(write(GOOD), ["electric_field={sinusoid: {amplitude: [0, 0, 1], frequency_cm: 3400}}"])
    assert load_md_config(write(format_config(config), "resolved.yaml")) == config


def test_all_mistakes_at_once_with_lines(write):
    path = write("""\
structure: water.extxyz
potential: {modle: water}
ensemble: {name: langevn}
time_step: 0
electric_field: {pulse: {amplitude: [0, 1], width_fs: 5, centre_fs: 3}}
sampling: {curents: 4}
sampling: {log: 0}
""")
    ensembles = ", ".join(f"'{name}'" for name in ENSEMBLES)
    assert (
        problems(path)
        == f"""\
9 mistakes in md.yaml:
  md.yaml:1: steps: missing key; Number of steps of the whole run.
  md.yaml:2: potential.modle: unknown key; did you mean 'model'?
  md.yaml:3: ensemble.name: expected one of {ensembles}, got 'langevn'; did you mean 'langevin'?
  md.yaml:4: time_step: must be greater than 0, got 0
  md.yaml:5: electric_field.pulse.amplitude: expected three numbers such as [0, 0, 0.1], got a list of 2
  md.yaml:5: electric_field.pulse.center_fs: missing key; Time of the maximum in fs.
  md.yaml:5: electric_field.pulse.centre_fs: unknown key; did you mean 'center_fs'?
  md.yaml:6: sampling: given twice (again in line 7); keep one of them
  md.yaml:6: sampling.curents: unknown key; did you mean 'currents'?"""
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stpes=5", "unknown key; did you mean 'steps'?"),
        ("temperature=300", "unknown key; did you mean"),
        ("friction=0.1", "unknown key"),
        ("center_fs=1", "unknown key; did you mean 'electric_field.pulse.center_fs'?"),
        ("steps=1.5", "expected a whole number, got 1.5"),
        ("repeat=[2, 2]", "expected three positive whole numbers such as [2, 2, 1], got a list of 2"),
        ("repeat=[2, 0, 1]", "expected three positive whole numbers"),
        ("potential={}", "expected exactly one of model, mace, calculator, got none"),
        ("potential={model: water, mace: a.model}", "expected exactly one of model, mace, calculator, got model and mace"),
        ("potential={model: water, arguments: {a: 1}}", "'arguments' has no effect with model; remove it"),
        ("potential={calculator: ase.LJ}", "expected 'module:name', such as 'my_module:my_name', got 'ase.LJ'"),
        ("ensemble={name: nve, temperature: 300}", "'temperature' has no effect with nve; remove it (initial_temperature"),
        ("ensemble={name: nve, time_constant: 30}", "'time_constant' has no effect with nve"),
        ("ensemble={name: nve, temperature: {from: 100, to: 300}}", "'temperature' has no effect with nve"),
        ("ensemble={name: langevin, temperature: {from: 100, till: 300}}", "expected a number in K, {from: K, to: K} or"),
        ("ensemble={name: langevin, temperature: {from: 100, to: -3}}", "must be greater than 0, got -3"),
        ("ensemble={name: langevin, temperature: 0}", "must be greater than 0, got 0"),
        ("ensemble={name: langevin, temperature: [[0, 100]]}", "expected at least two points [step, K]"),
        ("ensemble={name: langevin, temperature: [[5, 100], [3, 200]]}", "that begin with 0 and grow, got [5, 3]"),
        ("ensemble={name: npt_isotropic, temperature: 300}", "npt_isotropic needs a 'pressure' in GPa; 0.0001 is 1 bar"),
        ("ensemble={name: npt_triclinic, pressure: 1}", "npt_triclinic needs a 'temperature' in K"),
        ("ensemble={name: langevin, temperature: 300, pressure: 1}", "remove it or choose npt_isotropic or npt_triclinic"),
        ("ensemble=nose_hoover", "nose_hoover needs a 'temperature' in K"),
        (
            "electric_field={constant: [0, 0, 1], function: 'a:b'}",
            "expected exactly one of constant, sinusoid, pulse, function, got constant and function",
        ),
        ("electric_field=[0, 0, x]", "expected three numbers such as [0, 0, 0.1], got a list of 3"),
        ("electric_field=pulse", "expected 'module:name'"),
        ("electric_field={sinusoid: 3}", "expected a section of keys and values, got 3"),
        ("device=gpu", "cannot be 'gpu'; auto, cpu, cuda"),
        ("structure=", "expected text, got nothing (null)"),
    ],
)
def test_each_mistake_in_plain_words(write, override, message):
    text = problems(write(GOOD), override)
    assert message in text
    assert text.startswith(f"--set {override}: ")


def test_a_field_needs_charges(write):
    text = problems(write(GOOD + "electric_field: [0, 0, 1]\n"), "potential={mace: a.model}")
    assert text == (
        "md.yaml:6: electric_field: the potential gives no Z*, so nothing feels the field; name a model under charges"
    )
    with pytest.raises(ConfigError, match="electric_field: the potential gives no Z"):
        MDConfig(
            structure="a",
            potential={"calculator": "a:B"},
            ensemble="nve",
            time_step=1.0,
            steps=1,
            electric_field=[0.0, 0.0, 1.0],
        )


def test_frames_that_hold_charges_need_them(write):
    text = problems(write(GOOD), "potential={mace: a.model}", "sampling={born_effective_charges: true, charges: true}")
    assert "born_effective_charges: the potential gives no born_effective_charges; name a model under charges" in text
    assert "charges: the potential gives no charges; name a model under charges" in text


def test_an_empty_file_names_the_keys_of_md(write):
    assert "expected keys such as 'structure:', 'potential:' and 'ensemble:', got an empty file" in problems(write(""))


def test_every_key_is_described():
    def check(model):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            if hasattr(field.annotation, "model_fields"):
                check(field.annotation)

    check(MDConfig)


def test_reading_a_config_imports_neither_torch_nor_ase(write):
    code = (
        f"import sys; from bec_mace.dynamics import load_md_config; load_md_config({str(write(GOOD))!r}); "
        "print(sorted({'torch', 'mace', 'e3nn', 'ase', 'h5py'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_unknown_name_of_the_package():
    import bec_mace.dynamics

    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        getattr(bec_mace.dynamics, "rum")  # noqa: B009
    assert {"run", "load_md_config", "MDConfig", "Summary"} <= set(dir(bec_mace.dynamics))
