"""Phonons and infrared optics of crystals, and vibrations of molecules, from forces and Born effective charges.

phonopy does the phonons. ``run`` does what a configuration says and writes a folder; ``vibrations`` is for molecules.

Example:
    >>> from bec_mace.phonons import load_phonon_config, run  # doctest: +SKIP
    >>> results = run(load_phonon_config("configs/phonons_nacl.yaml"))  # doctest: +SKIP
    >>> print(results.modes.epsilon_static)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bec_mace.lazy import lazy

if TYPE_CHECKING:
    from bec_mace.config.phonons import PhononConfig, load_phonon_config
    from bec_mace.phonons.analysis import PhononResults, analyse
    from bec_mace.phonons.bands import Bands, phonon_bands
    from bec_mace.phonons.born import BornCharges, from_file, from_model, symmetrise, write_born
    from bec_mace.phonons.from_config import compute, run
    from bec_mace.phonons.lattice import add_force_constants, add_force_sets, add_forces, make_phonon
    from bec_mace.phonons.modes import GammaModes, LongitudinalModes, gamma_modes, longitudinal_modes
    from bec_mace.phonons.molecules import Vibrations, relax_molecule, vibrations
    from bec_mace.phonons.optics import OpticalSpectrum, dielectric_function, optical_spectrum
    from bec_mace.phonons.relaxation import relax
    from bec_mace.phonons.scattering import raman_of_crystal

_HOME = {
    "Bands": "bands",
    "BornCharges": "born",
    "GammaModes": "modes",
    "LongitudinalModes": "modes",
    "OpticalSpectrum": "optics",
    "PhononConfig": "bec_mace.config.phonons",
    "PhononResults": "analysis",
    "Vibrations": "molecules",
    "add_force_constants": "lattice",
    "add_force_sets": "lattice",
    "add_forces": "lattice",
    "analyse": "analysis",
    "compute": "from_config",
    "dielectric_function": "optics",
    "from_file": "born",
    "from_model": "born",
    "gamma_modes": "modes",
    "load_phonon_config": "bec_mace.config.phonons",
    "longitudinal_modes": "modes",
    "make_phonon": "lattice",
    "optical_spectrum": "optics",
    "phonon_bands": "bands",
    "raman_of_crystal": "scattering",
    "relax": "relaxation",
    "relax_molecule": "molecules",
    "run": "from_config",
    "symmetrise": "born",
    "vibrations": "molecules",
    "write_born": "born",
}

__all__ = [
    "Bands",
    "BornCharges",
    "GammaModes",
    "LongitudinalModes",
    "OpticalSpectrum",
    "PhononConfig",
    "PhononResults",
    "Vibrations",
    "add_force_constants",
    "add_force_sets",
    "add_forces",
    "analyse",
    "compute",
    "dielectric_function",
    "from_file",
    "from_model",
    "gamma_modes",
    "load_phonon_config",
    "longitudinal_modes",
    "make_phonon",
    "optical_spectrum",
    "phonon_bands",
    "raman_of_crystal",
    "relax",
    "relax_molecule",
    "run",
    "symmetrise",
    "vibrations",
    "write_born",
]

__getattr__, __dir__ = lazy(__name__, _HOME)
