"""Correlation functions of currents, and their Fourier transforms.

The correlation of the currents of two elements e and f, from N rows at intervals dt, is estimated by

    C_ef(k dt) = 1 / (N - k)  sum_{n=0}^{N-k-1}  J_e(n dt) . J_f((n + k) dt),

by the Wiener-Khinchin theorem: transform, multiply, transform back, with as many zeros appended as keep the ends
apart. Division by N - k makes the estimate of every lag free of bias, so the expected spectrum is the true one
convolved with the transform of the lag window and depends neither on the length of the run nor on the number of
blocks. (Division by N would bend each block by its own triangle.) The variance at large lags, which is the price, is
under the small end of the window.

The spectrum is the transform of the windowed correlation (Blackman and Tukey),

    S(w) = dt sum_{k=-K}^{K} W(k dt) C(k dt) cos(w k dt),

an estimate of the integral of C(t) exp(-i w t) over all times. It holds up to the Nyquist wavenumber 1 / (2 c dt).

Sources: M. P. Allen and D. J. Tildesley, Computer Simulation of Liquids, 2nd ed. (Oxford, 2017), section 8.3 and
appendix D; F. J. Harris, Proc. IEEE 66, 51 (1978), for the widths of the windows.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import CZT

from bec_mace.errors import SpectrumError
from bec_mace.units import SPEED_OF_LIGHT

WINDOWS = ("gaussian", "hann", "blackman", "none")
"""Lag windows. Gaussian, the default, gives lines without side lobes."""

# Full width at half maximum of the transform of a window of length 2 T, in units of 1 / (2 T).
_WIDTH = {"hann": 2.0, "blackman": 2.2988, "none": 1.2067}
# The Gaussian is cut here, in standard deviations: side lobes of a thousandth.
_CUT = 4.0
_GAUSSIAN_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))


def pairs(elements: tuple[str, ...]) -> list[str]:
    """Names of the contributions, ``["H-H", "H-O", "O-O"]``; those with two elements are cross terms."""
    return [f"{first}-{second}" for first, second in combinations_with_replacement(elements, 2)]


def nyquist(sampling_interval: float) -> float:
    """The highest wavenumber that samples at this interval (fs) tell from lower ones, in cm^-1."""
    return 1.0 / (2.0 * SPEED_OF_LIGHT * sampling_interval)


def correlation_length(resolution: float, window: str) -> float:
    """The largest lag of a window that shows a sharp line with this full width at half maximum.

    Args:
        resolution: In cm^-1.
        window: One of ``WINDOWS``.

    Returns:
        A time in fs.

    Raises:
        SpectrumError: If there is no such window, or the resolution is not positive.
    """
    if window not in WINDOWS:
        raise SpectrumError(f"window {window!r} is not known; choose one of {', '.join(WINDOWS)}")
    if not (np.isfinite(resolution) and resolution > 0):
        raise SpectrumError(f"the resolution must be a positive wavenumber in cm^-1, got {resolution}")
    if window == "gaussian":
        return float(_CUT * _GAUSSIAN_FWHM / (2.0 * np.pi * SPEED_OF_LIGHT * resolution))
    return _WIDTH[window] / (2.0 * SPEED_OF_LIGHT * resolution)


def lag_window(n_lags: int, window: str) -> np.ndarray:
    """Values of a lag window at 0 to its end.

    Args:
        n_lags: Number of lags beyond zero.
        window: One of ``WINDOWS``.

    Returns:
        Of shape (n_lags + 1,), 1 at lag zero.
    """
    x = np.arange(n_lags + 1) / max(n_lags, 1)
    if window == "gaussian":
        return np.exp(-0.5 * (_CUT * x) ** 2)
    if window == "hann":
        return 0.5 + 0.5 * np.cos(np.pi * x)
    if window == "blackman":
        return 0.42 + 0.5 * np.cos(np.pi * x) + 0.08 * np.cos(2.0 * np.pi * x)
    return np.ones_like(x)


def correlate(current: np.ndarray, n_lags: int) -> np.ndarray:
    """Correlation functions of all pairs of elements.

    Args:
        current: Of shape (n, n_elements, 3), n > n_lags.
        n_lags: Largest lag, in rows.

    Returns:
        Of shape (n_pairs, n_lags + 1), in the order of ``pairs`` and the square of the unit of ``current``. A cross
        term holds C_ef + C_fe, so that the sum over pairs is the correlation of the total current.
    """
    n = len(current)
    length = next_fast_len(n + n_lags, real=True)
    transform = rfft(current, length, axis=0)
    samples = n - np.arange(n_lags + 1)
    result = []
    for first, second in combinations_with_replacement(range(current.shape[1]), 2):
        power = np.einsum("fc,fc->f", transform[:, first].conj(), transform[:, second]).real
        result.append((1.0 if first == second else 2.0) * irfft(power, length)[: n_lags + 1] / samples)
    return np.array(result)


def spectral_density(
    correlation: np.ndarray, sampling_interval: float, spacing: float, n_points: int, window: str
) -> np.ndarray:
    """Transform correlation functions, S(w) of the module.

    Args:
        correlation: From lag 0 on, of shape (..., n_lags + 1).
        sampling_interval: Time between two lags, in fs.
        spacing: Distance of two wavenumbers, in cm^-1; the first is 0.
        n_points: Number of wavenumbers.
        window: One of ``WINDOWS``; it ends at the last lag.

    Returns:
        Of shape (..., n_points), in the unit of ``correlation`` times fs.
    """
    windowed = correlation * lag_window(correlation.shape[-1] - 1, window)
    angle = 2.0 * np.pi * SPEED_OF_LIGHT * spacing * sampling_interval
    one_sided = _transform(windowed.shape[-1], n_points, angle)(windowed).real
    result: np.ndarray = sampling_interval * (2.0 * one_sided - windowed[..., :1])
    return result


@lru_cache(maxsize=8)
def _transform(n: int, n_points: int, angle: float) -> CZT:
    """A Fourier transform to any even grid; its preparation costs more than its use."""
    return CZT(n, n_points, np.exp(-1j * angle))
