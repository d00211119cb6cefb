"""`bec-mace phonons` and `bec-mace vibrations` as a user calls them."""

import json

import numpy as np
import pytest
from ase.build import molecule

from bec_mace.models import save_model
from bec_mace.testing.small_models import make_model
from tests.phonons.springs_of_crystals import LENGTH, rock_salt


@pytest.fixture
def salt(files):
    return files / "phonopy" / "NaCl"


def config_of(salt, tmp_path, more=""):
    path = tmp_path / "salt.yaml"
    path.write_text(
        f"structure: {salt / 'POSCAR-unitcell'}\nsupercell: [2, 2, 2]\npotential: {{force_sets: {salt / 'FORCE_SETS'}}}\n"
        f"charges: {{born: {salt / 'BORN'}}}\nbands: {{path: GX, points: 8}}\ndirections: [[1, 1, 0]]\n{more}"
    )
    return path


def test_phonons_of_rock_salt(run, salt, tmp_path):
    pytest.importorskip("phonopy")
    config = config_of(salt, tmp_path)
    result = run("phonons", config)
    assert result.exit_code == 0, result.stderr
    assert "TO - LO (THz) along [0.7071, 0.7071, 0]: 4.617 - 7.396" in result.stdout and "T1u" in result.stdout
    folder = tmp_path / "runs" / "salt"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("config.yaml", "phonons.log", "phonons.json", "modes.csv", "longitudinal.csv", "spectrum.csv", "spectrum.png"),
        *("bands.csv", "bands.png", "BORN", "phonopy_params.yaml"),
    }
    content = json.loads((folder / "phonons.json").read_text())
    assert content["longitudinal"][0]["transverse_longitudinal_THz"][0] == pytest.approx([4.6165, 7.3964], abs=1e-3)
    assert np.diag(content["epsilon_static"]) == pytest.approx([6.2513] * 3, abs=1e-3)
    spectrum = np.genfromtxt(folder / "spectrum.csv", delimiter=",", skip_header=1)
    assert spectrum[0, 5] == pytest.approx((np.sqrt(6.2513) - 1) ** 2 / (np.sqrt(6.2513) + 1) ** 2, abs=1e-4)
    bands = np.genfromtxt(folder / "bands.csv", delimiter=",", skip_header=1)
    assert bands.shape == (8, 11) and bands[0, -1] == pytest.approx(7.3964, abs=1e-3)
    again = run("phonons", config)
    assert again.exit_code == 2 and "holds a run already (phonons.json); choose another `output`" in again.stderr


def test_what_was_saved_is_read_by_phonopy(run, salt, tmp_path):
    phonopy = pytest.importorskip("phonopy")
    assert run("phonons", config_of(salt, tmp_path, "output: out\n"), "--set", "bands=null").exit_code == 0
    phonon = phonopy.load(tmp_path / "out" / "phonopy_params.yaml", log_level=0)
    phonon.run_qpoints([[0, 0, 0]], nac_q_direction=[1, 0, 0])
    assert phonon.qpoints.frequencies[0][5] == pytest.approx(7.3964, abs=1e-3)
    assert not (tmp_path / "out" / "bands.csv").exists()


