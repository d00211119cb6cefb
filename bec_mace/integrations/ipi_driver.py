"""A driver of i-PI: energy, forces, virial, dipole and Born effective charges over a socket.

The protocol is that of i-PI's sockets (Kapil et al., Comput. Phys. Commun. 236, 214 (2019)): messages of 12 characters, native
doubles and 32-bit integers, atomic units. i-PI asks for the ``STATUS``, answers ``NEEDINIT`` with ``INIT`` and the number of a
replica, sends ``POSDATA`` (cell, inverse cell, positions), and asks for the result with ``GETFORCE`` until it sends ``EXIT``.
"""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.stress import voigt_6_to_full_3x3_stress

from bec_mace.data import Frame, build_graph
from bec_mace.data.skin import SkinNeighbours
from bec_mace.errors import DynamicsError
from bec_mace.integrations.ase import from_base, source_of_polarization
from bec_mace.models import PolarizationModel
from bec_mace.models.familiarity import Familiarity
from bec_mace.predict.work_units import check_finite, split_outputs
from bec_mace.properties import PROPERTIES
from bec_mace.units import BOHR, HARTREE, TO_ATOMIC

logger = logging.getLogger(__name__)

Z = "born_effective_charges"
_KEYS = {Z: "BEC"}
"""Names in the extras, where they are not those of the properties."""
_HEADER = 12
_RETRY_SECONDS = 0.1


@dataclass(frozen=True)
class Answer:
    """What i-PI wants to know of one configuration, in atomic units.

    Attributes:
        energy: Potential energy.
        forces: Of shape (n_atoms, 3).
        virial: Of shape (3, 3), -dU/d(strain); not a number where it is not defined.
        extras: By name: ``BEC`` of shape (3 n_atoms, 3), row 3 j + b for the displacement of atom j along b and column a for
            the polarization, so that BEC @ E is the field's force; ``dipole`` of shape (3,); others.
    """

    energy: float
    forces: np.ndarray
    virial: np.ndarray
    extras: dict[str, Any]

    def to_bytes(self) -> bytes:
        """The message after ``FORCEREADY``."""
        text = json.dumps(self.extras).encode() if self.extras else b""
        parts = (
            np.float64(self.energy).tobytes(),
            np.int32(len(self.forces)).tobytes(),
            self.forces.astype(np.float64).tobytes(),
            self.virial.astype(np.float64).tobytes(),
            np.int32(len(text)).tobytes(),
        )
        return b"".join(parts) + text


