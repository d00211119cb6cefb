"""Infrared spectra from the currents of one or several runs.

Every run is cut into blocks of equal length. Each block gives a spectrum; the spectrum is their mean, weighted by
length, and the standard error follows from their scatter,

    error^2 = n / (n - 1)  sum_b w_b^2 (x_b - x)^2,      sum_b w_b = 1,

which holds when blocks are longer than the memory of the system. With two runs or more the same is done over runs.

The mean current of a run is subtracted by default. It is the drift of the cell in a model whose charges do not sum to
zero, or chance; what it would add sits within one resolution of zero wavenumber. A real conductor is not spoiled: the
mean takes away S(0) only in the band of one over the length of the run.

On velocities no correction for the sampling interval is needed: the transform of exact samples is exact up to the
Nyquist wavenumber, for what does not move faster. Central differences of positions see v damped by sin(w dt) / (w dt);
their spectrum is divided by the square of this and given up to half the Nyquist wavenumber only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bec_mace.errors import SpectrumError
from bec_mace.spectra.correlation import correlate, correlation_length, nyquist, pairs, spectral_density
from bec_mace.spectra.currents import DIFFERENCES, Currents
from bec_mace.spectra.dielectric import absorption_prefactor, dielectric_loss, kramers_kronig, quantum_factor
from bec_mace.units import SPEED_OF_LIGHT

logger = logging.getLogger(__name__)

MAX_WAVENUMBER = 4500.0
"""Where a spectrum ends unless told otherwise, in cm^-1; earlier if the sampling does not reach."""

MAX_BLOCKS = 10
"""Most blocks of one run unless told otherwise."""

# Blocks are this many correlation lengths long unless told otherwise: the window leaves little beyond the first half.
_LENGTHS_PER_BLOCK = 2.0
# More absorption than this in the last tenth below the Nyquist wavenumber points to lines folded back from above it.
_FOLDED = 0.02


@dataclass(frozen=True)
class Spectrum:
    """An infrared spectrum.

    Attributes:
        wavenumber: Of shape (n,), in cm^-1, evenly spaced.
        n_alpha: Refractive index times absorption coefficient, of shape (n,), in cm^-1.
        n_alpha_error: Its standard error over blocks; nan from one block.
        n_alpha_error_runs: Its standard error over runs; nan from one run.
        epsilon_imaginary: Dielectric loss, of shape (n,).
        epsilon_imaginary_error: Its standard error over blocks.
        epsilon_real: Of shape (n,), by Kramers and Kronig.
        epsilon_real_error: Its standard error over blocks.
        contributions: Shares of ``n_alpha`` by pair of elements, each of shape (n,), in cm^-1; they sum to it. A
            pair of two elements holds both orders.
        contribution_errors: Their standard errors over blocks.
        meta: How it was made: numbers and texts that JSON can hold.
    """

    wavenumber: np.ndarray
    n_alpha: np.ndarray
    n_alpha_error: np.ndarray
    n_alpha_error_runs: np.ndarray
    epsilon_imaginary: np.ndarray
    epsilon_imaginary_error: np.ndarray
    epsilon_real: np.ndarray
    epsilon_real_error: np.ndarray
    contributions: dict[str, np.ndarray]
    contribution_errors: dict[str, np.ndarray]
    meta: dict[str, Any]

    def area(self, low: float = 0.0, high: float = np.inf) -> float:
        """Integral of ``n_alpha`` over wavenumbers from ``low`` to ``high`` (cm^-1), in cm^-2."""
        in_range = (self.wavenumber >= low) & (self.wavenumber <= high)
        x, y = self.wavenumber[in_range], self.n_alpha[in_range]
        return float(np.sum(0.5 * (y[1:] + y[:-1]) * np.diff(x)))


@dataclass(frozen=True)
class Settings:
    """How spectra are computed.

    Attributes:
        resolution: Full width at half maximum of a sharp line, in cm^-1; sets the largest lag of the correlation.
        window: Lag window, one of ``correlation.WINDOWS``.
        quantum_correction: ``"harmonic"`` or ``"none"``, see ``dielectric``.
        epsilon_infinity: Dielectric constant of the electrons, the limit of eps'.
        temperature: In K; the mean of each run by default.
        volume: In Å^3; the mean of each run by default.
        max_wavenumber: Last wavenumber, in cm^-1.
        spacing: Distance of two wavenumbers, in cm^-1; a quarter of the resolution by default.
        blocks: Number of blocks in each run; as many as are long enough by default.
        subtract_mean: Subtract the mean current of each run.
        skip_fs: Time left out at the beginning of each run, in fs.
    """

    resolution: float = 20.0
    window: str = "gaussian"
    quantum_correction: str = "harmonic"
    epsilon_infinity: float = 1.0
    temperature: float | None = None
    volume: float | None = None
    max_wavenumber: float | None = None
    spacing: float | None = None
    blocks: int | None = None
    subtract_mean: bool = True
    skip_fs: float = 0.0

    def __post_init__(self) -> None:
        correlation_length(self.resolution, self.window)
        quantum_factor(np.zeros(1), 300.0, self.quantum_correction)
        for name in ("temperature", "volume", "max_wavenumber", "spacing", "blocks", "epsilon_infinity"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise SpectrumError(f"{name} must be positive, got {value}")
        if not (np.isfinite(self.skip_fs) and self.skip_fs >= 0):
            raise SpectrumError(f"skip_fs must not be negative, got {self.skip_fs}")
        if self.spacing is not None and self.spacing > self.resolution:
            raise SpectrumError(
                f"spacing {self.spacing:g} cm^-1 is wider than the resolution, {self.resolution:g} cm^-1; "
                "lines would be lost between the points"
            )


def infrared_spectrum(runs: Currents | Sequence[Currents], **settings: Any) -> Spectrum:
    """Compute the infrared spectrum of one or several runs of the same elements.

    The equations are in ``dielectric`` (absorption, corrections, dispersion) and ``correlation`` (estimator, window).

    Args:
        runs: Currents; sampling intervals, lengths and volumes may differ.
        **settings: Fields of ``Settings``.

    Raises:
        SpectrumError: If a setting is not possible, a run is shorter than the resolution asked for needs, wavenumbers
            beyond the Nyquist limit are asked for, or temperature or volume are not known.
    """
    options = Settings(**settings)
    runs = [_prepare(run, options) for run in ([runs] if isinstance(runs, Currents) else runs)]
    if not runs:
        raise SpectrumError("no currents: name at least one run")
    for run in runs[1:]:
        if run.elements != runs[0].elements:
            raise SpectrumError(
                f"{run.source}: has the elements {', '.join(run.elements)}, {runs[0].source} has "
                f"{', '.join(runs[0].elements)}; average runs of one system only"
            )
    spacing = options.spacing or options.resolution / 4.0
    limit = min(_limit(run) for run in runs)
    last = min(MAX_WAVENUMBER, limit) if options.max_wavenumber is None else options.max_wavenumber
    if options.max_wavenumber is None and limit < MAX_WAVENUMBER:
        source = min(runs, key=_limit).source
        logger.warning(f"{source}: the spectrum ends at {limit:.0f} cm^-1, as far as the sampling reaches")
    if last > limit * (1.0 + 1e-9):
        run = min(runs, key=_limit)
        raise SpectrumError(
            f"{run.source}: rows every {run.sampling_interval_fs:g} fs tell wavenumbers up to {limit:.0f} "
            f"cm^-1 apart ({run.method}), {last:.0f} cm^-1 were asked for; sample more often"
        )
    n_points = int(last / spacing * (1.0 + 1e-9))
    if n_points < 1:
        raise SpectrumError(f"no wavenumber between {spacing:g} (one spacing) and {last:g} cm^-1; use a smaller spacing")
    blocks = [_run_blocks(run, options, spacing, n_points) for run in runs]
    return _average(blocks, runs, options, spacing * np.arange(1, n_points + 1))


def _prepare(run: Currents, options: Settings) -> Currents:
    """Leave out the beginning, check the length, fill in temperature and volume, subtract the mean."""
    run = run.after(options.skip_fs)
    length = correlation_length(options.resolution, options.window)
    span = len(run) * run.sampling_interval_fs
    if span <= length + run.sampling_interval_fs:
        finest = options.resolution * length / max(span - run.sampling_interval_fs, 1e-9)
        hint = f"ask for a resolution above {finest:.3g} cm^-1" if len(run) > 2 else "it has too few rows"
        raise SpectrumError(
            f"{run.source}: {span:g} fs are shorter than the correlation of {length:.0f} fs that a "
            f"resolution of {options.resolution:g} cm^-1 ({options.window} window) needs; {hint}"
        )
    changes: dict[str, Any] = {}
    for name in ("temperature", "volume"):
        given = getattr(options, name)
        value = float(np.mean(getattr(run, name))) if given is None else given
        if not (np.isfinite(value) and value > 0):
            raise SpectrumError(f"{run.source}: the {name} is not known; give it ({name} of the settings, --{name})")
        changes[name] = np.full(len(run), value)
    if options.subtract_mean:
        changes["current"] = run.current - run.current.mean(axis=0)
    if run.field > 0:
        logger.warning(
            f"{run.source}: ran in a field of up to {run.field:g} V/Å; the spectrum is of equilibrium only "
            "as far as the field does not disturb it"
        )
    return replace(run, **changes)


def _limit(run: Currents) -> float:
    """The last wavenumber that a run can show, in cm^-1."""
    return nyquist(run.sampling_interval_fs) * (0.5 if run.method == DIFFERENCES else 1.0)


def _run_blocks(run: Currents, options: Settings, spacing: float, n_points: int) -> dict[str, np.ndarray]:
    """The spectra of the blocks of one run: weights (b,), shares (b, pairs, n), eps'' and eps' (b, n)."""
    n_lags = round(correlation_length(options.resolution, options.window) / run.sampling_interval_fs)
    count = options.blocks
    if count is None:
        count = int(np.clip(len(run) / (_LENGTHS_PER_BLOCK * max(n_lags, 1)), 1, MAX_BLOCKS))
    if len(run) // count <= n_lags:
        raise SpectrumError(
            f"{run.source}: {count} blocks of {len(run) // count} rows are shorter than the correlation of "
            f"{n_lags} rows; ask for at most {max(len(run) // (n_lags + 1), 1)} blocks or a coarser resolution"
        )
    temperature, volume = float(run.temperature[0]), float(run.volume[0])
    # The whole band, for Kramers and Kronig: eps' feels absorption beyond the last wavenumber that is shown.
    band = spacing * np.arange(max(int(_limit(run) / spacing * (1.0 + 1e-9)), n_points, 3) + 1)
    factor = absorption_prefactor(temperature, volume) * quantum_factor(band, temperature, options.quantum_correction)
    if run.method == DIFFERENCES:
        factor = factor / np.sinc(2.0 * SPEED_OF_LIGHT * run.sampling_interval_fs * band) ** 2
    parts = np.array_split(run.current, count)
    correlations = np.stack([correlate(part, n_lags) for part in parts])
    shares = factor * spectral_density(correlations, run.sampling_interval_fs, spacing, len(band), options.window)
    total = shares.sum(axis=1)
    _warn_of_folding(run, band, total.mean(axis=0))
    loss = dielectric_loss(band[1:], total[:, 1:])
    real = kramers_kronig(band[1:], loss, options.epsilon_infinity)
    shown = slice(1, n_points + 1)
    return {
        "weight": np.array([float(len(part)) for part in parts]) * run.sampling_interval_fs,
        "shares": shares[:, :, shown],
        "loss": loss[:, :n_points],
        "real": real[:, :n_points],
    }


