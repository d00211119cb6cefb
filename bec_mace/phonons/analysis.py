"""Everything that follows from force constants, Z* and dielectric tensor."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bec_mace.config.phonons import BandsConfig, OpticsConfig
from bec_mace.phonons.bands import Bands, phonon_bands
from bec_mace.phonons.born import BornCharges
from bec_mace.phonons.modes import GammaModes, LongitudinalModes, gamma_modes, longitudinal_modes
from bec_mace.phonons.optics import OpticalSpectrum, optical_spectrum

logger = logging.getLogger(__name__)

_UNSTABLE = -0.1
_BANDS, _OPTICS = BandsConfig(), OpticsConfig()


@dataclass(frozen=True)
class PhononResults:
    """What a calculation gives.

    Attributes:
        phonon: phonopy's object, with force constants and Z*.
        modes: At Gamma.
        longitudinal: For each direction; empty without Z*.
        spectrum: None without Z*, or where a polar mode is unstable.
        bands: None where none are asked for.
        meta: How it was made.
    """

    phonon: Any
    modes: GammaModes
    longitudinal: list[LongitudinalModes]
    spectrum: OpticalSpectrum | None
    bands: Bands | None
    meta: dict[str, Any] = field(default_factory=dict)


def analyse(
    phonon: Any,
    born: BornCharges | None = None,
    directions: np.ndarray | None = None,
    bands: BandsConfig | None = _BANDS,
    optics: OpticsConfig = _OPTICS,
    meta: dict[str, Any] | None = None,
    raman_tensors: np.ndarray | None = None,
) -> PhononResults:
    """Modes, longitudinal modes, spectrum and bands.

    Args:
        phonon: From ``make_phonon``, with force constants.
        born: Of its primitive cell; without it there are transverse modes and bands alone.
        directions: Of the wavevector, Cartesian, of shape (n_directions, 3); the axes by default.
        bands: Their path; None for no bands.
        optics: Of the spectrum.
        meta: How force constants and Z* were made.
        raman_tensors: From ``raman_of_crystal``; for Raman activities of the modes.
    """
    if born is not None:
        born.apply(phonon)
    modes = gamma_modes(phonon, born, raman_tensors)
    _warn_of_instability(modes)
    longitudinal, spectrum = [], None
    if born is not None:
        longitudinal = [longitudinal_modes(phonon, modes, one) for one in (np.eye(3) if directions is None else directions)]
        if modes.epsilon_static is None:
            logger.warning("a polar mode has an imaginary frequency, so there are no static dielectric tensor and no spectrum")
        else:
            polarizations = np.array(optics.polarizations)
            spectrum = optical_spectrum(modes, optics.damping, polarizations, optics.max_wavenumber, optics.spacing)
    lines = None if bands is None else phonon_bands(phonon, bands.path, bands.points)
    return PhononResults(phonon, modes, longitudinal, spectrum, lines, dict(meta or {}))


def _warn_of_instability(modes: GammaModes) -> None:
    lowest = float(modes.frequencies[~modes.is_acoustic].min(initial=np.inf))
    if lowest < _UNSTABLE:
        logger.warning("the lowest optical mode at Gamma is imaginary (%.2fi THz): the structure is no minimum", -lowest)
    drift = float(np.abs(modes.frequencies[modes.is_acoustic]).max())
    if drift > -_UNSTABLE:
        logger.warning(
            "acoustic modes at Gamma are at %.2f THz in place of 0: force constants break translational symmetry", drift
        )
