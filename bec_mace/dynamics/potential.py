"""From the words of a configuration to one calculator that is evaluated once per step."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, all_changes

from bec_mace.config.dynamics import FieldConfig, MDConfig, PotentialConfig
from bec_mace.config.ensembles import ENSEMBLES
from bec_mace.devices import DTYPES, find_device
from bec_mace.electric_field import ConstantField, ElectricField, GaussianPulse, SinusoidField, as_field
from bec_mace.errors import DynamicsError, ModelError
from bec_mace.integrations.ase import BECCalculator
from bec_mace.models import PolarizationModel, load_model
from bec_mace.outside import import_object

Z = "born_effective_charges"


class Potential(Calculator):
    """Energy and forces of a step, and what else is wanted in it, such as Z*, from one evaluation of the calculator inside.

    An integrator asks for forces twice per step: at the old positions, where they are known, and at the new ones. Time
    goes with the positions: ``time_fs`` is passed on only when the atoms have moved, so that the old forces stay those of
    the old time, and cost nothing.

    Args:
        inner: Any ASE calculator; a ``BECCalculator`` where there is Z* or a field.
        with_stress: Whether the stress comes with the forces.

    Attributes:
        time_fs: Time of the next new positions, in fs.
        also: What else is wanted at the next new positions, such as Z*, by the names of properties.
        bec: The calculator inside, where it is a ``BECCalculator``.
        has_charges: Whether there is Z* at all.
        evaluations: How often the calculator inside was evaluated.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress", Z, "charges", "field_energy", "field_work"]

    def __init__(self, inner: BaseCalculator, with_stress: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inner, self.with_stress = inner, with_stress
        self.time_fs, self.evaluations = 0.0, 0
        self.also: tuple[str, ...] = ()
        self.bec = inner if isinstance(inner, BECCalculator) else None
        self.has_charges = self.gives(Z)

    def calculate(
        self, atoms: Atoms | None = None, properties: list[str] | None = None, system_changes: list[str] = all_changes
    ) -> None:
        """Evaluate the calculator inside at new positions.

        Raises:
            DynamicsError: The energy or a force is not finite.
        """
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        self.evaluations += 1
        if self.bec is not None:
            self.bec.time_fs = self.time_fs
            names = ["energy", "free_energy", "forces", *(["stress"] if self.with_stress else []), *self.also]
            self.bec.calculate(self.atoms, names, list(all_changes))
            computed = self.bec.results
            self.results = {name: computed[name] for name in self.implemented_properties if name in computed}
        else:
            # The energy whose derivative the forces are; calculators without electronic smearing have but one.
            free = "free_energy" if "free_energy" in getattr(self.inner, "implemented_properties", ()) else "energy"
            self.results = {
                "energy": float(self.inner.get_property("energy", self.atoms)),
                "free_energy": float(self.inner.get_property(free, self.atoms)),
                "forces": np.array(self.inner.get_property("forces", self.atoms), dtype=np.float64),
            }
            if self.with_stress:
                self.results["stress"] = np.array(self.inner.get_property("stress", self.atoms), dtype=np.float64)
        self._check_finite()

    @property
    def gives_stress(self) -> bool:
        """Whether there is a stress at all."""
        return "stress" in getattr(self.inner, "implemented_properties", ())

    def gives(self, name: str) -> bool:
        """Whether a property beside energy and forces can be wanted."""
        return self.bec is not None and name in self.bec.implemented_properties

    def field(self) -> np.ndarray:
        """The field at the present time, of shape (3,), in V/Å."""
        field = None if self.bec is None else self.bec.electric_field
        return np.zeros(3) if field is None else np.array(field(self.time_fs), dtype=np.float64)

    def conserved_potential(self) -> float:
        """What makes a constant together with the kinetic energy, in eV.

        In a constant field the potential energy with -E·P where P is defined; otherwise the potential energy without the
        field, less the work of the field.
        """
        energy = float(self.results["free_energy"])
        constant = self.bec is None or isinstance(self.bec.electric_field, ConstantField)
        if "field_energy" in self.results and not constant:
            energy -= float(self.results["field_energy"] + self.results["field_work"])
        return energy

    def state(self) -> dict[str, Any]:
        """What a resumed run needs: numbers and arrays."""
        return {} if self.bec is None else self.bec.state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        if self.bec is not None:
            self.bec.set_state(state)

    def _check_finite(self) -> None:
        finite = np.isfinite(self.results["forces"]).all(axis=1)
        if self.atoms is not None and not finite.all():
            atom = int(np.argmin(finite))
            raise DynamicsError(f"the force on atom {atom} ({self.atoms.symbols[atom]}) is not finite")
        if not np.isfinite(self.results["energy"]):
            raise DynamicsError("the energy is not finite")
        if self.with_stress and not np.isfinite(self.results["stress"]).all():
            raise DynamicsError("the stress is not finite")


def build_potential(config: MDConfig) -> Potential:
    """Build the calculator that a configuration describes.

    Raises:
        DynamicsError: A class or function cannot be imported or called, the device is not there, or the potential gives no
            energy.
        ModelError: There is no such model.
        FieldError: The field cannot be used.
    """
    device, stress = find_device(config.device, DynamicsError), ENSEMBLES[config.ensemble.name].has_barostat
    field = build_field(config.electric_field)
    options: dict[str, Any] = {"electric_field": field, "device": device, "dtype": config.precision}
    inner: BaseCalculator
    if config.potential.model is not None:
        model = load_potential(config.potential.model, device, config.precision)
        if config.charges is None and Z in model.provides:
            return Potential(BECCalculator(model, **options), stress)
        inner = BECCalculator(model, device=device, dtype=config.precision)
    else:
        inner = build_calculator(config.potential, device, config.precision)
    if config.charges is not None:
        inner = BECCalculator(config.charges, base=inner, **options)
        if Z not in inner.model.provides:
            raise ModelError(
                f"charges: the model {config.charges} gives no Z* (heads: {', '.join(inner.model.heads)}); name one that does"
            )
    elif field is not None:
        raise DynamicsError(
            f"electric_field: the model {config.potential.model} gives no Z*, so nothing feels the field; "
            "name a model under charges"
        )
    return Potential(inner, stress)


def load_potential(name: str, device: str, precision: str) -> PolarizationModel:
    """Load a model that gives energies.

    Raises:
        DynamicsError: It gives none.
        ModelError: There is no such model.
    """
    model = load_model(name, device, DTYPES[precision])
    if "energy" not in model.provides:
        raise DynamicsError(
            f"potential: the model {name} has no energy head ({', '.join(model.heads)}); give it as `charges`, beside another "
            "potential"
        )
    return model


def build_calculator(config: PotentialConfig, device: str, precision: str) -> BaseCalculator:
    """An ASE calculator by its name, or that of mace-torch for a model file of it.

    Raises:
        DynamicsError: It cannot be imported, or does not accept its arguments.
    """
    if config.mace is None:
        name, arguments = str(config.calculator), dict(config.arguments)
    else:
        # bec_mace.models is imported by now; it makes the libraries below mace fit together.
        name = "mace.calculators:MACECalculator"
        arguments = {"model_paths": config.mace, "device": device, "default_dtype": precision, **config.arguments}
        if not Path(config.mace).expanduser().is_file():
            raise DynamicsError(f"potential.mace: {config.mace}: no such file; paths are relative to {Path.cwd()}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks of other packages while they load
            calculator = import_object(name, "potential.calculator", DynamicsError)(**arguments)
    except DynamicsError:
        raise
    except Exception as error:  # whatever another package raises for its arguments
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise DynamicsError(
            f"potential: {name}({', '.join(f'{key}=...' for key in arguments)}) failed ({reason}); check its arguments"
        ) from error
    if not hasattr(calculator, "get_property"):
        raise DynamicsError(f"potential.calculator: {name} gives no ASE calculator but {type(calculator).__name__}")
    result: BaseCalculator = calculator
    return result


def build_field(config: FieldConfig | None) -> ElectricField | None:
    """The field that a configuration describes.

    Raises:
        DynamicsError: The function cannot be imported.
        FieldError: The field cannot be used.
    """
    if config is None:
        return None
    if config.sinusoid is not None:
        return SinusoidField(**config.sinusoid.model_dump())
    if config.pulse is not None:
        return GaussianPulse(**config.pulse.model_dump())
    if config.function is not None:
        imported = import_object(config.function, "electric_field", DynamicsError)
        function: Any = imported() if inspect.isclass(imported) else imported
        return as_field(function)
    return as_field(config.constant)
