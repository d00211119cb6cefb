"""Everything that follows from force constants, Z* and dielectric tensor."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bec_mace.config.phonons import PhononConfig
from bec_mace.phonons.bands import Bands, phonon_bands
from bec_mace.phonons.born import BornCharges
from bec_mace.phonons.modes import GammaModes, LongitudinalModes, gamma_modes, longitudinal_modes
from bec_mace.phonons.optics import OpticalSpectrum, optical_spectrum

logger = logging.getLogger(__name__)

_UNSTABLE = -0.1


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
    phonon: Any, born: BornCharges | None, config: PhononConfig | None = None, meta: dict[str, Any] | None = None
) -> PhononResults:
    """Everything that follows from force constants, Z* and dielectric tensor.

    Args:
        phonon: From ``make_phonon``, with force constants.
        born: Of its primitive cell.
        config: Directions, bands and spectrum; defaults of a configuration otherwise.
        meta: How force constants and Z* were made.
    """
    settings = config or PhononConfig.model_validate({"structure": "-", "supercell": [1, 1, 1], "potential": "-"})
    if born is not None:
        born.apply(phonon)
    modes = gamma_modes(phonon, born)
    _warn_of_instability(modes)
    longitudinal, spectrum = [], None
    if born is not None:
        longitudinal = [longitudinal_modes(phonon, modes, np.array(one)) for one in settings.directions]
        if modes.epsilon_static is None:
            logger.warning("a polar mode has an imaginary frequency, so there are no static dielectric tensor and no spectrum")
        else:
            optics = settings.spectrum
            spectrum = optical_spectrum(
                modes, optics.damping, np.array(optics.polarizations), optics.max_wavenumber, optics.spacing
            )
    bands = None if settings.bands is None else phonon_bands(phonon, settings.bands.path, settings.bands.points)
    return PhononResults(phonon, modes, longitudinal, spectrum, bands, dict(meta or {}))


def _warn_of_instability(modes: GammaModes) -> None:
    lowest = float(modes.frequencies[~modes.is_acoustic].min(initial=np.inf))
    if lowest < _UNSTABLE:
        logger.warning("the lowest optical mode at Gamma is imaginary (%.2fi THz): the structure is no minimum", -lowest)
    drift = float(np.abs(modes.frequencies[modes.is_acoustic]).max())
    if drift > -_UNSTABLE:
        logger.warning(
            "acoustic modes at Gamma are at %.2f THz in place of 0: force constants break translational symmetry", drift
        )
