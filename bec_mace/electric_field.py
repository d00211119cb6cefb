"""Uniform electric fields that are constant or change with time.

A field is anything that gives its three components, in V/Å, at a time in fs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol

import numpy as np

from bec_mace.errors import FieldError
from bec_mace.units import SPEED_OF_LIGHT


class ElectricField(Protocol):
    """A uniform field: called with a time in fs, it gives an array of shape (3,), in V/Å."""

    def __call__(self, time_fs: float, /) -> np.ndarray:
        """The field at a time."""
        ...


@dataclass(frozen=True)
class ConstantField:
    """A field that does not change.

    Args:
        vector: Its three components, in V/Å.

    Raises:
        FieldError: Not three finite numbers.
    """

    vector: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "vector", _three_numbers(self.vector, "vector"))

    def __call__(self, time_fs: float) -> np.ndarray:
        """The field at a time."""
        return np.array(self.vector)


@dataclass(frozen=True)
class SinusoidField:
    r"""An oscillating field, :math:`E(t) = A \sin(2 \pi c \tilde\nu t + \phi)`; zero at t = 0 unless the phase says otherwise.

    Args:
        amplitude: A, three components, in V/Å.
        frequency_cm: The wavenumber, in cm^-1.
        phase: In radians.

    Raises:
        FieldError: Not finite numbers.
    """

    amplitude: Sequence[float]
    frequency_cm: float
    phase: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "amplitude", _three_numbers(self.amplitude, "amplitude"))
        _check_finite(frequency_cm=self.frequency_cm, phase=self.phase)

    def __call__(self, time_fs: float) -> np.ndarray:
        """The field at a time."""
        return np.array(self.amplitude) * math.sin(_angle(self.frequency_cm, time_fs) + self.phase)


@dataclass(frozen=True)
class GaussianPulse:
    r"""A pulse, :math:`E(t) = A \exp(-(t - t_0)^2 / 2 \sigma^2) \cos(2 \pi c \tilde\nu (t - t_0) + \phi)`.

    Without a frequency it is a plain Gaussian.

    Args:
        amplitude: A, three components, in V/Å.
        center_fs: t_0, in fs.
        width_fs: The standard deviation sigma, in fs.
        frequency_cm: The wavenumber of the carrier, in cm^-1.
        phase: Of the carrier at the centre, in radians.

    Raises:
        FieldError: Not finite numbers, or a width that is not positive.
    """

    amplitude: Sequence[float]
    center_fs: float
    width_fs: float
    frequency_cm: float = 0.0
    phase: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "amplitude", _three_numbers(self.amplitude, "amplitude"))
        _check_finite(center_fs=self.center_fs, width_fs=self.width_fs, frequency_cm=self.frequency_cm, phase=self.phase)
        if self.width_fs <= 0:
            raise FieldError(f"electric field: width_fs must be positive, got {self.width_fs}.")

    def __call__(self, time_fs: float) -> np.ndarray:
        """The field at a time."""
        delay = time_fs - self.center_fs
        envelope = math.exp(-0.5 * (delay / self.width_fs) ** 2)
        return np.array(self.amplitude) * (envelope * math.cos(_angle(self.frequency_cm, delay) + self.phase))


@dataclass(frozen=True)
class CallableField:
    """A field from any Python function; what it returns is checked at every call.

    Args:
        function: Takes a time in fs and returns three numbers, in V/Å.
    """

    function: Callable[[float], Sequence[float] | np.ndarray]

    def __call__(self, time_fs: float) -> np.ndarray:
        """The field at a time."""
        return np.array(_three_numbers(self.function(time_fs), f"value at {time_fs:g} fs"))


def as_field(
    value: ElectricField | Callable[[float], Sequence[float] | np.ndarray] | Sequence[float] | np.ndarray | None,
) -> ElectricField | None:
    """Make a field of what a user gives.

    Args:
        value: Three numbers in V/Å, one of the fields of this module, any function of the time in fs, or None.

    Returns:
        A function of the time in fs that gives a fresh array of shape (3,), in V/Å; None for None.

    Raises:
        FieldError: Neither three finite numbers nor something to call; a function's values are checked when it is called.
    """
    if value is None:
        return None
    if isinstance(value, ConstantField | SinusoidField | GaussianPulse | CallableField):
        return value
    if callable(value):
        return CallableField(value)
    return ConstantField(_three_numbers(value, "vector"))


def _angle(frequency_cm: float, time_fs: float) -> float:
    return 2 * math.pi * SPEED_OF_LIGHT * frequency_cm * time_fs


def _three_numbers(value: object, name: str) -> tuple[float, float, float]:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as exc:
        raise FieldError(f"electric field: {name} must be three numbers in V/Å, got {value!r}.") from exc
    if array.shape != (3,):
        raise FieldError(f"electric field: {name} must be three numbers in V/Å, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise FieldError(f"electric field: {name} must be finite, got {array.tolist()}.")
    x, y, z = array.tolist()
    return x, y, z


def _check_finite(**numbers: float) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, Real) or not math.isfinite(number):
            raise FieldError(f"electric field: {name} must be a finite number, got {number!r}.")


class FieldWork:
    r"""The work that the field has done on the atoms along the path they took, by the trapezoid rule.

    .. math:: W = \sum_n \tfrac12 \sum_j (F_{j}(n) + F_{j}(n+1)) \cdot (r_j(n+1) - r_j(n))

    A displacement by lattice vectors does not count, so atoms may be wrapped on the way. Other atoms, another cell or other
    periodic directions begin a new path, with no work done.

    Attributes:
        work: W so far, in eV.
    """

    def __init__(self) -> None:
        self.work = 0.0
        self._point: dict[str, np.ndarray] = {}

    def reset(self) -> None:
        """Begin a new path at the next point."""
        self.work, self._point = 0.0, {}

    def advance(
        self, forces: np.ndarray, positions: np.ndarray, numbers: np.ndarray, cell: np.ndarray, pbc: np.ndarray
    ) -> None:
        """Go on to a new point.

        Args:
            forces: Of the field, of shape (n_atoms, 3), in eV/Å.
            positions: Of shape (n_atoms, 3), in Å.
            numbers: Atomic numbers, of shape (n_atoms,).
            cell: Lattice vectors as rows, of shape (3, 3), in Å.
            pbc: Periodic directions, of shape (3,).
        """
        point = {
            name: np.array(value)
            for name, value in (
                ("forces", forces),
                ("positions", positions),
                ("numbers", numbers),
                ("cell", cell),
                ("pbc", pbc),
            )
        }
        old, self._point = self._point, point
        if not old or not all(np.array_equal(old[name], point[name]) for name in ("numbers", "cell", "pbc")):
            self.work = 0.0
            return
        step = _without_lattice_vectors(point["positions"] - old["positions"], point["cell"], point["pbc"])
        self.work += 0.5 * float(np.sum((old["forces"] + point["forces"]) * step))

    def state(self) -> dict[str, Any]:
        """The work and the last point of the path, as numbers and arrays, to go on from later."""
        return {"field_work": self.work, **{f"path_{name}": value.copy() for name, value in self._point.items()}}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave.

        Raises:
            FieldError: Something is missing.
        """
        names = ("forces", "positions", "numbers", "cell", "pbc")
        present = [name for name in names if f"path_{name}" in state]
        if "field_work" not in state or len(present) not in (0, len(names)):
            raise FieldError("the state of the field's work is incomplete; start the path anew with reset_field_work().")
        self.work = float(state["field_work"])
        self._point = {name: np.array(state[f"path_{name}"]) for name in present}


def _without_lattice_vectors(step: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Displacements less whole lattice vectors along the periodic directions."""
    rows = cell[pbc]
    if not len(rows):
        return step
    result: np.ndarray = step - np.rint(step @ np.linalg.pinv(rows)) @ rows
    return result
