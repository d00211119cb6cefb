r"""What a crystal does with infrared light: dielectric function, absorption and reflectivity of damped modes.

With the modes, strengths and volume of :mod:`bec_mace.phonons.modes`, and one damping for all modes,

.. math:: \epsilon_{ab}(\omega) = \epsilon^\infty_{ab}
          + \frac{4 \pi k_e}{V} \sum_m \frac{S_{m,ab}}{\omega_m^2 - \omega^2 - i \gamma \omega} .                     (1)

Light of electric field along the unit vector u sees :math:`\epsilon_u = u \cdot \epsilon \cdot u`, which is exact where u is a
principal axis. With :math:`n + i k = \sqrt{\epsilon_u}`, absorption of the intensity (Napierian) and reflectivity at normal
incidence are

.. math:: \alpha = 4 \pi \tilde\nu k, \qquad
          R = \left| \frac{\sqrt{\epsilon_u} - 1}{\sqrt{\epsilon_u} + 1} \right|^2 .                                   (2)

Sources: X. Gonze and C. Lee, Phys. Rev. B 55, 10355 (1997) for (1) without damping; M. Born and K. Huang, Dynamical Theory of
Crystal Lattices (1954), chapter II, for damped oscillators; M. Born and E. Wolf, Principles of Optics, on the optics of metals,
for (2).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from bec_mace.errors import PhononError
from bec_mace.phonons.lattice import THZ
from bec_mace.phonons.modes import GammaModes
from bec_mace.units import SPEED_OF_LIGHT

logger = logging.getLogger(__name__)

CM_PER_THZ = 1e-3 / SPEED_OF_LIGHT
"""Wavenumbers in cm^-1 of a frequency of 1 THz."""
_MOST_POINTS = 1_000_000
_MIXING = 1e-3


@dataclass(frozen=True)
class OpticalSpectrum:
    """Infrared optics along some polarizations.

    Attributes:
        wavenumber: Of shape (n,), in cm^-1.
        polarizations: Unit vectors, of shape (n_directions, 3).
        epsilon: u·epsilon·u for each polarization, complex, of shape (n, n_directions).
        absorption: Of shape (n, n_directions), in cm^-1.
        reflectivity: Of shape (n, n_directions).
        n_alpha: Refractive index times absorption of an average over directions, omega tr(eps'')/3c, of shape (n,), in cm^-1.
        damping: In cm^-1.
    """

    wavenumber: np.ndarray
    polarizations: np.ndarray
    epsilon: np.ndarray
    absorption: np.ndarray
    reflectivity: np.ndarray
    n_alpha: np.ndarray
    damping: float


def dielectric_function(modes: GammaModes, wavenumber: np.ndarray, damping: float) -> np.ndarray:
    """Equation (1).

    Args:
        modes: With Z* and dielectric tensor.
        wavenumber: Of shape (n,), in cm^-1.
        damping: gamma / 2 pi c in cm^-1.

    Returns:
        Complex, of shape (n, 3, 3); the imaginary part is positive where light is absorbed.

    Raises:
        PhononError: There is no Z*, or a polar mode is unstable.
    """
    if modes.born is None or modes.epsilon_static is None:
        lowest = "" if modes.born is None else f"; the lowest is at {modes.frequencies[modes.is_polar].min():.2f} THz"
        reason = "no Z*" if modes.born is None else f"a polar mode of imaginary frequency{lowest}"
        raise PhononError(f"there is no infrared spectrum with {reason}; look at the structure, which must be relaxed")
    per_thz = CM_PER_THZ * THZ
    squares = modes.eigenvalues[modes.is_polar] * per_thz**2
    strengths = modes.oscillator_strengths[modes.is_polar] * modes.field_factor * per_thz**2
    x = np.asarray(wavenumber, dtype=np.float64)
    response = 1.0 / (squares[None] - x[:, None] ** 2 - 1j * damping * x[:, None])
    return np.asarray(modes.born.epsilon[None] + np.einsum("nm,mab->nab", response, strengths))


def optical_spectrum(
    modes: GammaModes,
    damping: float = 10.0,
    polarizations: np.ndarray | None = None,
    max_wavenumber: float | None = None,
    spacing: float = 1.0,
) -> OpticalSpectrum:
    """Absorption and reflectivity.

    Args:
        modes: With Z* and dielectric tensor.
        damping: Of all modes, in cm^-1: the full width of a line of eps''.
        polarizations: Of shape (n_directions, 3), of any length; the Cartesian axes by default. There is a warning where one
            is no principal axis.
        max_wavenumber: In cm^-1; 1.3 times the highest mode by default.
        spacing: Of wavenumbers, in cm^-1.

    Raises:
        PhononError: There is no Z*, a polar mode is unstable, or there are too many wavenumbers.
    """
    last = max_wavenumber or 1.3 * float(modes.frequencies.max()) * CM_PER_THZ
    if last / spacing > _MOST_POINTS:
        raise PhononError(
            f"spectrum: {last / spacing:.3g} wavenumbers are too many; take a larger spacing than {spacing:g} cm^-1"
        )
    x = np.arange(0.0, last + 0.5 * spacing, spacing)
    tensor = dielectric_function(modes, x, damping)
    given = np.eye(3) if polarizations is None else np.array(polarizations, dtype=np.float64)
    units = given / np.linalg.norm(given, axis=1)[:, None]
    displaced = np.einsum("nab,db->nda", tensor, units)
    epsilon = np.einsum("nda,da->nd", displaced, units)
    across = np.linalg.norm(displaced - epsilon[..., None] * units[None], axis=2) / np.abs(epsilon)
    for unit, mixing in zip(units, across.max(axis=0), strict=True):
        if mixing > _MIXING:
            logger.warning(
                "the polarization %s is no principal axis of the dielectric function (up to %.0f %% of D stands across it): "
                "absorption and reflectivity along it are those of its diagonal element alone",
                np.round(unit, 4).tolist(),
                100 * mixing,
            )
    root = np.sqrt(epsilon)  # eps'' >= 0, so the principal root has n, k >= 0
    return OpticalSpectrum(
        wavenumber=x,
        polarizations=units,
        epsilon=epsilon,
        absorption=4.0 * np.pi * x[:, None] * root.imag,
        reflectivity=np.abs((root - 1.0) / (root + 1.0)) ** 2,
        n_alpha=2.0 * np.pi * x * np.trace(tensor.imag, axis1=1, axis2=2) / 3.0,
        damping=damping,
    )