def _warn_of_folding(run: Currents, band: np.ndarray, total: np.ndarray) -> None:
    share = total[band > 0.9 * band[-1]].sum() / max(total.sum(), 1e-300)
    if share > _FOLDED and run.method != DIFFERENCES:
        logger.warning(
            f"{run.source}: {share:.0%} of the absorption lies just below the Nyquist wavenumber, "
            f"{band[-1]:.0f} cm^-1; rows every {run.sampling_interval_fs:g} fs are too few, lines fold back"
        )


def _average(
    blocks: Sequence[Mapping[str, np.ndarray]], runs: Sequence[Currents], options: Settings, wavenumber: np.ndarray
) -> Spectrum:
    names = pairs(runs[0].elements)
    pooled = {key: np.concatenate([block[key] for block in blocks]) for key in ("weight", "shares", "loss", "real")}
    shares, share_errors = mean_and_error(pooled["shares"], pooled["weight"])
    _, total_error = mean_and_error(pooled["shares"].sum(axis=1), pooled["weight"])
    loss, loss_error = mean_and_error(pooled["loss"], pooled["weight"])
    real, real_error = mean_and_error(pooled["real"], pooled["weight"])
    of_runs = np.stack([np.average(block["shares"].sum(axis=1), axis=0, weights=block["weight"]) for block in blocks])
    _, runs_error = mean_and_error(of_runs, np.array([block["weight"].sum() for block in blocks]))
    return Spectrum(
        wavenumber=wavenumber,
        n_alpha=shares.sum(axis=0),
        n_alpha_error=total_error,
        n_alpha_error_runs=runs_error,
        epsilon_imaginary=loss,
        epsilon_imaginary_error=loss_error,
        epsilon_real=real,
        epsilon_real_error=real_error,
        contributions=dict(zip(names, shares, strict=True)),
        contribution_errors=dict(zip(names, share_errors, strict=True)),
        meta=_meta(runs, options, [len(block["weight"]) for block in blocks]),
    )


