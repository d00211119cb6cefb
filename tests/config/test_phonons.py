"""The configuration of phonons: all mistakes at once, each with its line, before anything slow is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from bec_mace.config.phonons import PhononConfig, load_phonon_config
from bec_mace.config.schema import save_config
from bec_mace.errors import ConfigError

LEAST = "structure: POSCAR\nsupercell: [2, 2, 2]\npotential: my_model\n"


def write(tmp_path, text):
    path = tmp_path / "phonons.yaml"
    path.write_text(text)
    return path


def test_the_least_configuration_and_its_copy(tmp_path):
    config = load_phonon_config(write(tmp_path, LEAST))
    assert config.potential.model == "my_model" and config.charges is None and config.output == Path("runs/phonons")
    assert config.bands.points == 200 and config.spectrum.damping == 10 and config.precision == "float64"
    save_config(config, tmp_path / "copy.yaml")
    assert load_phonon_config(tmp_path / "copy.yaml") == config
    short = load_phonon_config(write(tmp_path, LEAST + "charges: crystals\nbands: GXL\n"), ["spectrum.damping=5e0"])
    assert short.charges.model == "crystals" and short.bands.path == "GXL" and short.spectrum.damping == 5


def test_all_mistakes_at_once(tmp_path):
    text = (
        "structure: POSCAR\nsupercell: [2, 2]\npotential: {force_sets: F, model: m}\n"
        "charges: {born: BORN, epsilon_infinity: 2}\n"
        "directions: [[0, 0, 0]]\nspectrum:\n  dampin: 3\nrelaxed: cell\n"
    )
    with pytest.raises(ConfigError) as error:
        load_phonon_config(write(tmp_path, text))
    lines = str(error.value).splitlines()
    assert "6 mistakes" in lines[0]
    for line, words in (
        (2, "supercell: expected three positive whole numbers"),
        (
            3,
            "potential: expected exactly one of model, mace, calculator, force_sets, force_constants, got model and force_sets",
        ),
        (4, "charges: 'epsilon_infinity' has no effect with born"),
        (5, "directions: a direction must not be zero"),
        (7, "spectrum.dampin: unknown key; did you mean 'damping'?"),
        (8, "relaxed: unknown key; did you mean 'relax'?"),
    ):
        assert any(f"phonons.yaml:{line}: {words}" in text for text in lines), (line, words, lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("relax: cell\n", "relax: force_sets belongs to one structure"),
        ("displacement: 0.02\n", "displacement: has no effect with force_sets; remove it"),
        ("charges: {}\n", "charges: expected exactly one of model, born, got none"),
        ("charges: {model: m, epsilon_infinity: 0.5}\n", "expected a number from 1, or three rows of three numbers"),
        ("charges: {model: m, epsilon_infinity: [[2, 0, 0], [0, 2, 0], [0, 0, a]]}\n", "expected three numbers"),
        ("spectrum: {damping: 0}\n", "spectrum.damping: must be greater than 0"),
        ("bands: {points: 1}\n", "bands.points: must be at least 2"),
        ("primitive: F\n", "primitive: expected one of 'auto', 'none'"),
    ],
)
def test_mistakes(tmp_path, text, words):
    config = write(
        tmp_path, "structure: POSCAR\nsupercell: [[0, 1, 1], [1, 0, 1], [1, 1, 0]]\npotential: {force_sets: F}\n" + text
    )
    with pytest.raises(ConfigError) as error:
        load_phonon_config(config)
    assert words in str(error.value)


def test_arguments_are_for_calculators(tmp_path):
    with pytest.raises(ConfigError, match="'arguments' has no effect with model"):
        load_phonon_config(write(tmp_path, LEAST.replace("my_model", "{model: m, arguments: {a: 1}}")))
    with pytest.raises(ConfigError, match="relax"):
        PhononConfig.model_validate(
            {"structure": "a", "supercell": [1, 1, 1], "potential": {"force_constants": "F"}, "relax": "cell"}
        )


def test_a_mistake_costs_no_torch_and_no_phonopy(tmp_path):
    path = write(tmp_path, "structur: a\n")
    code = (
        "import sys\nfrom bec_mace.cli.main import main\n"
        f"try:\n    main(['phonons', {str(path)!r}])\nexcept SystemExit as end:\n    print(end.code)\n"
        "print(sorted({'torch', 'mace', 'ase', 'phonopy', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert result.stdout.splitlines() == ["2", "[]"]
    assert "structur: unknown key; did you mean 'structure'?" in result.stderr