class Answers:
    r"""Evaluates configurations of the same atoms, from one pass of the model each.

    The virial is :math:`-V \sigma` in a cell and :math:`\sum_j r_j \otimes F_j` for a molecule; a structure that is periodic in
    one or two directions has none. The dipole of a cell is :math:`P = \sum_i c_i r_i + \sum_i \mu_i` at the positions that
    i-PI sends. They are not wrapped, and it follows a path without jumps, unless the ffsocket says pbc='true'.

    Args:
        model: Gives Z* and dipoles; energy, forces and stress too where there is no base. None: a base alone.
        base: Any ASE calculator, the potential.
        atoms: Elements, periodic directions and charge. Positions and cell come from i-PI.
        properties: What goes into the extras.
        skin: Width in Å of the shell in which neighbours are known in advance, for each replica.

    Raises:
        DynamicsError: A property that the model does not give for such atoms.
        ModelError: An element that the model has not seen.
    """

    def __init__(
        self,
        model: PolarizationModel | None,
        base: BaseCalculator | None,
        atoms: Atoms,
        properties: Collection[str] = (Z, "dipole"),
        skin: float = 0.5,
    ) -> None:
        self._model, self._base, self._atoms, self._skin = model, base, atoms.copy(), skin
        self._neighbours: dict[int, SkinNeighbours] = {}
        self._familiarity = None if model is None else Familiarity(model)
        if model is not None:
            model.check_elements(atoms.numbers, "structure")
        self._sources = {name: self._source(name) for name in properties}

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self._atoms)

    def __call__(self, positions: np.ndarray, cell: np.ndarray, replica: int = 0) -> Answer:
        """Evaluate one configuration.

        Args:
            positions: Of shape (n_atoms, 3), in Å.
            cell: Lattice vectors as rows, of shape (3, 3), in Å; of no meaning for a molecule.
            replica: Number of the replica, which keeps a neighbour list of its own.

        Raises:
            ModelError: A result is not finite.
            DataError: Two atoms are at the same place.
        """
        atoms = self._atoms
        atoms.positions = positions
        if atoms.pbc.any():
            atoms.cell[:] = cell
        results = self._of_model(atoms, replica)
        if self._base is not None:
            wanted = ["energy", "forces", *(["stress"] if self._has_stress() else [])]
            results |= {name: from_base(self._base, name, atoms) for name in wanted}
            if "stress" in results:
                results["stress"] = voigt_6_to_full_3x3_stress(results["stress"])
            check_finite(results, "i-PI", atoms.pbc)
        forces = np.asarray(results["forces"], dtype=np.float64)
        return Answer(
            energy=float(results["energy"]) / HARTREE,
            forces=forces * (BOHR / HARTREE),
            virial=_virial(atoms, forces, results.get("stress")) / HARTREE,
            extras={
                _KEYS.get(name, name): _in_atomic_units(name, results[source]).tolist()
                for name, source in self._sources.items()
            },
        )

    def _of_model(self, atoms: Atoms, replica: int) -> dict[str, Any]:
        names = set(self._sources.values())
        if self._base is None:
            names |= {"energy", "forces"} | ({"stress"} if self._has_stress() else set())
        if self._model is None or self._familiarity is None or not names:
            return {}
        model = self._model
        neighbours = self._neighbours.setdefault(replica, SkinNeighbours(model.r_max, self._skin))
        frame = Frame.from_atoms(atoms, properties=(), source="i-PI")
        weights = model.reference_charges
        graph = build_graph(frame, model.r_max, weights.dtype, neighbours.find(frame)).to(device=weights.device)
        outputs = model(graph, properties=tuple(self._familiarity.asked(names)))
        result: dict[str, Any] = next(split_outputs(outputs, [len(frame)]))
        check_finite(result, "i-PI", frame.pbc)
        self._familiarity.note(frame.atomic_numbers, result, "i-PI")
        return result

    def _has_stress(self) -> bool:
        if not self._atoms.pbc.all():
            return False
        return self._base is None or "stress" in getattr(self._base, "implemented_properties", ())

    def _source(self, name: str) -> str:
        """The property of the model behind an extra."""
        periodic, row = bool(self._atoms.pbc.any()), PROPERTIES[name]
        if row.unit not in TO_ATOMIC:
            raise DynamicsError(f"properties: {name} in {row.unit} cannot be sent as an extra; leave it out")
        if self._model is None:
            raise DynamicsError(f"properties: there is no model that gives {name}; name one under charges, or none here ([])")
        source = (source_of_polarization(self._model, periodic) or "") if name == "dipole" and periodic else name
        if source not in self._model.provides or not PROPERTIES[source].is_defined(self._atoms.pbc):
            where = "of this structure, which is periodic" if periodic else "of a molecule"
            raise DynamicsError(
                f"properties: the model gives no {name} {where} (heads: {', '.join(self._model.heads)}); leave it out, or take "
                "another model"
            )
        return source


def _virial(atoms: Atoms, forces: np.ndarray, stress: np.ndarray | None) -> np.ndarray:
    """-dU/d(strain) in eV."""
    if stress is not None:
        return np.asarray(-atoms.get_volume() * np.asarray(stress, dtype=np.float64))
    if atoms.pbc.any():
        return np.full((3, 3), np.nan)
    return np.asarray((atoms.positions - atoms.positions.mean(axis=0)).T @ forces)


def _in_atomic_units(name: str, value: np.ndarray) -> np.ndarray:
    value = np.asarray(value, dtype=np.float64) * TO_ATOMIC[PROPERTIES[name].unit]
    return value.transpose(0, 2, 1).reshape(-1, 3) if name == Z else value


