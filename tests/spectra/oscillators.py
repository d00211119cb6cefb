"""Currents with a known spectrum."""

import numpy as np
from scipy import constants as si

from bec_mace.spectra import Currents

FS, ANGSTROM = 1e-15, 1e-10
CM = 2.0 * np.pi * si.c * 100.0  # angular frequency of 1 cm^-1, in 1/s


def thermal_speed(temperature, mass):
    """Root mean square of one component of a velocity, in Å/fs; mass in u."""
    return np.sqrt(si.k * temperature / (mass * si.atomic_mass)) * FS / ANGSTROM


def make(current, interval, temperature=300.0, volume=1000.0, elements=("H", "O"), **kwargs):
    """Currents of shape (n, n_elements, 3) at even intervals."""
    n = len(current)
    return Currents(
        time=interval * np.arange(n),
        current=current,
        temperature=np.full(n, float(temperature)),
        volume=np.full(n, float(volume)),
        elements=tuple(elements),
        sampling_interval_fs=interval,
        **kwargs,
    )


def harmonic(n, interval, wavenumber, charges, masses, temperature, phase=0.3):
    """Two charges on springs, each moving in x, y and z with the speed of temperature.

    Returns their currents, of shape (n, 2, 3), in e Å/fs.
    """
    angle = CM * FS * np.asarray(wavenumber) * interval * np.arange(n)[:, None] + phase * np.arange(2)
    speeds = np.sqrt(2.0) * np.array([thermal_speed(temperature, mass) for mass in masses])
    axes = np.stack([np.sin(angle), np.cos(angle), np.sin(angle + 1.0)], axis=-1)
    return np.asarray(charges)[:, None] * speeds[:, None] * axes


def langevin(generator, n_runs, n, interval, wavenumber, friction, charge, mass, temperature):
    """Exact samples of damped oscillators in equilibrium: currents of shape (n_runs, n, 3).

    The state (x, v) is a linear Gaussian process: mean propagated by exp(A t), noise from the stationary covariance.
    """
    from scipy.linalg import expm

    omega, gamma = CM * FS * wavenumber, CM * FS * friction
    speed = thermal_speed(temperature, mass)
    covariance = np.diag([speed**2 / omega**2, speed**2])
    step = expm(np.array([[0.0, 1.0], [-(omega**2), -gamma]]) * interval)
    noise = np.linalg.cholesky(covariance - step @ covariance @ step.T)
    state = np.linalg.cholesky(covariance) @ generator.normal(size=(2, 3 * n_runs))
    velocities = np.empty((n, 3 * n_runs))
    for row in velocities:
        row[:] = state[1]
        state = step @ state + noise @ generator.normal(size=state.shape)
    return charge * velocities.reshape(n, n_runs, 3).transpose(1, 0, 2)


def langevin_absorption(wavenumber, center, friction, charge, mass, volume):
    """n alpha of one damped oscillator in three dimensions, in cm^-1, from SI units throughout."""
    w, w0, gamma = CM * np.asarray(wavenumber), CM * center, CM * friction
    strength = (charge * si.e) ** 2 / (mass * si.atomic_mass * si.epsilon_0 * volume * ANGSTROM**3)
    loss = strength * gamma * w / ((w0**2 - w**2) ** 2 + (gamma * w) ** 2)
    return w * loss / si.c / 100.0


def area(charge, mass, volume):
    """Integral of n alpha over wavenumbers of charges on springs, in cm^-2: pi q^2 / (2 c eps0 m V) / (2 pi c)."""
    charge, mass = np.asarray(charge), np.asarray(mass)
    squared = np.sum((charge * si.e) ** 2 / (mass * si.atomic_mass)) / (si.epsilon_0 * volume * ANGSTROM**3)
    return 0.5 * np.pi * squared / si.c / (2.0 * np.pi * si.c) / 100.0**2
