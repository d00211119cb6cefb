"""Do phonons and infrared optics through our command agree with phonopy's own, and vibrations with ASE's? In two minutes.

python scripts/check_phonons.py --data data/phonopy_born/raw --json phonons.json

frequencies       at Gamma along three directions from FORCE_SETS and BORN, against phonopy.load and its own correction, in THz
zeros             longitudinal frequencies against the zeros of n.epsilon(omega).n of our oscillator strengths, in THz
born_file         Z* and dielectric tensor that phonopy reads from the BORN file that is written, against what was written
sum_rule          of symmetrised Z*, in e
isotropy          of symmetrised Z* of rock salt, in e
vibrations        of water with the model `water` against ase.vibrations.Infrared at two displacements, extrapolated to none:
                  frequencies in cm^-1, intensities relative

Beside them, the shifts with Z* and dielectric tensor of a model in place of BORN (`--charges`): no limits, they are its errors.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import phonopy
from phonopy.file_IO import parse_BORN
from scipy.optimize import brentq

from bec_mace import BECCalculator
from bec_mace.cli.main import main as command
from bec_mace.dynamics.structure import read_structure
from bec_mace.errors import BecMaceError
from bec_mace.phonons import load_phonon_config, relax_molecule, vibrations
from bec_mace.phonons.lattice import make_phonon

CRYSTALS = {"NaCl": [2, 2, 2], "MgO": [2, 2, 2], "Al2O3": [2, 2, 1], "SnO2": [2, 2, 3]}
ROCK_SALT = ("NaCl", "MgO")
DIRECTIONS = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]
LIMITS = {
    "frequencies": 0.01,
    "zeros": 0.01,
    "born_file": 1e-8,
    "sum_rule": 1e-8,
    "isotropy": 1e-8,
    "vibration_frequencies": 0.1,
    "vibration_intensities": 1e-3,
}


def ours(folder: Path, supercell: list[int], charges: str, output: Path) -> dict[str, Any]:
    """What the command leaves in phonons.json."""
    config = output.with_suffix(".yaml")
    config.write_text(
        f"structure: {folder / 'POSCAR-unitcell'}\nsupercell: {supercell}\n"
        f"potential: {{force_sets: {folder / 'FORCE_SETS'}}}\ncharges: {charges}\n"
        f"directions: {DIRECTIONS}\noutput: {output}\nbands: null\ndevice: cpu\n"
    )
    with redirect_stdout(io.StringIO()):
        command(["phonons", str(config)], standalone_mode=False)
    results: dict[str, Any] = json.loads((output / "phonons.json").read_text(encoding="utf-8"))
    return results


def theirs(folder: Path, supercell: list[int], born: Path) -> list[np.ndarray]:
    """Frequencies at Gamma by phonopy alone, for each direction, in THz."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        phonon = phonopy.load(
            unitcell_filename=folder / "POSCAR-unitcell",
            supercell_matrix=np.diag(supercell),
            primitive_matrix="auto",
            force_sets_filename=folder / "FORCE_SETS",
            born_filename=born,
            log_level=0,
        )
    found = []
    for direction in DIRECTIONS:
        phonon.run_qpoints([[0, 0, 0]], nac_q_direction=phonon.primitive.cell @ np.array(direction))
        found.append(np.array(phonon.qpoints.frequencies[0]))
    return found


def zeros(results: dict[str, Any], direction: list[float], pairs: list[list[float]]) -> float:
    """Largest distance of longitudinal frequencies from zeros of n.epsilon.n without damping, in THz.

    epsilon is made of the shares of eps(0), which are 4 pi S / V omega^2: epsilon(f) = eps + sum share f_m^2 / (f_m^2 - f^2).
    """
    unit = np.array(direction) / np.linalg.norm(direction)
    names = ("xx", "yy", "zz", "yz", "xz", "xy")
    twice = np.array([unit[0] ** 2, unit[1] ** 2, unit[2] ** 2])
    mixed = 2 * np.array([unit[1] * unit[2], unit[0] * unit[2], unit[0] * unit[1]])
    weights = np.concatenate([twice, mixed])
    shares = [
        (mode["frequency_THz"], sum(w * mode[f"epsilon_static_share_{n}"] for w, n in zip(weights, names, strict=True)))
        for mode in results["modes"]
    ]
    electrons = float(unit @ np.array(results["epsilon_infinity"]) @ unit)

    def epsilon(f: float) -> float:
        return electrons + sum(share * m**2 / (m**2 - f**2) for m, share in shares if abs(share) > 1e-12)

    levels = [low for low, _ in pairs] + [100.0]
    found = [brentq(epsilon, a + 1e-7, b - 1e-7) for a, b in zip(levels[:-1], levels[1:], strict=True)]
    return float(max((abs(high - zero) for (_, high), zero in zip(pairs, found, strict=True)), default=0.0))


