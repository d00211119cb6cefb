"""From the spectrum of the current to absorption and to the dielectric function.

For an isotropic system of volume V at temperature T, coupled linearly to a uniform field, the polarization of the
nuclei in classical mechanics responds with the conductivity (Kubo), whose real part absorbs:

    n(w) alpha(w) = w eps''(w) / c = 1 / (6 eps0 c V k T)  S(w),     S(w) = integral <J(0) . J(t)> exp(-i w t) dt     (1)

over all times, J = dM/dt the current of the whole cell. alpha = 2 w k / c is the Napierian (natural logarithm) absorption
coefficient of the intensity, n + i k the complex refractive index, and w = 2 pi c times the wavenumber.

Quantum correction. Absorption is n alpha ~ w (1 - exp(-x)) I(w), x = hbar w / k T, with I the transform of the quantum
correlation of dipoles. A classical run gives its classical counterpart, to be multiplied by a factor Q(w):

    harmonic    Q = x / (1 - exp(-x))     exact for harmonic nuclei; Q (1 - exp(-x)) = x gives back equation (1)
    none        Q = 1                     equation (1) times (1 - exp(-x)) / x

So the plain classical response, equation (1), is the harmonically corrected one, and ``none`` is the lower curve. Only
``harmonic`` obeys the sum rule for rigid charges q and masses m,

    integral_0^inf w eps''(w) dw = pi / 2  sum_j q_j^2 / (eps0 m_j V).                                               (2)

Dispersion. eps' follows from eps'' at all wavenumbers (Kramers and Kronig),

    eps'(w) = eps_inf + 2 / pi  P integral_0^inf  w' eps''(w') / (w'^2 - w^2) dw',                                   (3)

with eps_inf of the electrons, which the nuclei cannot tell.

Sources: R. Kubo, J. Phys. Soc. Jpn. 12, 570 (1957); D. A. McQuarrie, Statistical Mechanics (1976), chapter 21 for (1);
R. Ramirez, T. Lopez-Ciudad, P. Kumar P, D. Marx, J. Chem. Phys. 121, 3973 (2004) for the quantum corrections;
J. E. Bertie and Z. Lan, Appl. Spectrosc. 50, 1047 (1996) for n alpha and k of liquid water.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.signal import fftconvolve

from bec_mace.errors import SpectrumError
from bec_mace.units import BOLTZMANN, COULOMB_CONSTANT, PLANCK, SPEED_OF_LIGHT

QUANTUM_CORRECTIONS = ("harmonic", "none")
"""What a classical run is multiplied with; see the module."""

# Beyond this distance the kernel is its expansion; the differences of logarithms lose digits there.
_FAR = 200.0


def absorption_prefactor(temperature: float, volume: float) -> float:
    """The factor of S(w) in equation (1).

    Args:
        temperature: In K.
        volume: In Å^3.

    Returns:
        In cm^-1 for S in e^2 Å^2/fs.
    """
    return 4.0 * np.pi * COULOMB_CONSTANT / (6.0 * SPEED_OF_LIGHT * volume * BOLTZMANN * temperature)


def quantum_factor(wavenumber: np.ndarray, temperature: float, correction: str) -> np.ndarray:
    """What equation (1) is multiplied with for a quantum correction: 1, or (1 - exp(-x)) / x.

    Args:
        wavenumber: In cm^-1.
        temperature: In K.
        correction: One of ``QUANTUM_CORRECTIONS``.

    Raises:
        SpectrumError: If there is no such correction.
    """
    if correction not in QUANTUM_CORRECTIONS:
        raise SpectrumError(f"quantum correction {correction!r} is not known; choose one of {', '.join(QUANTUM_CORRECTIONS)}")
    if correction == "harmonic":
        return np.ones_like(wavenumber)
    x = PLANCK * SPEED_OF_LIGHT * np.asarray(wavenumber, dtype=np.float64) / (BOLTZMANN * temperature)
    return np.where(x > 0, -np.expm1(-x) / np.where(x > 0, x, 1.0), 1.0)


def dielectric_loss(wavenumber: np.ndarray, n_alpha: np.ndarray) -> np.ndarray:
    """The imaginary part, eps'' = c n alpha / w, of absorption in cm^-1 at wavenumbers in cm^-1 above zero."""
    return n_alpha / (2.0 * np.pi * wavenumber)


def kramers_kronig(wavenumber: np.ndarray, loss: np.ndarray, epsilon_infinity: float = 1.0) -> np.ndarray:
    """The real part of the dielectric function from its imaginary part, equation (3).

    The product of wavenumber and eps'', which is even and smooth, is taken as straight between the points and zero
    beyond the last; the principal value is exact for that.

    Args:
        wavenumber: Evenly spaced, the first one spacing above zero or zero, of shape (n,), n >= 3, in cm^-1.
        loss: eps'', of shape (..., n).
        epsilon_infinity: The dielectric constant of the electrons.

    Returns:
        eps', of shape (..., n); the value at zero is nan.

    Raises:
        SpectrumError: If the wavenumbers are not such.
    """
    wavenumber, loss = np.asarray(wavenumber, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if wavenumber.ndim != 1 or len(wavenumber) < 3 or loss.shape[-1:] != wavenumber.shape:
        raise SpectrumError(
            f"Kramers-Kronig needs as many values as wavenumbers, at least 3; got shapes {loss.shape} and {wavenumber.shape}"
        )
    spacing = (wavenumber[-1] - wavenumber[0]) / (len(wavenumber) - 1)
    first = round(wavenumber[0] / spacing) if spacing > 0 else -1
    if first not in (0, 1) or not np.allclose(wavenumber, spacing * (first + np.arange(len(wavenumber))), atol=1e-4 * spacing):
        raise SpectrumError(
            "Kramers-Kronig needs evenly spaced wavenumbers that begin at zero or one spacing above; "
            f"got {wavenumber[:3].tolist()} ... {wavenumber[-1]:g} cm^-1"
        )
    product = (wavenumber * loss)[..., 1 - first :]
    # An even function without a slope at zero: a parabola through the first two points.
    origin = (4.0 * product[..., :1] - product[..., 1:2]) / 3.0
    even = np.concatenate([product[..., ::-1], origin, product], axis=-1)
    n = product.shape[-1]
    kernel = _straight_line_kernel(2 * n)
    # Node m of the sum has the kernel at m - k; the convolution runs over k - m, where the odd kernel changes sign.
    integral = -fftconvolve(even, np.broadcast_to(kernel, (*even.shape[:-1], len(kernel))), mode="full", axes=-1)
    real = np.full_like(loss, np.nan)
    positive = integral[..., 3 * n + 1 : 4 * n + 1]
    real[..., 1 - first :] = epsilon_infinity + positive / (np.pi * wavenumber[1 - first :])
    return real


@lru_cache(maxsize=8)
def _straight_line_kernel(reach: int) -> np.ndarray:
    """P integral of (1 - |x|) / (x + d) over -1 < x < 1 for d from -reach to reach, the share of one node."""
    d = np.arange(reach + 1, dtype=np.float64)
    near, far = np.minimum(d, _FAR), np.maximum(d, _FAR)
    value = _x_log_x(near + 1.0) + _x_log_x(near - 1.0) - 2.0 * _x_log_x(near)
    half = np.where(d < _FAR, value, 1.0 / far + 1.0 / (6.0 * far**3))
    return np.concatenate([-half[:0:-1], half])


def _x_log_x(x: np.ndarray) -> np.ndarray:
    """The product of x and log |x|, 0 at 0."""
    return x * np.log(np.where(x != 0, np.abs(x), 1.0))