def test_a_calculator_relaxes_and_a_model_gives_charges(run, tmp_path):
    pytest.importorskip("phonopy")
    rock_salt(1.02 * LENGTH, symbols=("C", "O")).write(tmp_path / "cell.extxyz")
    save_model(make_model(("dipole", "monopole", "polarizability"), r_max=3.0), tmp_path / "model")
    (tmp_path / "springs.yaml").write_text(
        "structure: cell.extxyz\nsupercell: [1, 1, 1]\nbands: null\nrelax: cell\ndevice: cpu\n"
        "potential: {calculator: 'tests.phonons.springs_of_crystals:CrystalSprings'}\ncharges: model\n"
    )
    result = run("phonons", "springs.yaml")
    assert result.exit_code == 0, result.stderr
    content = json.loads((tmp_path / "runs" / "springs" / "phonons.json").read_text())
    assert np.abs(content["primitive_cell_Å"]).max() == pytest.approx(LENGTH, abs=1e-3)
    assert content["meta"]["largest_force_eV/Å"] < 1e-3 and content["meta"]["displaced_supercells"] == 2
    charges = np.array(content["born_effective_charges_e"])
    assert np.abs(charges.sum(axis=0)).max() < 1e-8
    assert np.abs(charges[0] - charges[0, 0, 0] * np.eye(3)).max() < 1e-8
    assert (tmp_path / "runs" / "springs" / "relaxed.extxyz").is_file()
    again = run("phonons", "springs.yaml", "--set", "raman=true", "--set", "output=scattering")
    assert again.exit_code == 0 and "Raman lines in cm^-1 (activity of a primitive cell in Å^4/u): none" in again.stdout
    header, *rows = (line.split(",") for line in (tmp_path / "scattering" / "modes.csv").read_text().splitlines())
    assert [float(row[header.index("raman_activity_Å4/u")]) for row in rows] == [0.0] * 6  # every ion is a centre of inversion


def test_mistakes_are_one_sentence(run, salt, tmp_path, model_path):
    pytest.importorskip("phonopy")
    config = config_of(salt, tmp_path)
    charges = save_model(make_model(("dipole",)), tmp_path / "charges")
    charged = rock_salt(symbols=("C", "O"))
    charged.info["total_charge"] = 1.0
    charged.write(tmp_path / "charged.extxyz")
    for change, words in (
        ("structure=charged.extxyz", "the cell has a charge of 1 e; phonons need a neutral one"),
        ("supercell=[1, 1, 1]", "is of a supercell of 64 atoms, and the supercell of this structure has 8"),
        ("structure=none", "none: no such file"),
        ("bands.path=GQ", "bands.path: GQ is no path of this lattice"),
        ("charges={model: nowhere}", "nowhere"),
        (f"potential={model_path}", "element"),
        (f"potential={charges}", "has no energy head (dipole); give it as `charges`, beside another potential"),
        ("raman=true", "raman: there is no model that gives polarizabilities; name one under charges, or remove raman"),
        ("potential={mace: nowhere.model}", "potential.mace: nowhere.model: no such file"),
        ("potential={force_constants: nowhere}", "nowhere: cannot be read as force constants of phonopy"),
    ):
        result = run("phonons", config, "--set", change, "--set", f"output=out_{len(words)}")
        assert result.exit_code == 2 and words in result.stderr and "Traceback" not in result.stderr, result.stderr


def test_info_checks_a_configuration(run, salt, tmp_path):
    result = run("info", config_of(salt, tmp_path))
    assert result.exit_code == 0 and "symmetry_tolerance: 1.0e-05" in result.stdout


def test_vibrations(run, tmp_path, model_path):
    molecule("H2O").write(tmp_path / "water.xyz")
    result = run("vibrations", "water.xyz", "--model", model_path, "-o", "l.csv", "--json", "l.json", "--plot", "l.png")
    assert result.exit_code == 0, result.stderr
    assert "km/mol" in result.stdout and "zero-point energy" in result.stdout
    content = json.loads((tmp_path / "l.json").read_text())
    assert len(content["lines"]) == 3 and content["meta"]["relaxed"] is False
    assert (tmp_path / "l.csv").read_text().startswith("mode,wavenumber_cm-1,intensity_km/mol") and (
        tmp_path / "l.png"
    ).is_file()
    for arguments, words in (
        (("--displacement", "0"), "--displacement: must be greater than 0"),
        (("-o", "nowhere/l.csv"), "the folder nowhere does not exist"),
        (("--plot", "l.txt"), "is in no known format of pictures"),
    ):
        wrong = run("vibrations", "water.xyz", "--model", model_path, *arguments)
        assert wrong.exit_code == 2 and words in wrong.stderr
