"""The table of ensembles: what each needs and keeps, and where it is. A new ensemble is one file and one line here.

Neither ASE nor an integrator is imported: mistakes in a configuration are told before that.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EnsembleRow:
    """What is known of an ensemble without its code.

    Attributes:
        place: ``module:Class`` of its integrator.
        has_thermostat: Whether it needs a temperature and has a time constant. The centre of mass is then at rest.
        conserves: Whether there is a conserved energy.
        has_barostat: Whether it needs a pressure and changes the cell.
    """

    place: str
    has_thermostat: bool = True
    conserves: bool = True
    has_barostat: bool = False


_FOLDER = "bec_mace.dynamics.ensembles"

ENSEMBLES: dict[str, EnsembleRow] = {
    "nve": EnsembleRow(f"{_FOLDER}.nve:VerletIntegrator", has_thermostat=False),
    "langevin": EnsembleRow(f"{_FOLDER}.langevin:LangevinIntegrator", conserves=False),
    "nose_hoover": EnsembleRow(f"{_FOLDER}.nose_hoover:NoseHooverIntegrator"),
    "npt_isotropic": EnsembleRow(f"{_FOLDER}.constant_pressure:IsotropicIntegrator", has_barostat=True),
    "npt_triclinic": EnsembleRow(f"{_FOLDER}.constant_pressure:TriclinicIntegrator", has_barostat=True),
}
"""Ensembles by the name that they have in a configuration."""
