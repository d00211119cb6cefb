import numpy as np
import pytest
from scipy import constants as si

from bec_mace.errors import SpectrumError
from bec_mace.spectra import kramers_kronig
from bec_mace.spectra.dielectric import absorption_prefactor, dielectric_loss, quantum_factor


def lorentz(x, center, width, strength):
    return strength * center**2 / (center**2 - x**2 - 1j * width * x)


@pytest.mark.parametrize("first", [0.0, 2.0])
def test_kramers_kronig_of_lorentz_oscillators(first):
    x = np.arange(first, 20000.0, 2.0)
    epsilon = 1.78 + lorentz(x, 680.0, 220.0, 0.9) + lorentz(x, 3400.0, 300.0, 0.1)
    real = kramers_kronig(x, epsilon.imag, 1.78)
    there = (x > 0) & (x < 4500.0)
    np.testing.assert_allclose(real[there], epsilon.real[there], atol=2e-4)
    # The static limit is the sum of the strengths.
    assert real[there][0] == pytest.approx(1.78 + 0.9 + 0.1, abs=1e-4)
    assert np.isnan(real[0]) == (first == 0.0)


def test_kramers_kronig_of_a_conductor():
    """Eps'' that rises as 1 / w toward zero, as a conductor's does, has a finite partner."""
    x = np.arange(1.0, 60001.0)
    chi = 1j * 1000.0 / (x * (1.0 - 1j * x / 300.0))
    real = kramers_kronig(x, np.stack([chi.imag, 2.0 * chi.imag]))
    np.testing.assert_allclose(real[0, :3000] - 1.0, chi.real[:3000], atol=1e-3)
    np.testing.assert_allclose(real[1] - 1.0, 2.0 * (real[0] - 1.0), rtol=1e-9)


@pytest.mark.parametrize(
    ("x", "loss", "message"),
    [
        (np.array([1.0, 2.0, 4.0, 5.0]), np.ones(4), "evenly spaced wavenumbers"),
        (np.array([10.0, 11.0, 12.0, 13.0]), np.ones(4), "begin at zero or one spacing above"),
        (np.array([4.0, 3.0, 2.0, 1.0]), np.ones(4), "begin at zero or one spacing above"),
        (np.arange(4.0), np.ones(5), "as many values as wavenumbers"),
    ],
)
def test_kramers_kronig_needs_an_even_grid(x, loss, message):
    with pytest.raises(SpectrumError, match=message):
        kramers_kronig(x, loss)


def test_quantum_factor():
    x = np.array([0.0, 1.0, 208.5, 3400.0])
    assert quantum_factor(x, 300.0, "harmonic").tolist() == [1.0] * 4
    ratio = si.h * si.c * 100.0 * x[1:] / (si.k * 300.0)
    np.testing.assert_allclose(quantum_factor(x, 300.0, "none"), [1.0, *(1.0 - np.exp(-ratio)) / ratio], rtol=1e-9)
    with pytest.raises(SpectrumError, match="quantum correction 'kubo' is not known"):
        quantum_factor(x, 300.0, "kubo")


def test_prefactor_and_loss_in_si():
    # e^2 Å^2/fs in C^2 m^2/s, and 1/m in 1/cm.
    density = si.e**2 * 1e-20 / 1e-15
    expected = density / (6.0 * si.epsilon_0 * si.c * 800e-30 * si.k * 310.0) / 100.0
    assert absorption_prefactor(310.0, 800.0) == pytest.approx(expected, rel=1e-8)
    # Bertie and Lan, 3404 cm^-1: n alpha = 4 pi n k wavenumber and eps'' = 2 n k.
    n, k, wavenumber = 1.32, 0.28, 3404.0
    assert dielectric_loss(np.array([wavenumber]), 4 * np.pi * n * k * wavenumber)[0] == pytest.approx(2 * n * k)
