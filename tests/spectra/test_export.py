import json
from dataclasses import replace

import numpy as np
import pytest

from bec_mace.errors import SpectrumError
from bec_mace.spectra import (
    find_peaks,
    infrared_spectrum,
    plot_overlay,
    plot_spectrum,
    read_curve,
    to_dict,
    write_csv,
    write_json,
)
from tests.spectra.oscillators import harmonic, make


@pytest.fixture(scope="module")
def runs():
    return [
        make(harmonic(6000, 1.0, (3403.3, 1652.0), (0.4, -0.8), (1.008, 15.999), 300.0, phase), 1.0) for phase in (0.1, 0.7)
    ]


@pytest.fixture(scope="module")
def spectrum(runs):
    return infrared_spectrum(runs, resolution=40.0, epsilon_infinity=1.7)


def test_csv_holds_every_number(spectrum, tmp_path):
    write_csv(spectrum, tmp_path / "ir.csv")
    lines = (tmp_path / "ir.csv").read_text().splitlines()
    comments = {line[2:].split(": ")[0]: json.loads(line.split(": ", 1)[1]) for line in lines if line.startswith("#")}
    assert comments == spectrum.meta and comments["epsilon_infinity"] == 1.7 and comments["resolution_cm-1"] == 40.0
    names = lines[len(comments)].split(",")
    assert names[:4] == [
        "wavenumber_cm-1",
        "n_alpha_cm-1",
        "n_alpha_standard_error_cm-1",
        "n_alpha_standard_error_of_runs_cm-1",
    ]
    assert {"epsilon_imaginary", "epsilon_real", "n_alpha_H-H_cm-1", "n_alpha_H-O_cm-1"} < set(names)
    table = dict(zip(names, np.loadtxt(tmp_path / "ir.csv", delimiter=",", skiprows=len(comments) + 1).T, strict=True))
    np.testing.assert_allclose(table["n_alpha_cm-1"], spectrum.n_alpha, rtol=1e-7)
    np.testing.assert_allclose(table["epsilon_real"], spectrum.epsilon_real, rtol=1e-7)
    shares = sum(table[f"n_alpha_{name}_cm-1"] for name in ("H-H", "H-O", "O-O"))
    np.testing.assert_allclose(shares, table["n_alpha_cm-1"], atol=1e-6 * spectrum.n_alpha.max())
    x, y = read_curve(tmp_path / "ir.csv")
    np.testing.assert_allclose(x, spectrum.wavenumber)
    np.testing.assert_allclose(y, spectrum.n_alpha, rtol=1e-7)


def test_json_has_null_for_what_is_not_known(runs, tmp_path):
    one = infrared_spectrum(runs[0], resolution=40.0, blocks=1)
    write_json(one, tmp_path / "ir.json")
    numbers = json.loads((tmp_path / "ir.json").read_text())
    assert numbers["columns"]["n_alpha_standard_error_cm-1"][5] is None
    assert numbers["peaks"][0]["standard_error_cm-1"] is None
    assert "n_alpha_standard_error_of_runs_cm-1" not in numbers["columns"]
    np.testing.assert_array_equal(numbers["columns"]["n_alpha_cm-1"], one.n_alpha)
    assert numbers["area_cm-2"] == pytest.approx(one.area()) and numbers == to_dict(one)
    assert [path.name for path in tmp_path.iterdir()] == ["ir.json"]


def test_peaks_lie_between_the_points(spectrum):
    peaks = find_peaks(spectrum)
    assert [peak.wavenumber for peak in peaks] == pytest.approx([1652.0, 3403.3], abs=0.5)
    assert all(peak.height >= spectrum.n_alpha[np.argmin(abs(spectrum.wavenumber - peak.wavenumber))] for peak in peaks)
    assert all(peak.height == pytest.approx(peak.prominence, rel=0.02) and peak.error >= 0 for peak in peaks)
    noisy = replace(spectrum, n_alpha_error=np.where(spectrum.wavenumber < 2000.0, 0.5, 1e-3) * peaks[0].height)
    assert [round(peak.wavenumber) for peak in find_peaks(noisy)] == [3403]
    # The strengths are q^2/m: the second is 3.97 times the first, less is asked of it than all of it.
    assert len(find_peaks(spectrum, 0.5)) == 1
    with pytest.raises(SpectrumError, match="the prominence is a share of the highest absorption, between 0 and 1; got 2"):
        find_peaks(spectrum, 2.0)


def test_curves_that_cannot_be_read(tmp_path):
    path = tmp_path / "curve.csv"
    with pytest.raises(SpectrumError, match="curve.csv: cannot be read"):
        read_curve(path)
    path.write_text("# only words\n")
    with pytest.raises(SpectrumError, match="has no column wavenumber_cm-1 and no column n_alpha_cm-1"):
        read_curve(path)
    path.write_text("wavenumber_cm-1,k\n1,2\n")
    with pytest.raises(SpectrumError, match="has no column n_alpha_cm-1; name the columns in the first row"):
        read_curve(path)
    path.write_text("wavenumber_cm-1,n_alpha_cm-1\n1,2\n3,much\n")
    with pytest.raises(SpectrumError, match="a row is not made of numbers"):
        read_curve(path)


def test_pictures(spectrum, tmp_path):
    curve = (np.array([0.0, 2000.0, 4000.0]), np.array([0.0, 500.0, 100.0]))
    plot_spectrum(spectrum, tmp_path / "a.png", curve, "experiment", find_peaks(spectrum))
    plot_spectrum(spectrum, tmp_path / "b.pdf")
    plot_overlay({"one": spectrum, "two": spectrum}, tmp_path / "c.png", curve)
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (tmp_path / "b.pdf").stat().st_size > 1000 and (tmp_path / "c.png").stat().st_size > 10000


def test_public_names_resolve():
    import bec_mace.spectra as package

    assert all(getattr(package, name) for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'raman'"):
        getattr(package, "raman")  # noqa: B009
