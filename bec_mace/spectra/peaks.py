"""Positions and heights of absorption bands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal

from bec_mace.errors import SpectrumError
from bec_mace.spectra.infrared import Spectrum

PROMINENCE = 0.05
"""Least prominence of a peak unless told otherwise, as a share of the highest absorption."""

# Less prominence than this many standard errors is noise.
_SIGNIFICANT = 3.0


@dataclass(frozen=True)
class Peak:
    """A local maximum of n alpha.

    Attributes:
        wavenumber: Of the parabola through the three highest points, in cm^-1.
        height: Of that parabola, in cm^-1.
        error: Standard error of the spectrum at the highest point, in cm^-1; nan from one block.
        prominence: How far the maximum stands above the higher of the two valleys beside it, in cm^-1.
    """

    wavenumber: float
    height: float
    error: float
    prominence: float


def find_peaks(spectrum: Spectrum, prominence: float = PROMINENCE) -> list[Peak]:
    """List the maxima of a spectrum by wavenumber; those within three standard errors of noise are left out.

    Args:
        spectrum: From ``infrared_spectrum``.
        prominence: Least prominence, as a share of the highest absorption.

    Raises:
        SpectrumError: If ``prominence`` is not between 0 and 1.
    """
    if not 0 < prominence < 1:
        raise SpectrumError(f"the prominence is a share of the highest absorption, between 0 and 1; got {prominence:g}")
    x, y = spectrum.wavenumber, spectrum.n_alpha
    indices, features = signal.find_peaks(y, prominence=prominence * float(np.max(y)))
    peaks = []
    for index, height in zip(indices, features["prominences"], strict=True):
        if height < _SIGNIFICANT * spectrum.n_alpha_error[index]:
            continue
        before, top, after = y[index - 1 : index + 2]
        curvature = before - 2.0 * top + after
        shift = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
        peaks.append(
            Peak(
                wavenumber=float(x[index] + shift * (x[1] - x[0])),
                height=float(top - 0.25 * (before - after) * shift),
                error=float(spectrum.n_alpha_error[index]),
                prominence=float(height),
            )
        )
    return peaks
