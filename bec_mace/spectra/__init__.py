"""Currents of molecular dynamics, and infrared spectra from them.

``currents`` holds J(t) and its file, ``trajectory`` makes it from frames and a model, ``spectrum`` turns it into
absorption. The equations are in ``correlation`` and ``dielectric``. Names are imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bec_mace.lazy import lazy

if TYPE_CHECKING:
    from bec_mace.spectra.beads import mean_of_beads
    from bec_mace.spectra.currents import Currents, CurrentsWriter
    from bec_mace.spectra.dielectric import kramers_kronig
    from bec_mace.spectra.export import read_curve, to_dict, write_csv, write_json
    from bec_mace.spectra.from_trajectory import currents_from_trajectory
    from bec_mace.spectra.infrared import Settings, Spectrum, infrared_spectrum
    from bec_mace.spectra.peaks import Peak, find_peaks
    from bec_mace.spectra.plots import plot_overlay, plot_spectrum

_HOME = {
    "Currents": "currents",
    "CurrentsWriter": "currents",
    "Peak": "peaks",
    "Settings": "infrared",
    "Spectrum": "infrared",
    "currents_from_trajectory": "from_trajectory",
    "find_peaks": "peaks",
    "infrared_spectrum": "infrared",
    "kramers_kronig": "dielectric",
    "mean_of_beads": "beads",
    "plot_overlay": "plots",
    "plot_spectrum": "plots",
    "read_curve": "export",
    "to_dict": "export",
    "write_csv": "export",
    "write_json": "export",
}

__all__ = [
    "Currents",
    "CurrentsWriter",
    "Peak",
    "Settings",
    "Spectrum",
    "currents_from_trajectory",
    "find_peaks",
    "infrared_spectrum",
    "kramers_kronig",
    "mean_of_beads",
    "plot_overlay",
    "plot_spectrum",
    "read_curve",
    "to_dict",
    "write_csv",
    "write_json",
]

__getattr__, __dir__ = lazy(__name__, _HOME)
