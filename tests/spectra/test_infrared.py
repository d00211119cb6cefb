from dataclasses import replace

import numpy as np
import pytest
from scipy import constants as si
from scipy.integrate import trapezoid

from bec_mace.errors import SpectrumError
from bec_mace.spectra import infrared_spectrum
from bec_mace.spectra.currents import DIFFERENCES
from tests.spectra.oscillators import CM, FS, area, harmonic, langevin, langevin_absorption, make


@pytest.mark.parametrize(("window", "interval"), [("gaussian", 0.5), ("hann", 2.0), ("blackman", 1.0)])
def test_harmonic_charges_absorb_where_they_should_and_as_much(window, interval):
    charges, masses, centers, volume, temperature = (0.41, -0.82), (1.008, 15.999), (3404.4, 1647.7), 833.0, 317.0
    current = harmonic(round(20000 / interval), interval, centers, charges, masses, temperature)
    spectrum = infrared_spectrum(
        make(current, interval, temperature, volume), resolution=12.0, window=window, blocks=1, spacing=1.0
    )
    x = spectrum.wavenumber
    for element, low, high, center, charge, mass in (
        ("H", 3200, 3600, *np.transpose([centers, charges, masses])[0]),
        ("O", 1450, 1850, *np.transpose([centers, charges, masses])[1]),
    ):
        there = (x > low) & (x < high)
        line = spectrum.contributions[f"{element}-{element}"][there]
        assert x[there][np.argmax(line)] == pytest.approx(center, abs=0.6)
        assert trapezoid(line, x[there]) == pytest.approx(area(charge, mass, volume), rel=0.01)
        assert spectrum.area(low, high) == pytest.approx(area(charge, mass, volume), rel=0.01)
        # A sharp line has the width that was asked for.
        wide = x[there][line > 0.5 * line.max()]
        assert wide[-1] - wide[0] == pytest.approx(12.0, abs=1.5)


def test_langevin_oscillator_has_its_line_shape_and_error(rng):
    center, friction, charge, mass, volume, temperature, interval = 1050.0, 300.0, 0.7, 2.5, 450.0, 290.0, 2.0
    samples = langevin(rng, 100, 25000, interval, center, friction, charge, mass, temperature)
    runs = [make(run[:, None], interval, temperature, volume, ("O",)) for run in samples]
    spectrum = infrared_spectrum(runs, resolution=30.0, max_wavenumber=4000.0, blocks=4)
    expected = langevin_absorption(spectrum.wavenumber, center, friction, charge, mass, volume)
    assert np.abs(spectrum.n_alpha - expected).max() < 0.02 * expected.max()
    # The standard errors over blocks and over runs tell how far off it is.
    band = np.abs(spectrum.wavenumber - center) < 300.0
    for error in (spectrum.n_alpha_error, spectrum.n_alpha_error_runs):
        score = ((spectrum.n_alpha - expected) / error)[band]
        assert 0.4 < np.sqrt(np.mean(score**2)) < 1.8
        assert error[band].max() < 0.015 * expected.max()


def test_sum_rule_of_rigid_charges(rng):
    """Equation (2): the integral of w eps'' is pi/2 sum q^2 / (eps0 m V), whatever the springs and the friction."""
    volume, temperature, interval = 512.0, 340.0, 1.0
    light = langevin(rng, 60, 10000, interval, 2900.0, 400.0, 0.5, 1.008, temperature)
    heavy = langevin(rng, 60, 10000, interval, 700.0, 300.0, -1.1, 15.999, temperature)
    runs = [make(np.stack(pair, axis=1), interval, temperature, volume) for pair in zip(light, heavy, strict=True)]
    spectrum = infrared_spectrum(runs, resolution=25.0, max_wavenumber=16000.0, blocks=1)
    w = CM * spectrum.wavenumber
    integral = trapezoid(w * spectrum.epsilon_imaginary, w)
    squared = sum((q * si.e) ** 2 / (m * si.atomic_mass) for q, m in ((0.5, 1.008), (-1.1, 15.999)))
    expected = 0.5 * np.pi * squared / (si.epsilon_0 * volume * 1e-30)
    # 60 runs of 10 ps tell the mean square velocities to about half a per cent.
    assert integral == pytest.approx(expected, rel=0.01)
    assert spectrum.area() == pytest.approx(area([0.5, -1.1], [1.008, 15.999], volume), rel=0.01)


