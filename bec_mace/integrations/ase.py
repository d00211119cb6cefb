"""An ASE calculator for Born effective charges, alone or beside another calculator, with or without an electric field."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, all_changes
from ase.outputs import Properties, all_outputs
from ase.stress import full_3x3_to_voigt_6_stress

from bec_mace.data import Frame, build_graph
from bec_mace.data.labels import TOTAL_CHARGE
from bec_mace.data.quality.periodicity import CellWatch
from bec_mace.data.skin import SkinNeighbours
from bec_mace.devices import find_device, find_dtype
from bec_mace.electric_field import ElectricField, FieldWork, as_field
from bec_mace.errors import ModelError
from bec_mace.models import PolarizationModel, load_model
from bec_mace.models.checkpoint import copy_model
from bec_mace.models.conditions import check_order
from bec_mace.models.familiarity import Familiarity
from bec_mace.predict.work_units import check_finite, split_outputs, to_numpy
from bec_mace.properties import PROPERTIES
from bec_mace.units import COULOMB_CONSTANT

OF_POTENTIAL = ("energy", "free_energy", "forces", "stress")
OF_FIELD = ("field_forces", "field_energy", "field_work", "base_energy", "base_forces")

Z = "born_effective_charges"


def of_model() -> tuple[str, ...]:
    """What the calculator can pass on from a model: all that has a value of its own, and that is no polarization of a cell."""
    return tuple(name for name, row in PROPERTIES.items() if not row.modulo_quantum)


_OF_ASE = ("restart", "label", "atoms", "directory", "ignore_bad_restart_file")


class BECCalculator(Calculator):
    r"""ASE calculator that gives Born effective charges, energies and forces, in an electric field if there is one.

    Without a base calculator a model with an energy head is the potential; with one, the potential is the base's, and
    the model adds its properties and the forces of the field,

    .. math:: F_{j,b} = F^{base}_{j,b} + \sum_a E_a Z_{j,a,b} .

    The energy fits to the forces. Where P is defined it is :math:`U = U^{base} - E(t) \cdot P`, with
    :math:`P = \sum_i c_i r_i + \sum_i \mu_i` at the positions given: do not wrap atoms on the way. P is defined for models
    whose heads are among ``charge_transfer`` and ``dipole``, reference charges c included, and on molecules for models with
    ``monopole`` too (their E·Z is then only nearly its gradient). Elsewhere it is :math:`U = U^{base} - W` with the work W
    that the field has done since the first point: it depends on the path, and holds along a trajectory whose every step
    was computed here. In both cases kinetic energy + ``base_energy`` - ``field_work`` is conserved, in E(t) too.

    ================================  ====================================================================================
    ``born_effective_charges``        (n_atoms, 3, 3), Z[atom, polarization, displacement], in e
    ``charges``, ``dipoles``          of the atoms, (n_atoms,) in e and (n_atoms, 3) in e Å
    ``dipole``                        of a molecule, (3,), in e Å; that of a periodic cell depends on the choice of the cell
    ``polarizability``                (3, 3), of the molecule or cell at clamped nuclei, in Å^3
    ``dielectric_tensor``             (3, 3), of a cell that is periodic in three directions, at clamped nuclei
    ``energy``, ``free_energy``       in eV, that of the field included
    ``forces``                        (n_atoms, 3), in eV/Å, those of the field included
    ``stress``                        (6,), in eV/Å^3, in ASE's order xx, yy, zz, yz, xz, xy; not in a field
    ``field_forces``                  (n_atoms, 3), in eV/Å; this and the following in a field only
    ``field_energy``                  -E·P - E·alpha·E/2 in eV, where P is defined; without alpha to first order
    ``field_work``                    W in eV, by the trapezoid rule along the steps taken
    ``base_energy``, ``base_forces``  without the field's share, beside ``energy`` and ``forces``
    ================================  ====================================================================================

    One pass of the model serves all that is asked for at once; forces come with the energy. When only the field's forces are
    needed, Z* is contracted with the field inside the pass, which costs less than the full tensor. All results are copies.

    A model with ``electrostatics.response`` (dipoles or edges, screening ``fixed`` or ``global``) knows what the field induces:
    the polarization is P + alpha·E, and :math:`\tfrac12 \sum_{ac} E_a E_c \, \partial \alpha_{ac} / \partial r_{j,b}` joins the
    forces. Other models have the linear force alone.

    Args:
        model: A model (it is copied where its device or dtype are others), the path of one, or the name of one that comes with
            the package.
        base: Another ASE calculator, the potential; the model's own energy is then left alone.
        electric_field: Three numbers, a field of :mod:`bec_mace.electric_field`, or any function of the time in fs; in V/Å.
        device: Where to compute.
        dtype: ``"float32"`` or ``"float64"``. The computation is done in it; the results are float64.
        field_order: 2 counts what the field induces, 1 leaves it out; by default what the model knows.
        skin: Width in Å of the shell beyond r_max in which neighbours are known in advance; results do not depend on it.
        always: Properties to compute in every pass, beside what is asked for: ``("born_effective_charges",)`` gives energy,
            forces and Z* of each step of a simulation from one pass.
        **kwargs: Passed on to ASE's ``Calculator``.

    Attributes:
        time_fs: The time at which E(t) is taken. Who moves the atoms sets it.
        always: As given; may be changed at any time.

    Raises:
        ModelError: If there is no such model, the dtype is not one of the two, the base is no calculator, or there is a field
            and the model has no head for Z*, or does not know the order of the field.
        FieldError: If the field is not one.
        DataError: If the skin is negative.

    Example:
        >>> atoms.calc = BECCalculator("water", electric_field=[0, 0, 0.1])  # doctest: +SKIP
        >>> forces = atoms.get_forces()  # doctest: +SKIP
        >>> tensors = atoms.calc.get_property("born_effective_charges", atoms)  # doctest: +SKIP
    """

    implemented_properties = [*of_model(), "free_energy", *OF_FIELD]

    def __init__(
        self,
        model: PolarizationModel | str | Path,
        base: BaseCalculator | None = None,
        electric_field: ElectricField | Callable[[float], Any] | Sequence[float] | np.ndarray | None = None,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "float32",
        field_order: Literal[1, 2] | None = None,
        skin: float = 0.5,
        always: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        self._results: dict[str, Any] = {}
        unknown = sorted(kwargs.keys() - _OF_ASE)
        if unknown:
            raise ModelError(
                f"BECCalculator knows no {', '.join(unknown)}; see its arguments, of ASE's own {', '.join(_OF_ASE)}"
            )
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        if base is not None and (isinstance(base, type) or not hasattr(base, "get_property")):
            kind = f"the class {base.__name__}, make one" if isinstance(base, type) else type(base).__name__
            raise ModelError(f"base must be an ASE calculator, got {kind}; leave it out to use the model alone")
        if isinstance(always, str):
            raise ModelError(f"always must be a collection of names, such as ({always!r},), got {always!r}")
        where, precision = find_device(device, ModelError), find_dtype(dtype, ModelError)
        if isinstance(model, PolarizationModel):
            # A model that someone else uses stays as it is.
            same = model.dtype == precision and model.reference_charges.device == torch.empty(0, device=where).device
            self.model = model if same else copy_model(model, precision, where)
        else:
            self.model = load_model(model, where, precision)
        self.base, self.always, self.time_fs = base, tuple(always), 0.0
        self.field_order = (2 if self.model.has_enthalpy else 1) if field_order is None else field_order
        check_order(self.field_order, self.model.has_enthalpy)
        self._neighbours = SkinNeighbours(self.model.r_max, skin)
        self._familiarity, self._cells = Familiarity(self.model), CellWatch(looks=10)
        self._path = FieldWork()
        self._field_used: np.ndarray | None = None
        self.electric_field = electric_field

    @property
    def electric_field(self) -> ElectricField | None:
        """The field as a function of the time in fs; assigning one begins a new path for its work."""
        return self._field

    @electric_field.setter
    def electric_field(self, value: ElectricField | Callable[[float], Any] | Sequence[float] | np.ndarray | None) -> None:
        field = as_field(value)
        if field is not None and Z not in self.model.provides:
            raise ModelError(
                f"a field needs Born effective charges, and the heads of the model give none "
                f"({', '.join(self.model.heads)}); use a model with a charge_transfer or dipole head."
            )
        self._field = field
        self._path.reset()
        self.reset()  # type: ignore[no-untyped-call]
        # ASE asks the instance what it can do; the class lists what any calculator of this kind could.
        self.implemented_properties = self._implemented()

    @property
    def results(self) -> dict[str, Any]:
        """Copies of the results at the last structure, by name; changing them changes nothing here."""
        return {name: np.copy(value) if isinstance(value, np.ndarray) else value for name, value in self._results.items()}

    @results.setter
    def results(self, value: dict[str, Any]) -> None:
        self._results = dict(value)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation; the field and the charge in ``atoms.info`` count."""
        changes: list[str] = super().check_state(atoms, tol=tol)  # type: ignore[no-untyped-call]
        if not np.array_equal(_or_zero(self._field_now()), _or_zero(self._field_used)):
            changes = [*changes, "electric_field"]
        held = {} if self.atoms is None else self.atoms.info
        if not np.array_equal(held.get(TOTAL_CHARGE, 0), atoms.info.get(TOTAL_CHARGE, 0)):
            changes = [*changes, TOTAL_CHARGE]
        return changes

    def calculate(
        self, atoms: Atoms | None = None, properties: list[str] | None = None, system_changes: list[str] = all_changes
    ) -> None:
        """Compute what is asked for and is not known yet, and put it into ``results``.

        Forces come with the energy, and charges and dipoles with everything: each costs little beside the other.

        Args:
            atoms: The structure.
            properties: Names of properties; the first of ``implemented_properties`` by default.
            system_changes: What has changed since the last call; for ASE.

        Raises:
            ModelError: If there are no atoms, the model has not seen an element, or it cannot give a property of this
                structure.
            DataError: If the structure cannot be used.
            FieldError: If the function of the field does not give three finite numbers.
        """
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        held = self.atoms
        if held is None:
            raise ModelError("the calculator has no atoms; pass them to `calculate` or set `atoms.calc`")
        if system_changes:
            self._results = {}
        field = self._field_used = self._field_now()
        wanted = {name.removeprefix("base_") for name in (*(properties or self.implemented_properties[:1]), *self.always)}
        self._check(wanted, held.pbc, field)
        results = self._evaluate(self._names(wanted, held.pbc, field), held, field)
        if self.base is not None:
            needed = [name for name in OF_POTENTIAL if name in wanted and name not in self._results]
            results |= {name: from_base(self.base, name, held) for name in needed}
        check_finite(results, "atoms", held.pbc)
        if field is not None:
            self._add_field(results, held)
        self._results.update(results)

    def reset_field_work(self) -> None:
        """Begin a new path at the next structure, with no work done by the field."""
        self._path.reset()
        self.reset()  # type: ignore[no-untyped-call]

    def state(self) -> dict[str, Any]:
        """What a simulation needs to go on from here: numbers and arrays, ``time_fs`` and ``field_work`` among them."""
        return {"time_fs": float(self.time_fs), **self._path.state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave.

        Raises:
            FieldError: If the work of the field is incomplete.
        """
        self._path.set_state(state)
        self.time_fs = float(state.get("time_fs", 0.0))
        self.reset()  # type: ignore[no-untyped-call]

    def export_properties(self) -> Properties:
        """The results that ASE has a place for."""
        return Properties({name: value for name, value in self.results.items() if name in all_outputs})

    def _implemented(self) -> list[str]:
        own = [name for name in of_model() if name in self.model.provides]
        if self.base is not None:
            potential = [name for name in OF_POTENTIAL if name in getattr(self.base, "implemented_properties", OF_POTENTIAL)]
            own = [name for name in own if name not in OF_POTENTIAL] + potential
        if "energy" in own and "free_energy" not in own:
            own.append("free_energy")
        if self._field is not None:
            own += [name for name in OF_FIELD if not name.startswith("base") or name.removeprefix("base_") in own]
        return own

    def _field_now(self) -> np.ndarray | None:
        return None if self._field is None else np.array(self._field(self.time_fs), dtype=np.float64)

    def _check(self, wanted: set[str], periodic: np.ndarray, field: np.ndarray | None) -> None:
        unknown = sorted(set(self.always) - set(self.implemented_properties))
        if unknown:
            raise ModelError(
                f"always: the calculator does not give {', '.join(unknown)}, only {', '.join(self.implemented_properties)}"
            )
        if "stress" in wanted and field is not None and field.any():
            raise ModelError(
                "there is no stress in an electric field: how the field changes with the cell is not defined "
                "here. Keep the cell fixed, or switch the field off."
            )
        for name in sorted(wanted & PROPERTIES.keys()):
            row, from_potential = PROPERTIES[name], name in OF_POTENTIAL and self.base is not None
            if not (from_potential or row.is_defined(periodic)):
                cure = row.instead if row.instead in self.implemented_properties else Z
                raise ModelError(f"{row.why}; leave {name} out, or ask for {cure}")

    def _names(self, wanted: set[str], periodic: np.ndarray, field: np.ndarray | None) -> set[str]:
        """The model's properties to compute for the ones that ASE asks for, those that are known left out."""
        names = wanted & set(of_model())
        if self.base is not None:
            names -= set(OF_POTENTIAL)
        elif wanted & set(OF_POTENTIAL):
            # The stress comes with the forces; it costs one contraction. In a field there is none, in the cache neither.
            has_stress = periodic.all() and (field is None or not field.any())
            names |= {"energy", "forces", "stress"} if has_stress else {"energy", "forces"}
        return {name for name in names if name in self.model.provides and name not in self._results}

    def _evaluate(self, names: set[str], atoms: Atoms, field: np.ndarray | None) -> dict[str, Any]:
        """The properties, and what the field needs where it is not known yet, from one pass of the model or none."""
        news = field is not None and "field_forces" not in self._results
        source = source_of_polarization(self.model, bool(atoms.pbc.any())) if news else None
        if field is None or not news or not field.any():
            results = self._pass(names, atoms) if names else {}
            if news:
                results |= {"field_forces": np.zeros((len(atoms), 3))} | ({"field_energy": 0.0} if source else {})
            return results
        second = self.field_order == 2
        needed = ({source} if source else set()) | ({"polarizability"} if source and second else set())
        found = self._pass(names | needed, atoms, field)
        results = {name: value for name, value in found.items() if name in names or name != "polarizability"}
        if source:
            results["field_energy"] = -float(field @ found[source])
            if second:
                results["field_energy"] -= float(field @ found["polarizability"] @ field) / (2 * COULOMB_CONSTANT)
        results.pop("polarization", None)
        return results

    def _pass(self, names: set[str], atoms: Atoms, field: np.ndarray | None = None) -> dict[str, Any]:
        """Evaluate the model once; in a field with its forces."""
        model = self.model
        # These cost next to nothing in a pass that is made anyway.
        names = names | ({"charges", "dipoles"} if atoms.pbc.any() else {"charges", "dipoles", "dipole"})
        frame = Frame.from_atoms(atoms, properties=())
        weights = model.reference_charges
        graph = build_graph(frame, model.r_max, weights.dtype, self._neighbours.find(frame)).to(device=weights.device)
        along = None if field is None else torch.tensor(field, dtype=weights.dtype, device=weights.device)
        asked = names & model.provides
        noted = self._familiarity.asked(asked) if along is None or Z in asked else asked
        extra = set() if along is None else {"field_forces"}
        out = model(graph, properties=tuple(noted | extra), electric_field=along, field_order=self.field_order)
        of_field = {name: to_numpy(out.pop(name)) for name in extra}
        result = next(split_outputs(out, [len(frame)]))
        self._cells.note(frame)
        self._familiarity.note(frame.atomic_numbers, result, "atoms")
        return to_results({name: result[name] for name in asked} | of_field)

    def _add_field(self, results: dict[str, Any], atoms: Atoms) -> None:
        """Add the field's share to what was found, and go on along the path if these atoms are new."""
        if "field_forces" in results:
            self._path.advance(results["field_forces"], atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc)
            results["field_work"] = self._path.work
        known = {**self._results, **results}
        energy = known.get("field_energy", -known["field_work"])
        if "energy" in results:
            results["base_energy"] = results["energy"]
        if "forces" in results:
            results["base_forces"] = results["forces"]
            results["forces"] = results["forces"] + known["field_forces"]
        for name in {"energy", "free_energy"} & set(results):
            results[name] += energy


def source_of_polarization(model: PolarizationModel, periodic: bool) -> str | None:
    """The property whose product with the field is the field's energy; None where there is none.

    Args:
        model: Gives Z*.
        periodic: Whether the structure is periodic in some direction.
    """
    heads = [head for head in model.heads.values() if Z in head.provides]
    if "polarization" in model.provides and all(head.row.conserves for head in heads):
        return "polarization"
    return "dipole" if not periodic and all("dipole" in head.provides for head in heads) else None


def to_results(output: Mapping[str, Any]) -> dict[str, Any]:
    """Predicted arrays in ASE's conventions, all float64 and not shared with anything."""
    results: dict[str, Any] = {name: np.array(value, dtype=np.float64) for name, value in output.items()}
    if "energy" in results:
        results["energy"] = results["free_energy"] = float(results["energy"])
    if "stress" in results:
        results["stress"] = full_3x3_to_voigt_6_stress(results["stress"])
    return results


def from_base(base: BaseCalculator, name: str, atoms: Atoms) -> Any:
    """A property of the potential from another calculator, not shared with it."""
    known = getattr(base, "implemented_properties", OF_POTENTIAL)
    value = base.get_property(name if name in known else "energy", atoms)
    return np.array(value, dtype=np.float64) if name in ("forces", "stress") else float(value)


def _or_zero(field: np.ndarray | None) -> np.ndarray:
    return np.zeros(3) if field is None else field
