"""Coulomb's law for smeared multipoles: molecules, slabs and crystals, of any size. It knows no network."""

from __future__ import annotations

from bec_mace.electrostatics.charged_frames import ChargedFrames
from bec_mace.electrostatics.coulomb import Coulomb, Interaction
from bec_mace.electrostatics.multipoles import Multipoles

__all__ = ["ChargedFrames", "Coulomb", "Interaction", "Multipoles"]