def test_dispersion_of_a_langevin_oscillator(rng):
    center, friction, charge, mass, volume, temperature, interval = 1200.0, 250.0, 1.3, 4.0, 300.0, 310.0, 3.0
    samples = langevin(rng, 60, 25000, interval, center, friction, charge, mass, temperature)
    runs = [make(run[:, None], interval, temperature, volume, ("O",)) for run in samples]
    spectrum = infrared_spectrum(runs, resolution=25.0, epsilon_infinity=1.78, max_wavenumber=3000.0, blocks=1)
    w, w0, gamma = CM * spectrum.wavenumber, CM * center, CM * friction
    strength = (charge * si.e) ** 2 / (mass * si.atomic_mass * si.epsilon_0 * volume * 1e-30)
    epsilon = 1.78 + strength / (w0**2 - w**2 - 1j * gamma * w)
    there = spectrum.wavenumber > 100.0
    scale = np.abs(epsilon.imag).max()
    assert np.abs(spectrum.epsilon_imaginary - epsilon.imag)[there].max() < 0.04 * scale
    assert np.abs(spectrum.epsilon_real - epsilon.real)[there].max() < 0.04 * scale
    assert np.abs(spectrum.epsilon_real - epsilon.real)[there].max() < 6 * spectrum.epsilon_real_error[there].max()


def test_quantum_corrections_differ_by_their_ratio():
    current = harmonic(8000, 1.0, (3400.0, 500.0), (0.4, -0.8), (1.0, 16.0), 300.0)
    kwargs = {"resolution": 30.0, "blocks": 2}
    run = make(current, 1.0, 300.0)
    harmonic_, none = (infrared_spectrum(run, quantum_correction=name, **kwargs) for name in ("harmonic", "none"))
    x = si.h * si.c * 100.0 * harmonic_.wavenumber / (si.k * 300.0)
    np.testing.assert_allclose(harmonic_.n_alpha, none.n_alpha * x / (1.0 - np.exp(-x)), rtol=1e-8)
    assert harmonic_.n_alpha.max() > 1e3 * abs(np.median(harmonic_.n_alpha))


def test_contributions_sum_to_the_total_and_cross_terms_interfere():
    angle = CM * FS * 1000.0 * np.arange(6000)
    light, heavy = np.zeros((6000, 3)), np.zeros((6000, 3))
    light[:, 1], heavy[:, 1] = 3.0 * np.sin(angle), -1.0 * np.sin(angle)
    spectrum = infrared_spectrum(make(np.stack([light, heavy], axis=1), 1.0), resolution=20.0)
    assert list(spectrum.contributions) == ["H-H", "H-O", "O-O"]
    np.testing.assert_array_equal(sum(spectrum.contributions.values()), spectrum.n_alpha)
    top = np.argmax(spectrum.n_alpha)
    auto = spectrum.contributions["H-H"][top]
    # (3 - 1)^2 = 9 - 6 + 1.
    np.testing.assert_allclose([spectrum.contributions[name][top] / auto for name in ("H-O", "O-O")], [-6 / 9, 1 / 9])
    whole = infrared_spectrum(make((light + heavy)[:, None], 1.0, elements=("H",)), resolution=20.0)
    np.testing.assert_allclose(whole.n_alpha, spectrum.n_alpha, atol=1e-9 * auto)
    np.testing.assert_allclose(whole.n_alpha_error, spectrum.n_alpha_error, atol=1e-9 * auto)


