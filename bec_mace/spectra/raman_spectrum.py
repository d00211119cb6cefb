r"""Raman spectra from the polarizability along trajectories.

With the mean :math:`\bar\alpha = \operatorname{tr} \alpha / 3` and the deviator :math:`\beta = \alpha - \bar\alpha`, and the
spectral density S of ``correlation``,

.. math:: A_{iso}(\tilde\nu) = \frac{2 c}{k T} \, 45 \, \omega^2 S_{\bar\alpha}, \qquad
          A_{aniso}(\tilde\nu) = \frac{2 c}{k T} \, \tfrac32 \, \omega^2 S_{\operatorname{tr} \beta \beta}, \qquad
          \omega = 2 \pi c \tilde\nu .

In the harmonic limit the integral of A_iso + 7 A_aniso over wavenumbers is the sum of the activities 45 a'^2 + 7 gamma'^2 of
the modes, in Å^4/u, at any temperature: these are the reduced spectra. Polarized light that is scattered polarized (VV) has
A_iso + 4 A_aniso, depolarized (VH) 3 A_aniso, each over 45. With a laser line the cross section of Stokes scattering is

.. math:: \frac{d^2 \sigma}{d\Omega \, d\tilde\nu} = (2 \pi)^4 (\tilde\nu_0 - \tilde\nu)^4 \frac{h}{8 \pi^2 c \tilde\nu}
          \frac{1}{1 - e^{-x}} \frac{A}{45}, \qquad x = h c \tilde\nu / k T ,

for the whole cell, and without quantum correction 1/x in place of 1/(1 - exp(-x)). Standard errors are those of blocks, as in
``infrared``.

Sources: D. Porezag and M. R. Pederson, Phys. Rev. B 54, 7830 (1996), for activities and cross sections; M. Thomas, M. Brehm,
R. Fligg, P. Vöhringer, B. Kirchner, Phys. Chem. Chem. Phys. 15, 6608 (2013), for correlation functions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.units
import numpy as np

from bec_mace.data import Frame
from bec_mace.data.formats import find_format
from bec_mace.data.reading import read_atoms
from bec_mace.errors import SpectrumError
from bec_mace.spectra.correlation import correlate, correlation_length, nyquist, spectral_density
from bec_mace.spectra.export import known_values, write_columns
from bec_mace.spectra.from_trajectory import frame_interval, same_atoms, trajectory_of
from bec_mace.spectra.infrared import MAX_BLOCKS, MAX_WAVENUMBER, Settings, mean_and_error
from bec_mace.spectra.steady import steady, temperature
from bec_mace.storage.files import replace_text
from bec_mace.units import BOLTZMANN, PLANCK, SPEED_OF_LIGHT

if TYPE_CHECKING:
    from bec_mace.models import PolarizationModel

_WORK = ase.units.fs**2
"""One eV in u Å^2/fs^2."""


@dataclass(frozen=True)
class Polarizabilities:
    """The polarizability along one run.

    Attributes:
        values: Of shape (n, 3, 3), in Å^3.
        sampling_interval_fs: Time between two of them, in fs.
        temperature: Mean of the run, in K; nan where there are no velocities.
        source: Where they come from.
    """

    values: np.ndarray
    sampling_interval_fs: float
    temperature: float
    source: str = ""


@dataclass(frozen=True)
class RamanSpectrum:
    """A Raman spectrum of the cell; each array of shape (n,).

    Attributes:
        wavenumber: In cm^-1, evenly spaced.
        isotropic, anisotropic: A_iso and A_aniso, in Å^4 cm/u.
        isotropic_error, anisotropic_error: Standard errors over blocks; nan from one block.
        polarized, depolarized: VV and VH: reduced in Å^4 cm/u, or with a laser line in Å^2 cm per steradian.
        polarized_error, depolarized_error: Standard errors over blocks.
        meta: How it was made.
    """

    wavenumber: np.ndarray
    isotropic: np.ndarray
    isotropic_error: np.ndarray
    anisotropic: np.ndarray
    anisotropic_error: np.ndarray
    polarized: np.ndarray
    polarized_error: np.ndarray
    depolarized: np.ndarray
    depolarized_error: np.ndarray
    meta: dict[str, Any]

    def activity(self, low: float = 0.0, high: float = np.inf) -> float:
        """The integral of A_iso + 7 A_aniso between two wavenumbers, in Å^4/u."""
        inside = (self.wavenumber >= low) & (self.wavenumber <= high)
        total = (self.isotropic + 7 * self.anisotropic)[inside]
        return float(total.sum() * (self.wavenumber[1] - self.wavenumber[0]))


def polarizabilities_from_trajectory(
    path: str | Path,
    model: PolarizationModel,
    time_step: float | None = None,
    *,
    batch_size: int | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Polarizabilities:
    """Compute the polarizability of every frame of a trajectory.

    Args:
        path: Any file of frames that ASE reads, or a run folder with a trajectory in it.
        model: With polarizabilities, of the head or of a response.
        time_step: Time between two frames, in fs; only a trajectory of ``bec-mace md`` says it.
        batch_size: Largest number of frames in a batch.
        progress: Wraps the iteration over frames.

    Raises:
        SpectrumError: The model has no polarizability, the time is not known, or frames do not follow each other.
    """
    from bec_mace.predict import predict

    if "polarizability" not in model.provides:
        raise SpectrumError(
            f"a Raman spectrum needs polarizabilities, and the heads of the model ({', '.join(model.heads)}) give none; train "
            "one with the head polarizability or with model.electrostatics.response"
        )
    place = trajectory_of(path)
    interval, kelvin = frame_interval(place, time_step), []
    structures = read_atoms(find_format(place))
    first = next(structures)

    def frames() -> Iterable[Frame]:
        following = steady(same_atoms(chain([first], structures), place), place, interval)
        for number, (atoms, _) in enumerate(following):
            if atoms.has("momenta"):
                kelvin.append(temperature(atoms, atoms.get_velocities() * ase.units.fs))
            yield Frame.from_atoms(atoms, properties=(), source=f"{place}, frame {number}")

    values = [guess["polarizability"] for guess in progress(predict(model, frames(), ("polarizability",), batch_size))]
    mean = float(np.mean(kelvin)) if len(kelvin) == len(values) else float("nan")
    return Polarizabilities(np.array(values), interval, mean, str(place))


def raman_spectrum(
    runs: Polarizabilities | Sequence[Polarizabilities], laser_nm: float | None = None, **settings: Any
) -> RamanSpectrum:
    """Compute the Raman spectrum of one or several runs of the same system; the equations are those of the module.

    Args:
        runs: Polarizabilities.
        laser_nm: Wavelength of the laser, in nm; None gives reduced spectra.
        **settings: Fields of :class:`~bec_mace.spectra.infrared.Settings`; volume and epsilon_infinity do not matter.

    Raises:
        SpectrumError: A setting is not possible, a run is too short for the resolution, or the temperature is not known.
    """
    options = Settings(**settings)
    runs = [runs] if isinstance(runs, Polarizabilities) else list(runs)
    if not runs:
        raise SpectrumError("no polarizabilities: name at least one run")
    limit = min(nyquist(run.sampling_interval_fs) for run in runs)
    last = min(MAX_WAVENUMBER, limit) if options.max_wavenumber is None else options.max_wavenumber
    if last > limit * (1 + 1e-9):
        raise SpectrumError(
            f"polarizabilities every {max(run.sampling_interval_fs for run in runs):g} fs tell wavenumbers up to "
            f"{limit:.0f} cm^-1 apart, {last:.0f} cm^-1 were asked for; sample more often"
        )
    spacing = options.spacing or options.resolution / 4
    wavenumber = spacing * np.arange(1, int(last / spacing * (1 + 1e-9)) + 1)
    if len(wavenumber) < 2:
        raise SpectrumError(f"no wavenumbers between {spacing:g} (one spacing) and {last:g} cm^-1; use a smaller spacing")
    blocks, weights, kelvin = [], [], []
    for run in runs:
        kelvin.append(_temperature(run, options))
        found = _blocks(run, options, kelvin[-1], spacing, len(wavenumber))
        blocks.append(found)
        weights += [len(run.values) / len(found) * run.sampling_interval_fs] * len(found)
    parts, weight = np.concatenate(blocks), np.array(weights)
    factor = _cross_section(wavenumber, float(np.mean(kelvin)), laser_nm, options.quantum_correction)
    iso, aniso = parts[:, 0], parts[:, 1]
    columns = {
        "isotropic": iso,
        "anisotropic": aniso,
        "polarized": factor * (iso + 4 * aniso),
        "depolarized": factor * 3 * aniso,
    }
    arrays = {}
    for name, values in columns.items():
        arrays[name], arrays[f"{name}_error"] = mean_and_error(values, weight)
    meta = {
        "runs": [run.source for run in runs],
        "length_ps": [len(run.values) * run.sampling_interval_fs * 1e-3 for run in runs],
        "sampling_interval_fs": [run.sampling_interval_fs for run in runs],
        "temperature_K": kelvin,
        "blocks": [len(found) for found in blocks],
        "resolution_cm-1": options.resolution,
        "window": options.window,
        "laser_nm": laser_nm,
        "quantum_correction": options.quantum_correction,
    }
    return RamanSpectrum(wavenumber=wavenumber, meta=meta, **arrays)


def _temperature(run: Polarizabilities, options: Settings) -> float:
    kelvin = run.temperature if options.temperature is None else options.temperature
    if not (np.isfinite(kelvin) and kelvin > 0):
        raise SpectrumError(f"{run.source}: the temperature is not known; give it with --temperature")
    return float(kelvin)


def _blocks(run: Polarizabilities, options: Settings, kelvin: float, spacing: float, n_points: int) -> np.ndarray:
    """A_iso and A_aniso of each block of a run, of shape (n_blocks, 2, n_points)."""
    step = run.sampling_interval_fs
    values = run.values[int(np.ceil(options.skip_fs / step)) :]
    n_lags = round(correlation_length(options.resolution, options.window) / step)
    if len(values) <= n_lags + 1:
        raise SpectrumError(
            f"{run.source}: {len(values)} frames every {step:g} fs are shorter than the correlation of {n_lags * step:.0f} fs "
            f"that a resolution of {options.resolution:g} cm^-1 needs; ask for a coarser one"
        )
    count = options.blocks or int(np.clip(len(values) / (2 * max(n_lags, 1)), 1, MAX_BLOCKS))
    if len(values) // count <= n_lags:
        raise SpectrumError(f"{run.source}: {count} blocks are shorter than the correlation; ask for fewer blocks")
    values = values - values.mean(axis=0)
    mean = np.trace(values, axis1=1, axis2=2) / 3
    deviator = values - mean[:, None, None] * np.eye(3)
    found = []
    for rows in np.array_split(np.arange(len(values)), count):
        iso = correlate(mean[rows][:, None, None], n_lags)[0]
        aniso = correlate(deviator[rows].reshape(len(rows), 1, 9), n_lags)[0]
        found.append(spectral_density(np.stack([45 * iso, 1.5 * aniso]), step, spacing, n_points + 1, options.window)[:, 1:])
    omega = 2 * np.pi * SPEED_OF_LIGHT * spacing * np.arange(1, n_points + 1)
    return np.asarray(2 * SPEED_OF_LIGHT / (BOLTZMANN * kelvin * _WORK) * omega**2 * np.array(found))


def _cross_section(wavenumber: np.ndarray, kelvin: float, laser_nm: float | None, correction: str) -> np.ndarray:
    """What turns A into spectra of polarized light: 1/45 of it, or cross sections in Å^2 cm/sr."""
    if laser_nm is None:
        return np.full_like(wavenumber, 1 / 45)
    if not (np.isfinite(laser_nm) and laser_nm > 0):
        raise SpectrumError(f"the wavelength of the laser must be a positive number of nm, got {laser_nm}")
    line = 1e7 / laser_nm
    if wavenumber[-1] >= line:
        raise SpectrumError(f"a laser of {laser_nm:g} nm has {line:.0f} cm^-1, less than the spectrum; end it earlier")
    x = PLANCK * SPEED_OF_LIGHT * wavenumber / (BOLTZMANN * kelvin)
    occupied = 1 / x if correction == "none" else 1 / -np.expm1(-x)
    # h / (8 pi^2 c nu) of A in Å^4/u: h in u Å^2/fs, c in Å/fs, and wavenumbers in 1/Å.
    per_angstrom, light = 1e-8, SPEED_OF_LIGHT * 1e8
    quantum = PLANCK * _WORK / (8 * np.pi**2 * light * wavenumber * per_angstrom)
    return np.asarray((2 * np.pi) ** 4 * ((line - wavenumber) * per_angstrom) ** 4 * quantum * occupied / 45)


def raman_columns(spectrum: RamanSpectrum) -> dict[str, np.ndarray]:
    """The columns of a file by name; units are part of the names."""
    unit = "A4_cm/u" if spectrum.meta["laser_nm"] is None else "A2_cm/sr"
    return {
        "wavenumber_cm-1": spectrum.wavenumber,
        "isotropic_A4_cm/u": spectrum.isotropic,
        "isotropic_standard_error": spectrum.isotropic_error,
        "anisotropic_A4_cm/u": spectrum.anisotropic,
        "anisotropic_standard_error": spectrum.anisotropic_error,
        f"polarized_VV_{unit}": spectrum.polarized,
        "polarized_standard_error": spectrum.polarized_error,
        f"depolarized_VH_{unit}": spectrum.depolarized,
        "depolarized_standard_error": spectrum.depolarized_error,
    }


def write_raman_csv(spectrum: RamanSpectrum, path: str | Path) -> None:
    """Write a table, complete or not at all: lines beginning with # say how it was made."""
    write_columns(raman_columns(spectrum), spectrum.meta, path)


def write_raman_json(spectrum: RamanSpectrum, path: str | Path) -> None:
    """Write how it was made, the activity and the columns, complete or not at all; what is not known is null."""
    columns = known_values(raman_columns(spectrum))
    content = {"meta": spectrum.meta, "activity_Å4/u": spectrum.activity(), "columns": columns}
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    replace_text(Path(path), text)