def mean_and_error(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean over the first axis and its standard error; nan from one value."""
    weights = weights / weights.sum()
    mean = np.tensordot(weights, values, axes=1)
    n = len(weights)
    if n == 1:
        return mean, np.full_like(mean, np.nan)
    return mean, np.sqrt(n / (n - 1) * np.tensordot(weights**2, (values - mean) ** 2, axes=1))


def _meta(runs: Sequence[Currents], options: Settings, blocks: Sequence[int]) -> dict[str, Any]:
    return {
        "runs": [run.source for run in runs],
        "method": sorted({run.method for run in runs}),
        "elements": list(runs[0].elements),
        "length_ps": [len(run) * run.sampling_interval_fs * 1e-3 for run in runs],
        "sampling_interval_fs": [run.sampling_interval_fs for run in runs],
        "temperature_K": [float(run.temperature[0]) for run in runs],
        "volume_A3": [float(run.volume[0]) for run in runs],
        "blocks": list(blocks),
        "resolution_cm-1": options.resolution,
        "window": options.window,
        "correlation_fs": correlation_length(options.resolution, options.window),
        "quantum_correction": options.quantum_correction,
        "epsilon_infinity": options.epsilon_infinity,
        "mean_current": "subtracted" if options.subtract_mean else "kept",
        "skipped_fs": options.skip_fs,
    }
