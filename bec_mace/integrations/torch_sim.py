"""A model of torch-sim: batched dynamics of many systems with Born effective charges, in an electric field if there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import ase.units
import numpy as np
import torch
from torch import Tensor

from bec_mace.data import Frame, Graph, build_graph, collate
from bec_mace.data.labels import TOTAL_CHARGE
from bec_mace.data.skin import SkinNeighbours
from bec_mace.devices import find_device, find_dtype
from bec_mace.electric_field import ElectricField, as_field
from bec_mace.errors import FieldError, ModelError
from bec_mace.integrations.ase import source_of_polarization
from bec_mace.models import PolarizationModel, load_model
from bec_mace.models.checkpoint import copy_model
from bec_mace.models.familiarity import Familiarity
from bec_mace.predict.work_units import check_finite, split_outputs
from bec_mace.units import COULOMB_CONSTANT

Z = "born_effective_charges"
FROM_STATE = "state"
"""What stands for the field that a state carries in its extras."""
EXTERNAL_FIELD = "external_E_field"

Field = ElectricField | Callable[[float], Any] | Sequence[float] | np.ndarray | str | None


def _interface() -> Any:
    """The class that models of torch-sim have in common."""
    try:
        return import_module("torch_sim.models.interface").ModelInterface
    except ImportError as error:
        raise ModelError(
            f"torch-sim cannot be imported ({error}); pip install 'bec_mace[torch-sim]' with Python 3.12 or newer installs it"
        ) from error


ModelInterface: Any = _interface()


class BECModel(ModelInterface):  # type: ignore[misc]  # torch-sim need not be there
    r"""Energy, forces, stress, Born effective charges and polarization of all systems of a state, from one pass.

    In a field the forces are :math:`F_{j,b} = F^0_{j,b} + \sum_a E_a Z_{j,a,b}` and the energy is their
    :math:`U = U^0 - E \cdot P`, so that dynamics in a constant field conserve it. P is that at the positions given, which
    torch-sim does not wrap; it is defined as for :class:`~bec_mace.integrations.ase.BECCalculator`. Without a field here, the
    outputs are what torch-sim's ``UniformPolarizationModel`` takes after this model in a ``SerialSumModel``: it adds
    :math:`-E \cdot P - \frac12 E \cdot \alpha E` to the energy, and to the forces E·Z alone, which leaves out the derivative
    of :math:`\alpha`.

    ==========================  ==========================================================================================
    ``energy``                  (n_systems,), in eV, that of the field included
    ``forces``                  (n_atoms, 3), in eV/Å, those of the field included
    ``stress``                  (n_systems, 3, 3), in eV/Å^3; nan of what is not periodic in three directions
    ``born_effective_charges``  (n_atoms, 3, 3), Z[atom, polarization, displacement], in e
    ``total_polarization``      (n_systems, 3), in e Å, without the response of the electrons to the field
    ``polarizability``          (n_systems, 3, 3), in e Å^2/V, where the model has a head for it
    ==========================  ==========================================================================================

    Args:
        model: A model with an energy head (it is copied where its device or dtype are others), a file, a run folder or a name.
        device: Where to compute.
        dtype: ``"float32"``, ``"float64"`` or torch's; that of the states.
        electric_field: Three numbers in V/Å, a field of :mod:`bec_mace.electric_field`, any function of the time in fs, or
            ``"state"`` for the extra ``external_E_field`` of the states, of shape (n_systems, 3).
        compute_forces: Whether to give forces.
        compute_stress: Whether to give stress; by default where there is no field, in which it is not defined.
        skin: Width in Å of the shell in which neighbours are known in advance; results do not depend on it.

    Attributes:
        time_fs: The time at which E(t) is taken. Who moves the atoms sets it.

    Raises:
        ModelError: There is no such model, it has no energy head, or with a field no Z* or polarization; or stress is asked
            for in a field.
        FieldError: The field is not one.
    """

    def __init__(
        self,
        model: PolarizationModel | str | Path,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "float64",
        electric_field: Field = None,
        *,
        compute_forces: bool = True,
        compute_stress: bool | None = None,
        skin: float = 0.5,
    ) -> None:
        super().__init__()
        self._device, self._dtype = torch.device(find_device(device, ModelError)), find_dtype(dtype, ModelError)
        if isinstance(model, PolarizationModel):
            same = model.dtype == self._dtype and model.reference_charges.device == torch.empty(0, device=self._device).device
            self.model = model if same else copy_model(model, self._dtype, self._device)
        else:
            self.model = load_model(model, str(self._device), self._dtype)
        if "energy" not in self.model.provides:
            raise ModelError(f"dynamics need an energy, and the model has no energy head ({', '.join(self.model.heads)})")
        self.time_fs, self._skin = 0.0, skin
        self._field: ElectricField | str | None = FROM_STATE if _is_from_state(electric_field) else as_field(electric_field)  # type: ignore[arg-type]
        self._compute_forces, self._compute_stress = compute_forces, False
        self.compute_stress = self._field is None if compute_stress is None else compute_stress
        self._neighbours: dict[int, SkinNeighbours] = {}
        self._familiarity = Familiarity(self.model)

    @property
    def compute_stress(self) -> bool:
        """Whether there is stress among the outputs."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, value: bool) -> None:
        if value and self._field is not None:
            raise ModelError("there is no stress in an electric field; keep the cell fixed, with compute_stress=False")
        self._compute_stress = value

    @property
    def compute_forces(self) -> bool:
        """Whether there are forces among the outputs."""
        return self._compute_forces

    @compute_forces.setter
    def compute_forces(self, value: bool) -> None:
        self._compute_forces = value

    def forward(self, state: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Evaluate all systems of a state.

        Args:
            state: A ``SimState`` of torch-sim; its extras ``total_charge`` or ``charge`` are charges of the systems in e.
            **kwargs: Not used; part of torch-sim's interface.

        Returns:
            By name, as listed above, on the device and in the precision of the model.

        Raises:
            ModelError: An element that the model has not seen, or a result that is not finite.
            FieldError: A state without the field that it should carry, or a field of another shape.
        """
        periodic = np.broadcast_to(np.asarray(state.pbc.cpu()), (3,))
        source = source_of_polarization(self.model, bool(periodic.any())) if Z in self.model.provides else None
        field = self._field_of(state, source)
        graph = self._graph(state, periodic).to(device=self._device)
        outputs = self.model(graph, properties=tuple(self._familiarity.asked(self._names(source, periodic))))
        self._check(outputs, graph, periodic)
        result = {name: outputs[name] for name in ("energy", "forces", "stress", Z) if name in outputs}
        if self.compute_stress and "stress" not in result:
            result["stress"] = torch.full((graph.n_frames, 3, 3), torch.nan, device=self._device)
        if "polarizability" in outputs:
            result["polarizability"] = outputs["polarizability"] / COULOMB_CONSTANT
        if source is not None:
            result["total_polarization"] = outputs[source]
        if field is not None:
            result["energy"] = result["energy"] - (field * result["total_polarization"]).sum(dim=1)
            if "forces" in result:
                result["forces"] = result["forces"] + torch.einsum("na,nab->nb", field[graph.frame_index], result[Z])
        return {name: value.detach().to(self._dtype) for name, value in result.items()}

    def _names(self, source: str | None, periodic: np.ndarray) -> set[str]:
        names = {"energy"} | ({"forces"} if self.compute_forces else set())
        if self.compute_stress and periodic.all():
            names.add("stress")
        names |= {source} if source is not None else set()
        return names | ({Z, "polarizability"} & self.model.provides)

    def _field_of(self, state: Any, source: str | None) -> Tensor | None:
        """The field of each system, of shape (n_systems, 3)."""
        if self._field is None:
            return None
        if source is None:
            raise ModelError(
                f"a field needs a polarization, which the heads of the model ({', '.join(self.model.heads)}) do not give here; "
                "use one with charge_transfer or dipole heads, and none for monopoles in a cell"
            )
        if not isinstance(self._field, str):
            here = torch.as_tensor(self._field(self.time_fs), device=self._device, dtype=self._dtype)
            return here.expand(state.n_systems, 3)
        value = getattr(state, EXTERNAL_FIELD, None)
        if value is None or value.shape != (state.n_systems, 3) or not bool(torch.isfinite(value).all()):
            given = "nothing" if value is None else f"shape {tuple(value.shape)}" if value.ndim != 2 else "other numbers"
            raise FieldError(
                f"the state must carry {EXTERNAL_FIELD}, finite and of shape ({state.n_systems}, 3) in V/Å, got {given}"
            )
        return torch.as_tensor(value, device=self._device, dtype=self._dtype)

    def _graph(self, state: Any, periodic: np.ndarray) -> Graph:
        """The graph of all systems, on the CPU; each keeps a neighbour list from step to step."""
        numbers, positions = (np.asarray(value.detach().cpu()) for value in (state.atomic_numbers, state.positions))
        cells = np.asarray(state.cell.detach().cpu(), dtype=np.float64).transpose(0, 2, 1)  # columns in torch-sim
        ends = np.cumsum(np.bincount(np.asarray(state.system_idx.cpu()), minlength=len(cells)))
        charges = _charges_of(state)
        graphs = []
        for number, (first, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            frame = Frame(
                numbers[first:end].astype(np.int64),
                positions[first:end].astype(np.float64),
                cells[number],
                periodic.copy(),
                source=f"system {number}",
                info={TOTAL_CHARGE: charges[number]} if charges is not None and charges[number] else {},
            )
            found = self._neighbours.setdefault(number, SkinNeighbours(self.model.r_max, self._skin)).find(frame)
            graphs.append(build_graph(frame, self.model.r_max, self._dtype, found))
        return collate(graphs)

    def _check(self, outputs: dict[str, Tensor], graph: Graph, periodic: np.ndarray) -> None:
        sizes = graph.atoms_per_frame().tolist()
        numbers = np.split(graph.atomic_numbers.cpu().numpy(), np.cumsum(sizes)[:-1])
        for number, result in enumerate(split_outputs(outputs, sizes)):
            check_finite(result, f"system {number}", periodic)
            self._familiarity.note(numbers[number], result, f"system {number}")


def currents(state: Any) -> Tensor:
    r"""The currents :math:`J_a = \sum_{j,b} Z_{j,a,b} v_{j,b}` of the systems of a state of dynamics with a ``BECModel``.

    Args:
        state: As torch-sim's integrators give it: momenta, and the model's last Z* among the extras.

    Returns:
        Of shape (n_systems, 3), in e Å/fs.

    Raises:
        ModelError: The state has no momenta or no Z*.
    """
    missing = [name for name in ("momenta", Z) if getattr(state, name, None) is None]
    if missing:
        raise ModelError(f"the state has no {' and no '.join(missing)}; take one that an integrator made with a BECModel")
    flows = torch.einsum("nab,nb->na", getattr(state, Z), state.velocities) * ase.units.fs
    return flows.new_zeros(state.n_systems, 3).index_add(0, state.system_idx, flows)


def _is_from_state(value: Field) -> bool:
    if isinstance(value, str) and value != FROM_STATE:
        raise FieldError(f"electric field: expected three numbers, a function or {FROM_STATE!r}, got {value!r}")
    return isinstance(value, str)


def _charges_of(state: Any) -> list[float] | None:
    for name in ("total_charge", "charge"):
        value = getattr(state, name, None)
        if value is not None:
            return [float(charge) for charge in value.reshape(-1).tolist()]
    return None
