"""Pictures of coupled charges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bec_mace.data import Frame
from bec_mace.models import PolarizationModel, load_model
from bec_mace.predict import predict
from bec_mace.storage.figures import save_figure
from bec_mace.units import COULOMB_CONSTANT
from comparing.figures import Z, test_frames

WAYS = {"none": "no Coulomb term", "independent": "independent", "global": "global", "local": "local"}
MOLECULES = "bulk_and_clusters"


def draw(prefix: str, runs: Path, device: str) -> Iterator[Path]:
    """Draw what can be drawn of the runs that are there; yields the files."""
    there = {way: runs / f"{MOLECULES}_{way}" for way in WAYS if (runs / f"{MOLECULES}_{way}" / "results.json").exists()}
    if "local" in there:
        path = Path(f"{prefix}_screening.png")
        draw_screening(path, there["local"], device)
        yield path
    if there:
        path = Path(f"{prefix}_apart.png")
        draw_apart(path, there, device)
        yield path


def draw_screening(path: Path, run: Path, device: str) -> None:
    """Gamma of hydrogen and oxygen in bulk and in clusters."""
    model, frames = load_model(run, device), test_frames(run)
    found = [guess["screening"] for guess in predict(model, frames, ("screening",))]
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    root = model.metadata["static_charges"].get("root_of_epsilon_infinity")
    for axis, (symbol, number) in zip(axes, {"H": 1, "O": 8}.items(), strict=True):
        parts: dict[str, list[np.ndarray]] = {"bulk": [], "clusters": []}
        for frame, gamma in zip(frames, found, strict=True):
            parts["bulk" if frame.pbc.any() else "clusters"].append(gamma[frame.atomic_numbers == number])
        values = {name: np.concatenate(part) for name, part in parts.items()}
        edges = np.histogram_bin_edges(np.concatenate(list(values.values())), 40)
        for name, color in (("bulk", "tab:blue"), ("clusters", "tab:orange")):
            axis.hist(values[name], edges, density=True, alpha=0.6, color=color, label=f"{symbol}, {name}")
        if root is not None and edges[0] < root < edges[-1]:
            axis.axvline(root, color="black", lw=0.8, ls="--", label=r"$\sqrt{\varepsilon_\infty}$ of the liquid")
        axis.set(xlabel=r"screening $\gamma$", ylabel="density" if symbol == "H" else None)
        axis.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def pair(frame: Frame, distance: float) -> Frame:
    """Two copies of a molecule whose dipoles point along the line between them, so far apart."""
    place = frame.positions - np.average(frame.positions, axis=0, weights=(frame.atomic_numbers == 8) + 1e-9)
    along = place[frame.atomic_numbers == 1].sum(axis=0)
    along /= np.linalg.norm(along)
    positions = np.concatenate([place, place + distance * along])
    numbers = np.tile(frame.atomic_numbers, 2)
    return Frame(numbers, positions, np.zeros((3, 3)), np.zeros(3, dtype=bool))


def apart(model: PolarizationModel, molecule: Frame, distances: np.ndarray) -> np.ndarray:
    """Energies of a pair over those of two single molecules, in eV."""
    frames = [replace(molecule, labels={}), *(pair(molecule, distance) for distance in distances)]
    energies = np.array([float(guess["energy"]) for guess in predict(model, frames, ("energy",))])
    return energies[1:] - 2 * energies[0]


def draw_apart(path: Path, runs: dict[str, Path], device: str) -> None:
    """The energy of two water molecules that are pulled apart, against that of two dipoles."""
    distances = np.linspace(3.5, 15.0, 116)
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axis = figure.subplots()
    molecule: Any = None
    reach = 0.0
    for way, run in runs.items():
        model = load_model(run, device, "float64")
        frames = test_frames(run)
        molecule = min((one for one in frames if not one.pbc.any()), key=len)
        axis.plot(distances, 1000 * apart(model, molecule, distances), label=WAYS[way])
        reach = model.r_max
    if molecule is not None and "dipole" in molecule.labels:
        size = float(np.linalg.norm(molecule.labels["dipole"]))
        far = distances > 5.0
        law = -2000 * COULOMB_CONSTANT * size**2 / distances[far] ** 3
        axis.plot(distances[far], law, color="black", lw=0.8, ls="--", label="two dipoles of the molecule")
    axis.axvline(reach, color="gray", lw=0.8, ls=":")
    axis.annotate("r_max", (reach, axis.get_ylim()[0]), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axis.set(xlabel="O-O distance (Å)", ylabel="energy of the pair (meV)", ylim=(-120, 40))
    axis.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def draw_ladder(path: Path, results: dict[str, dict[str, Any]], titles: dict[str, str]) -> None:
    """Errors of forces and Z* rung by rung, a line for each set and its labels."""
    titled = {"forces": "RMSE of forces (eV/Å)", Z: "RMSE of Z* (e)", "polarizability": "RMSE of polarizabilities"}
    known = {key for rows in results.values() for row in rows.values() for key in row}
    columns = [(key, title) for key, title in titled.items() if key in known]
    figure = Figure(figsize=(4.5 * len(columns), 3.6), layout="constrained")
    for axis, (key, title) in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        for name, rows in results.items():
            points = [(list(titles).index(rung), row[key]) for rung, row in rows.items() if row.get(key) is not None]
            if points:
                axis.plot(*zip(*points, strict=True), "o-", label=name.replace("_", ", "))
        axis.set(ylabel=title, yscale="log")
        axis.set_xticks(range(len(titles)), list(titles.values()), rotation=30, ha="right", fontsize=8)
        axis.legend(frameon=False, fontsize=8)
    save_figure(figure, path)