class IPIDriver:
    """The client's end of a socket of i-PI.

    Args:
        address: Host, or name of a unix socket where there is no port.
        port: Of i-PI.
        socket_prefix: What i-PI puts before the name of a unix socket.
        wait_seconds: How long to wait for i-PI to open its socket.

    Raises:
        DynamicsError: There is nobody at the other end.
    """

    def __init__(
        self, address: str, port: int | None = None, socket_prefix: str = "/tmp/ipi_", wait_seconds: float = 60.0
    ) -> None:
        self.name = f"{address}:{port}" if port is not None else f"{socket_prefix}{address}"
        self.evaluations = 0
        self._socket = _connect(self.name, address, port, wait_seconds)

    def serve(self, answers: Answers) -> int:
        """Answer until i-PI says that it is done.

        Args:
            answers: Evaluates a configuration.

        Returns:
            Number of evaluations.

        Raises:
            DynamicsError: The connection is lost, or i-PI asks for something else than it should.
            ModelError: A result is not finite; i-PI is left without an answer.
        """
        replica, answer, initialised = 0, None, False
        with self._socket:
            while True:
                message = self._receive(_HEADER).decode("ascii", "replace").strip()
                if message == "STATUS":
                    self._send(_text("HAVEDATA" if answer else "READY" if initialised else "NEEDINIT"))
                elif message == "INIT":
                    replica, initialised = self._initialise(), True
                elif message == "POSDATA":
                    answer = self._evaluate(answers, replica)
                elif message == "GETFORCE" and answer is not None:
                    self._send(_text("FORCEREADY") + answer.to_bytes())
                    # Whoever asks next says for which replica.
                    answer, initialised = None, False
                elif message == "EXIT":
                    return self.evaluations
                else:
                    raise DynamicsError(
                        f"{self.name}: the other side sent {message!r}, which is no message that is due now; check that "
                        "i-PI listens there"
                    )

    def _initialise(self) -> int:
        replica, length = np.frombuffer(self._receive(8), dtype=np.int32).tolist()
        parameters = self._receive(length).decode("utf-8", "replace")
        if "batch_size" in parameters:
            raise DynamicsError(f"{self.name}: i-PI wants to send batches ({parameters}); set batch_size to 1 in its ffsocket")
        return int(replica)

    def _evaluate(self, answers: Answers, replica: int) -> Answer:
        cell = np.frombuffer(self._receive(72), dtype=np.float64).reshape(3, 3).T  # i-PI has lattice vectors in columns.
        self._receive(72)
        (count,) = np.frombuffer(self._receive(4), dtype=np.int32).tolist()
        positions = np.frombuffer(self._receive(24 * count), dtype=np.float64).reshape(-1, 3)
        if count != answers.n_atoms:
            raise DynamicsError(
                f"{self.name}: i-PI sends {count} atoms, and the structure of the driver has {answers.n_atoms}; both must hold "
                "the same atoms in the same order"
            )
        answer = answers(positions * BOHR, cell * BOHR, replica)
        self.evaluations += 1
        return answer

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._lost(error) from error

    def _receive(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            try:
                part = self._socket.recv(length - len(data))
            except OSError as error:
                raise self._lost(error) from error
            if not part:
                raise self._lost(None)
            data += part
        return bytes(data)

    def _lost(self, error: OSError | None) -> DynamicsError:
        reason = f" ({error.strerror or error})" if error is not None else ""
        return DynamicsError(
            f"{self.name}: i-PI is gone after {self.evaluations} evaluations without saying EXIT{reason}; look at its output "
            "for the reason, and start both again, i-PI from its RESTART file"
        )


def _connect(name: str, address: str, port: int | None, wait_seconds: float) -> socket.socket:
    """Connect to i-PI, which may be slower to start than the driver."""
    connect: Callable[[], socket.socket] = (
        (lambda: _unix(name)) if port is None else (lambda: socket.create_connection((address, port), timeout=10.0))
    )
    end, told = time.monotonic() + wait_seconds, False
    while True:
        try:
            connection = connect()
        except (ConnectionError, FileNotFoundError, TimeoutError) as error:
            if time.monotonic() >= end:
                stale = port is None and isinstance(error, ConnectionRefusedError)
                cure = "remove that file, which an i-PI that was killed has left, and start i-PI" if stale else "start i-PI"
                raise DynamicsError(
                    f"{name}: nobody listens there after {wait_seconds:g} s ({error.strerror or error}); {cure}, with this "
                    "address, port and mode in its ffsocket, or let wait_seconds be longer"
                ) from error
        except OSError as error:
            raise DynamicsError(
                f"{name}: cannot be connected to ({error.strerror or error}); check address and port"
            ) from error
        else:
            connection.settimeout(None)
            if port is not None:
                with suppress(OSError):
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        if not told:
            logger.info("waiting for i-PI at %s", name)
            told = True
        time.sleep(_RETRY_SECONDS)


def _unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _text(message: str) -> bytes:
    return message.ljust(_HEADER).encode()
