"""An ASE calculator for Born effective charges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from bec_mace.data import Frame
from bec_mace.errors import ModelError
from bec_mace.inference import predict
from bec_mace.models import PolarizationModel, load_model

DTYPES = {"float32": torch.float32, "float64": torch.float64}
PROPERTIES_OF_ASE = ("born_effective_charges", "charges", "energy", "forces", "stress", "dipole")
"""What the calculator can pass on to ASE, where the model gives it."""


class BECCalculator(Calculator):
    """ASE calculator that gives Born effective charges, and what else the heads of a model give.

    ``born_effective_charges`` is of shape (n_atoms, 3, 3), Z[atom, polarization, displacement], in e; ``charges`` of
    shape (n_atoms,), in e. A model with an energy head also gives ``energy`` and ``free_energy`` in eV, ``forces`` in
    eV/Å and, in cells periodic in three directions, ``stress`` in eV/Å^3 in ASE's Voigt order (xx, yy, zz, yz, xz, xy).
    ``dipole``, in e Å, is given for molecules only: that of a periodic cell depends on the choice of the cell.

    Args:
        model: A model (it is moved to the device and dtype), the path of one, or the name of one that comes with the
            package.
        device: Where to compute.
        dtype: ``"float32"`` or ``"float64"``. The computation is done in it; the results are float64.
        **kwargs: Passed on to ASE's ``Calculator``.

    Raises:
        ModelError: If there is no such model, or the dtype is not one of the two.

    Example:
        >>> atoms.calc = BECCalculator("water")  # doctest: +SKIP
        >>> tensors = atoms.calc.get_property("born_effective_charges", atoms)  # doctest: +SKIP
    """

    implemented_properties = [*PROPERTIES_OF_ASE, "free_energy"]

    def __init__(
        self, model: PolarizationModel | str | Path, device: str = "cpu", dtype: str = "float32", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if dtype not in DTYPES:
            raise ModelError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        if isinstance(model, PolarizationModel):
            self.model = model.to(device=device, dtype=DTYPES[dtype])
        else:
            self.model = load_model(model, device, DTYPES[dtype])
        given = [name for name in PROPERTIES_OF_ASE if name in self.model.provides]
        # ASE asks the instance what it can do; the class lists what any model could.
        self.implemented_properties = given + ["free_energy"] * ("energy" in given)

    def calculate(
        self, atoms: Atoms | None = None, properties: list[str] | None = None, system_changes: list[str] = all_changes
    ) -> None:
        """Compute what is asked for and put it into ``results``.

        Forces come with the energy, and charges with the Born effective charges: each costs little beside the other.

        Args:
            atoms: The structure.
            properties: Names of properties; Born effective charges, or else the energy, by default.
            system_changes: What has changed since the last call; for ASE.

        Raises:
            ModelError: If there are no atoms, the model has not seen an element, or it cannot give a property of this
                structure.
            DataError: If the structure cannot be used.
        """
        super().calculate(atoms, properties, system_changes)
        if self.atoms is None:
            raise ModelError("the calculator has no atoms; pass them to `calculate` or set `atoms.calc`")
        if system_changes:
            self.results = {}
        names = self._names(set(properties or self.implemented_properties[:1]), self.atoms.pbc)
        frame = Frame.from_atoms(self.atoms, properties=(), source="atoms")
        output = next(predict(self.model, [frame], names))
        self.results.update(to_results(output))

    def _names(self, wanted: set[str], periodic: np.ndarray) -> list[str]:
        """The model's properties to compute for the ones that ASE asks for."""
        if "free_energy" in wanted:
            wanted = wanted - {"free_energy"} | {"energy"}
        if "stress" in wanted and not periodic.all():
            raise ModelError("stress needs a cell that is periodic in three directions")
        if "dipole" in wanted and periodic.any():
            raise ModelError("the dipole of a periodic cell depends on the choice of the cell; use Born effective "
                             "charges")
        if wanted & {"energy", "forces"}:
            wanted |= {"energy", "forces"}
        if wanted & {"born_effective_charges", "charges"}:
            wanted |= {"born_effective_charges", "charges"}
        return [name for name in PROPERTIES_OF_ASE if name in wanted and name in self.model.provides]


def to_results(output: dict[str, Any]) -> dict[str, Any]:
    """Predicted arrays in ASE's conventions, all float64 and not shared with anything."""
    results: dict[str, Any] = {name: np.array(value, dtype=np.float64) for name, value in output.items()}
    if "energy" in results:
        results["energy"] = results["free_energy"] = float(results["energy"])
    if "stress" in results:
        results["stress"] = full_3x3_to_voigt_6_stress(results["stress"])
    return results