def test_temperature_and_volume_scale_and_can_be_given():
    run = make(harmonic(4000, 1.0, (900.0, 500.0), (0.4, -0.8), (1.0, 16.0), 300.0), 1.0, 250.0, 700.0)
    base = infrared_spectrum(run, resolution=40.0).n_alpha
    np.testing.assert_allclose(infrared_spectrum(run, resolution=40.0, temperature=500.0).n_alpha, 0.5 * base)
    np.testing.assert_allclose(infrared_spectrum(run, resolution=40.0, volume=350.0).n_alpha, 2.0 * base)
    blind = make(run.current, 1.0, np.nan, 700.0)
    with pytest.raises(SpectrumError, match="temperature is not known; give it"):
        infrared_spectrum(blind, resolution=40.0)
    np.testing.assert_allclose(infrared_spectrum(blind, resolution=40.0, temperature=250.0).n_alpha, base)
    with pytest.raises(SpectrumError, match="the volume is not known"):
        infrared_spectrum(make(run.current, 1.0, 300.0, np.nan), resolution=40.0)


def test_runs_of_different_length_and_stride_are_weighted_by_length(rng):
    samples = langevin(rng, 1, 30000, 1.0, 800.0, 150.0, 1.0, 5.0, 300.0)[0][:, None]
    long, short = make(samples[:20000], 1.0, elements=("O",)), make(samples[20000::2], 2.0, elements=("O",))
    kwargs = {"resolution": 40.0, "max_wavenumber": 2000.0, "blocks": 1, "subtract_mean": False}
    both = infrared_spectrum([long, short], **kwargs)
    parts = [infrared_spectrum(run, **kwargs).n_alpha for run in (long, short)]
    np.testing.assert_allclose(both.n_alpha, (2.0 * parts[0] + parts[1]) / 3.0, rtol=1e-12)
    mean = both.n_alpha
    expected = np.sqrt(2.0 * ((2 / 3) ** 2 * (parts[0] - mean) ** 2 + (1 / 3) ** 2 * (parts[1] - mean) ** 2))
    np.testing.assert_allclose(both.n_alpha_error_runs, expected, rtol=1e-9)
    assert np.isnan(infrared_spectrum(long, **kwargs).n_alpha_error).all()


def test_a_drifting_cell_shows_only_where_the_mean_is_kept():
    current = harmonic(8000, 1.0, (1500.0, 500.0), (0.4, -0.8), (1.0, 16.0), 300.0)
    clean = infrared_spectrum(make(current, 1.0), resolution=30.0)
    drift = make(current + 0.05, 1.0)
    scale = clean.n_alpha.max()
    np.testing.assert_allclose(infrared_spectrum(drift, resolution=30.0).n_alpha, clean.n_alpha, atol=1e-9 * scale)
    kept = infrared_spectrum(drift, resolution=30.0, subtract_mean=False)
    assert kept.n_alpha[0] > 5.0 * scale and kept.meta["mean_current"] == "kept"


def test_central_differences_are_corrected_and_end_at_half_the_band():
    current = harmonic(6000, 2.0, (3400.0, 900.0), (0.4, -0.8), (1.0, 16.0), 300.0)
    exact = infrared_spectrum(make(current, 2.0), resolution=30.0, max_wavenumber=4000.0)
    damping = np.sinc(CM * FS * np.array([3400.0, 900.0]) * 2.0 / np.pi)[:, None]
    damped = make(current * damping, 2.0, method=DIFFERENCES)
    spectrum = infrared_spectrum(damped, resolution=30.0, max_wavenumber=4000.0)
    # Without the correction the stretch would be 44 % too low.
    assert damping[0, 0] ** 2 == pytest.approx(0.56, abs=0.01)
    assert spectrum.n_alpha.max() == pytest.approx(exact.n_alpha.max(), rel=0.01)
    assert spectrum.area(3200, 3600) == pytest.approx(exact.area(3200, 3600), rel=0.01)
    with pytest.raises(SpectrumError, match=r"up to 4170 cm\^-1 apart \(central differences"):
        infrared_spectrum(damped, max_wavenumber=5000.0)


