"""The current of a ring polymer."""

from dataclasses import replace

import numpy as np
import pytest

from bec_mace.errors import SpectrumError
from bec_mace.spectra import infrared_spectrum, mean_of_beads
from tests.spectra.oscillators import harmonic, make


def make_beads(centroid, count=4):
    """Beads whose motion about their centroid is fast, large, and sums to zero."""
    phases = 2 * np.pi * np.arange(count) / count
    return [
        replace(
            centroid,
            current=centroid.current + 3.0 * np.cos(0.9 * centroid.time + phase)[:, None, None],
            temperature=count * centroid.temperature,
            source=f"pos_{number}",
        )
        for number, phase in enumerate(phases)
    ]


def test_what_beads_do_about_their_centroid_is_not_seen():
    centroid = make(harmonic(5000, 1.0, (3400.0, 1650.0), (0.4, -0.8), (1.008, 15.999), 300.0), 1.0, 300.0)
    beads = make_beads(centroid)
    mean = mean_of_beads(beads, 300.0)
    assert np.allclose(mean.current, centroid.current, atol=1e-12) and (mean.temperature == 300.0).all()
    expected, spectrum = (infrared_spectrum([run], resolution=40.0) for run in (centroid, mean))
    assert np.allclose(spectrum.n_alpha, expected.n_alpha, atol=1e-8 * expected.n_alpha.max())
    # Runs are averaged after they are squared, which beads must not be.
    separate = infrared_spectrum(beads, resolution=40.0, temperature=300.0)
    assert not np.allclose(separate.n_alpha, expected.n_alpha, rtol=0.1, atol=0.1 * expected.n_alpha.max())


def test_beads_that_do_not_belong_together():
    centroid = make(harmonic(500, 1.0, (3400.0, 1650.0), (0.4, -0.8), (1.008, 15.999), 300.0), 1.0, 300.0)
    beads = make_beads(centroid)
    with pytest.raises(SpectrumError, match="needs the trajectories of all beads of one simulation, got one"):
        mean_of_beads(beads[:1], 300.0)
    for other in (
        beads[1].after(10.0),
        replace(beads[1], elements=beads[1].elements[::-1]),
        replace(beads[1], method="others"),
    ):
        with pytest.raises(SpectrumError, match="pos_1: is no bead beside pos_0"):
            mean_of_beads([beads[0], other], 300.0)
