import numpy as np
import pytest
from scipy import constants as si

from bec_mace.errors import SpectrumError
from bec_mace.spectra.correlation import WINDOWS, correlate, correlation_length, lag_window, nyquist, pairs, spectral_density
from bec_mace.spectra.dielectric import absorption_prefactor
from tests.spectra.oscillators import CM, FS, langevin_absorption, thermal_speed


def test_correlate_is_the_double_sum(rng):
    current = rng.normal(size=(37, 3, 3)) + 0.4
    n_lags = 12
    expected = np.zeros((3, 3, n_lags + 1))
    for lag in range(n_lags + 1):
        for n in range(37 - lag):
            expected[:, :, lag] += current[n] @ current[n + lag].T / (37 - lag)
    result = dict(zip(pairs(("H", "O", "Na")), correlate(current, n_lags), strict=True))
    assert list(result) == ["H-H", "H-O", "H-Na", "O-O", "O-Na", "Na-Na"]
    np.testing.assert_allclose(result["O-O"], expected[1, 1], atol=1e-12)
    np.testing.assert_allclose(result["H-Na"], expected[0, 2] + expected[2, 0], atol=1e-12)
    np.testing.assert_allclose(sum(result.values()), expected.sum(axis=(0, 1)), atol=1e-12)


def test_spectral_density_is_the_windowed_sum(rng):
    correlation = rng.normal(size=(2, 21))
    lags = 1.7 * np.arange(21)
    x = 33.0 * np.arange(40)
    for window in WINDOWS:
        weighted = correlation * lag_window(20, window)
        phases = np.cos(CM * FS * x[:, None] * lags)
        expected = 1.7 * (2.0 * phases @ weighted.T - weighted[:, 0]).T
        np.testing.assert_allclose(spectral_density(correlation, 1.7, 33.0, 40, window), expected, atol=1e-11)


@pytest.mark.parametrize("window", WINDOWS)
def test_resolution_is_the_full_width_at_half_maximum(window):
    resolution, interval = 25.0, 0.4
    n_lags = round(correlation_length(resolution, window) / interval)
    line = np.cos(CM * FS * 2000.0 * interval * np.arange(n_lags + 1))
    density = spectral_density(line, interval, 0.05, 60000, window)
    x = 0.05 * np.arange(60000)
    wide = x[density > 0.5 * density.max()]
    assert x[np.argmax(density)] == pytest.approx(2000.0, abs=0.2)
    assert wide[-1] - wide[0] == pytest.approx(resolution, rel=0.02)
    if window == "gaussian":
        assert density.min() > -2e-3 * density.max()


def test_line_shape_of_a_langevin_oscillator_from_its_correlation():
    """Kubo's correlation of a damped oscillator's velocity gives its absorption to a per cent, tails included."""
    center, friction, charge, mass, volume, temperature, interval = 1650.0, 160.0, 0.7, 2.5, 450.0, 290.0, 0.5
    w0, gamma = CM * FS * center, CM * FS * friction
    w1 = np.sqrt(w0**2 - gamma**2 / 4.0)
    n_lags = round(correlation_length(4.0, "gaussian") / interval)
    t = interval * np.arange(n_lags + 1)
    decay = np.exp(-0.5 * gamma * t) * (np.cos(w1 * t) - 0.5 * gamma / w1 * np.sin(w1 * t))
    correlation = 3.0 * (charge * thermal_speed(temperature, mass)) ** 2 * decay
    n_alpha = absorption_prefactor(temperature, volume) * spectral_density(correlation, interval, 2.0, 1500, "gaussian")
    x = 2.0 * np.arange(1500)
    expected = langevin_absorption(x, center, friction, charge, mass, volume)
    assert np.abs(n_alpha - expected).max() < 0.003 * expected.max()
    near = (x > 1000.0) & (x < 2400.0)
    np.testing.assert_allclose(n_alpha[near], expected[near], rtol=0.02)


def test_nyquist_is_one_over_twice_the_interval():
    assert nyquist(0.5) == pytest.approx(1.0 / (2.0 * si.c * 100.0 * 0.5e-15))
    assert nyquist(5.0) == pytest.approx(3335.64, abs=0.01)


def test_unknown_window():
    with pytest.raises(SpectrumError, match="window 'boxcar' is not known; choose one of gaussian, hann, blackman, none"):
        correlation_length(10.0, "boxcar")
