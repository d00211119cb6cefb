"""One trajectory, several models of Z*: do their infrared spectra agree where their errors differ?

The current of the trajectory is computed anew with each model, so only the charges differ, not the motion.

    python scripts/compare_spectra.py runs/md_water_nve --model monopole=runs/monopole --model dipole=runs/dipole \\
        --data data/water_rpbe_d3.extxyz --reference experiment.csv --plot spectra.png --json spectra.json

The table holds the error of Z* on the frames of ``--data`` that a model was not trained on, as its run folder has it
(results.json), the largest peaks, and how far each spectrum is from the mean of all: the root of the integral of the
squared difference over that of the squared mean.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bec_mace.errors import BecMaceError
from bec_mace.models import load_model
from bec_mace.spectra import currents_from_trajectory, find_peaks, infrared_spectrum, plot_overlay, read_curve
from bec_mace.spectra.from_trajectory import trajectory_of
from bec_mace.spectra.infrared import Spectrum

Z = "born_effective_charges"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trajectory", help="a run folder of bec-mace md, or a trajectory with velocities")
    parser.add_argument("--model", action="append", required=True, metavar="LABEL=MODEL", help="once for each model")
    parser.add_argument("--resolution", type=float, default=40.0, help="cm^-1; 40")
    parser.add_argument("--time-step", type=float, help="fs between frames, where the file does not say")
    parser.add_argument("--reference", type=Path, help="CSV of wavenumbers and n alpha")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    wrong = [text for text in args.model if not all(text.partition("="))]
    if wrong:
        parser.error(f"--model {wrong[0]}: expected LABEL=MODEL")
    return args


def test_error(model: str) -> float | None:
    """RMSE of Z* on the test frames of a run folder, in e; None where there is none."""
    path = Path(model) / "results.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    error: float | None = found.get("test", {}).get(Z, {}).get("rmse")
    return error


def distance(spectrum: Spectrum, mean: np.ndarray) -> float:
    """Relative root-mean-square difference from the mean spectrum."""
    return float(np.sqrt(np.sum((spectrum.n_alpha - mean) ** 2) / np.sum(mean**2)))


def main() -> int:
    args = parse_arguments()
    torch.set_num_threads(1)
    spectra: dict[str, Spectrum] = {}
    models = dict(text.split("=", 1) for text in args.model)
    for label, model in models.items():
        currents = currents_from_trajectory(
            trajectory_of(args.trajectory), load_model(model, args.device), time_step=args.time_step
        )
        spectra[label] = infrared_spectrum(currents, resolution=args.resolution)
        print(f"{label}: done", file=sys.stderr, flush=True)
    mean = np.mean([spectrum.n_alpha for spectrum in spectra.values()], axis=0)
    rows: dict[str, Any] = {}
    for label, spectrum in spectra.items():
        rows[label] = {
            "rmse": test_error(models[label]),
            "distance_from_mean": distance(spectrum, mean),
            "relative_error_of_blocks": float(np.sqrt(np.sum(spectrum.n_alpha_error**2) / np.sum(spectrum.n_alpha**2))),
            "peaks": [{"wavenumber_cm-1": peak.wavenumber, "n_alpha_cm-1": peak.height} for peak in find_peaks(spectrum)],
        }
    print("| model | RMSE of Z* (e) | from the mean spectrum | error over blocks | peaks (cm^-1: n alpha) |")
    print("|---|---|---|---|---|")
    for label, row in rows.items():
        error = "" if row["rmse"] is None else f"{row['rmse']:.4f}"
        peaks = ", ".join(f"{p['wavenumber_cm-1']:.0f}: {p['n_alpha_cm-1']:.0f}" for p in row["peaks"])
        print(f"| {label} | {error} | {row['distance_from_mean']:.1%} | {row['relative_error_of_blocks']:.1%} | {peaks} |")
    if args.plot:
        reference = read_curve(args.reference) if args.reference else None
        plot_overlay(spectra, args.plot, reference, "experiment")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BecMaceError as error:
        sys.exit(f"error: {error}")