def test_skip_and_defaults(caplog):
    run = make(harmonic(6000, 1.0, (900.0, 500.0), (0.4, -0.8), (1.0, 16.0), 300.0), 1.0)
    spectrum = infrared_spectrum(run, resolution=40.0, skip_fs=1000.0)
    assert spectrum.meta["length_ps"] == [5.0] and spectrum.wavenumber[-1] == 4500.0
    assert spectrum.wavenumber[0] == 10.0 and spectrum.meta["blocks"] == [2]
    # 5 fs reach 3336 cm^-1 only.
    assert infrared_spectrum(make(run.current, 5.0), resolution=40.0).wavenumber[-1] == 3330.0
    assert "currents: the spectrum ends at 3336 cm^-1, as far as the sampling reaches" in caplog.text


def test_warns_of_folded_lines_and_of_fields(caplog):
    current = harmonic(6000, 4.0, (4100.0, 900.0), (0.4, -0.8), (1.0, 16.0), 300.0)
    infrared_spectrum(make(current, 4.0, field=0.1), resolution=30.0)
    assert "lines fold back" in caplog.text and "field of up to 0.1 V/Å" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_wavenumber": 9000.0}, r"rows every 2 fs tell wavenumbers up to 8339 cm\^-1 apart \(velocities\), 9000"),
        ({"resolution": 1.0}, r"4000 fs are shorter than the correlation of 50005 fs .* above 12.5 cm\^-1"),
        ({"blocks": 50}, "50 blocks of 40 rows are shorter than the correlation"),
        ({"window": "hamming"}, "window 'hamming' is not known; choose one of gaussian"),
        ({"quantum_correction": "wigner"}, "quantum correction 'wigner' is not known"),
        ({"resolution": 0.0}, "resolution must be a positive wavenumber"),
        ({"temperature": -3.0}, "temperature must be positive, got -3.0"),
        ({"skip_fs": -3.0}, "skip_fs must not be negative"),
        ({"skip_fs": 1e6}, "has 2000 rows, 4000 fs; skipping 1e"),
        ({"spacing": 50.0}, "spacing 50 cm.* is wider than the resolution"),
        ({"max_wavenumber": 3.0}, "no wavenumber between 5 .* and 3 cm"),
    ],
)
def test_mistakes(settings, message):
    run = make(harmonic(2000, 2.0, (900.0, 500.0), (0.4, -0.8), (1.0, 16.0), 300.0), 2.0)
    with pytest.raises(SpectrumError, match=message):
        infrared_spectrum(run, **settings)


def test_runs_must_be_of_one_system():
    current = harmonic(4000, 2.0, (900.0, 500.0), (0.4, -0.8), (1.0, 16.0), 300.0)
    with pytest.raises(SpectrumError, match="has the elements H, S, currents has H, O"):
        infrared_spectrum([make(current, 2.0), make(current, 2.0, elements=("H", "S"))], resolution=40.0)
    with pytest.raises(SpectrumError, match="no currents"):
        infrared_spectrum([])


def test_the_area_under_few_points():
    current = np.zeros((64, 2, 3))
    current[:, 0, 0] = np.cos(np.arange(64.0))
    spectrum = infrared_spectrum(make(current, 1.0, 300.0, 1000.0), resolution=1000.0, blocks=1)
    coarse = replace(spectrum, wavenumber=np.array([0.0, 1.0, 3.0]), n_alpha=np.array([0.0, 2.0, 6.0]))
    assert coarse.area() == pytest.approx(9.0) and coarse.area(1.0, 3.0) == pytest.approx(8.0)