def crystal(folder: Path, name: str, charges: str | None, work: Path) -> dict[str, Any]:
    """All figures of one crystal."""
    supercell = CRYSTALS[name]
    results = ours(folder, supercell, f"{{born: {folder / 'BORN'}}}", work / name)
    rows = results["longitudinal"]
    own = theirs(folder, supercell, folder / "BORN")
    again = theirs(folder, supercell, work / name / "BORN")
    z, electrons = np.array(results["born_effective_charges_e"]), np.array(results["epsilon_infinity"])
    config = load_phonon_config(work / f"{name}.yaml")
    phonon = make_phonon(read_structure(config.structure), supercell)
    read = parse_BORN(phonon.primitive, filename=str(work / name / "BORN"))
    figures: dict[str, Any] = {
        "frequencies": max(
            float(np.abs(np.array(row["frequencies_THz"]) - one).max())
            for found in (own, again)
            for row, one in zip(rows, found, strict=True)
        ),
        "zeros": max(zeros(results, row["direction"], row["transverse_longitudinal_THz"]) for row in rows),
        "born_file": float(max(np.abs(read["born"] - z).max(), np.abs(read["dielectric"] - electrons).max())),
        "sum_rule": float(np.abs(z.sum(axis=0)).max()),
        "longitudinal_THz": {str(d): row["transverse_longitudinal_THz"] for d, row in zip(DIRECTIONS, rows, strict=True)},
        "epsilon_infinity": np.diag(electrons).tolist(),
        "epsilon_static": np.diag(np.array(results["epsilon_static"])).tolist(),
    }
    if name in ROCK_SALT:
        figures["isotropy"] = float(np.abs(z - np.einsum("j,ab->jab", np.trace(z, axis1=1, axis2=2) / 3, np.eye(3))).max())
    if charges is not None:
        model = ours(folder, supercell, charges, work / f"{name}_model")
        figures["model"] = shifts(results, model)
    return figures


def shifts(born: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """What changes with a model in place of BORN."""
    charges = np.array(model["born_effective_charges_e"]) - np.array(born["born_effective_charges_e"])
    lifted = []
    for one, other in zip(born["longitudinal"], model["longitudinal"], strict=True):
        pairs, moved = np.array(one["transverse_longitudinal_THz"]), np.array(other["transverse_longitudinal_THz"])
        lifted.append((moved[:, 1] - pairs[:, 1]).tolist() if moved.shape == pairs.shape else None)
    return {
        "charges_rms_e": float(np.sqrt(np.mean(charges**2))),
        "epsilon_infinity": np.diag(np.array(model["epsilon_infinity"])).tolist(),
        "epsilon_static": np.diag(np.array(model["epsilon_static"])).tolist(),
        "longitudinal_shift_THz": dict(zip(map(str, DIRECTIONS), lifted, strict=True)),
    }


def water(work: Path) -> dict[str, float]:
    """Largest differences from ASE's Infrared, which differentiates the dipole; both extrapolated to no displacement."""
    from ase.build import molecule
    from ase.vibrations import Infrared

    calculator = BECCalculator("water", dtype="float64")
    atoms = relax_molecule(molecule("H2O"), calculator, max_force=1e-5)
    limits = []
    for method in ("ours", "ase"):
        found = []
        for size in (0.01, 0.005):
            if method == "ours":
                one = vibrations(atoms, calculator, size)
                found.append(np.array([one.wavenumbers, one.intensities_debye]))
            else:
                atoms.calc = calculator
                infrared = Infrared(atoms, name=str(work / f"ir{size}"), delta=size)
                infrared.run()
                found.append(np.array([infrared.get_frequencies().real[-3:], infrared.intensities[-3:]]))
        limits.append((4 * found[1] - found[0]) / 3)
    difference = np.abs(limits[0] - limits[1])
    return {
        "vibration_frequencies": float(difference[0].max()),
        "vibration_intensities": float((difference[1] / limits[1][1]).max()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/phonopy_born/raw"), help="Folder with a folder per crystal.")
    parser.add_argument("--crystals", nargs="+", choices=list(CRYSTALS), default=list(CRYSTALS))
    parser.add_argument("--charges", default="crystals", help="Model in place of BORN; 'none' leaves it out.")
    parser.add_argument("--no-water", action="store_true", help="Leave the molecule out.")
    parser.add_argument("--json", type=Path, help="Write the figures to this file.")
    arguments = parser.parse_args()
    charges = None if arguments.charges == "none" else arguments.charges
    figures: dict[str, Any] = {"limits": LIMITS, "crystals": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.crystals:
            figures["crystals"][name] = crystal((arguments.data / name).resolve(), name, charges, Path(folder))
        figures["water"] = {} if arguments.no_water else water(Path(folder))
    rows = [
        (name, key, value)
        for name, found in {**figures["crystals"], "water": figures["water"]}.items()
        for key, value in found.items()
        if key in LIMITS
    ]
    for name, key, value in rows:
        print(f"| {name} | {key} | {value:.2g} |")
    for name, found in figures["crystals"].items():
        print(f"{name}: TO, LO {found['longitudinal_THz']}, with the model {found.get('model')}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if all(value <= LIMITS[key] for _, key, value in rows) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BecMaceError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
