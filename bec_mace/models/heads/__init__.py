"""Heads by the name they have in a configuration. A new head is one file and one line here."""

from __future__ import annotations

from bec_mace.models.heads.charge_transfer import ChargeTransferHead
from bec_mace.models.heads.dipole import DipoleHead
from bec_mace.models.heads.direct import DirectHead
from bec_mace.models.heads.energy import EnergyHead
from bec_mace.models.heads.features import Features
from bec_mace.models.heads.head import Head
from bec_mace.models.heads.monopole import MonopoleHead
from bec_mace.models.heads.polarizability import PolarizabilityHead

HEADS: dict[str, type[Head]] = {
    "monopole": MonopoleHead,
    "charge_transfer": ChargeTransferHead,
    "dipole": DipoleHead,
    "direct": DirectHead,
    "energy": EnergyHead,
    "polarizability": PolarizabilityHead,
}

__all__ = ["HEADS", "Features", "Head"]
