"""Errors of Born effective charges and other properties, as plain numbers.

All errors of Z* are in e and taken over all tensor components unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols

OFF_DIAGONAL = ~np.eye(3, dtype=bool)


def rmse(error: np.ndarray) -> float:
    """Root of the mean square; NaN of nothing."""
    return float(np.sqrt(np.mean(np.square(error)))) if error.size else float("nan")


def mae(error: np.ndarray) -> float:
    """Mean absolute value; NaN of nothing."""
    return float(np.mean(np.abs(error))) if error.size else float("nan")


def trivial_charges(atomic_numbers: np.ndarray, tensors: np.ndarray) -> dict[int, float]:
    """One isotropic charge per element, the mean of tr Z / 3 over its atoms, in e.

    Args:
        atomic_numbers: Of shape (n_atoms,).
        tensors: Reference Z*, of shape (n_atoms, 3, 3).
    """
    isotropic = np.trace(tensors, axis1=1, axis2=2) / 3.0
    return {int(z): float(isotropic[atomic_numbers == z].mean()) for z in np.unique(atomic_numbers)}


def trivial_prediction(atomic_numbers: np.ndarray, charges: Mapping[int, float]) -> np.ndarray:
    """Z* of the trivial model, of shape (n_atoms, 3, 3)."""
    return np.array([charges[int(z)] for z in atomic_numbers])[:, None, None] * np.eye(3)


def antisymmetric(tensors: np.ndarray) -> np.ndarray:
    """The three components of (Z - Z^T) / 2, of shape (n_atoms, 3): yz, zx, xy."""
    half = 0.5 * (tensors - tensors.transpose(0, 2, 1))
    return np.stack([half[:, 1, 2], half[:, 2, 0], half[:, 0, 1]], axis=1)


def sum_rule_residual(tensors: Sequence[np.ndarray], total_charges: Sequence[float] | None = None) -> float:
    """Root mean square of sum_j Z_j - Q over frames and components, in e per cell; zero where the sum rule holds.

    Args:
        tensors: Z* of each frame, of shape (n_atoms, 3, 3).
        total_charges: Q of each frame, in e; zero by default.
    """
    sums = np.array([frame.sum(axis=0) for frame in tensors])
    charges = np.zeros(len(sums)) if total_charges is None else np.array(total_charges)
    return rmse(sums - charges[:, None, None] * np.eye(3))


def charge_metrics(
    atomic_numbers: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    total_charges: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Errors of Born effective charges.

    The trivial model's charges are fitted to these very reference values, so it is as good as such a model can be.

    Args:
        atomic_numbers: Of each frame, of shape (n_atoms,).
        reference: Z* of each frame, of shape (n_atoms, 3, 3), in e.
        predicted: As ``reference``.
        total_charges: Of each frame, in e; zero by default.

    Returns:
        ``rmse``, ``mae``; ``diagonal_rmse`` and ``off_diagonal_rmse`` over those components; ``antisymmetric_rmse``
        over the three components of the antisymmetric part; ``per_element`` by symbol; ``sum_rule_residual`` of
        reference and prediction; ``trivial``, the errors of the trivial model.
    """
    numbers, truth, guess = (np.concatenate(list(parts)) for parts in (atomic_numbers, reference, predicted))
    error = guess - truth
    trivial = trivial_prediction(numbers, trivial_charges(numbers, truth)) - truth
    return {
        "rmse": rmse(error),
        "mae": mae(error),
        "diagonal_rmse": rmse(error[:, ~OFF_DIAGONAL]),
        "off_diagonal_rmse": rmse(error[:, OFF_DIAGONAL]),
        "antisymmetric_rmse": rmse(antisymmetric(error)),
        "per_element": {
            chemical_symbols[int(z)]: {"rmse": rmse(error[numbers == z]), "mae": mae(error[numbers == z])}
            for z in np.unique(numbers)
        },
        "sum_rule_residual": {
            "reference": sum_rule_residual(reference, total_charges),
            "predicted": sum_rule_residual(predicted, total_charges),
        },
        "trivial": {"rmse": rmse(trivial), "mae": mae(trivial)},
    }


def head_shares(total: np.ndarray, parts: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    r"""How much each head adds to Z*.

    The share of head h is sum Z_h Z / sum Z Z over all atoms and components: shares add up to 1, and a head
    that works against the others has a negative one. ``rms`` is the root mean square of Z_h alone, in e.

    Args:
        total: Predicted Z*, of shape (n_atoms, 3, 3).
        parts: Contribution of each head, of the same shape.
    """
    norm = float(np.sum(np.square(total, dtype=np.float64)))
    return {
        name: {"share": float(np.sum(part * total, dtype=np.float64)) / norm if norm else 0.0, "rms": rmse(part)}
        for name, part in parts.items()
    }


def coverage_metrics(
    atomic_numbers: Sequence[np.ndarray], errors: Sequence[np.ndarray], deviations: Sequence[np.ndarray]
) -> dict[str, Any]:
    """How well predicted standard deviations describe errors of Z*.

    Args:
        atomic_numbers: Of each frame, of shape (n_atoms,).
        errors: Of each frame, of shape (n_atoms, 3, 3), in e.
        deviations: As ``errors``.

    Returns:
        ``within_68`` and ``within_95``, the shares of errors within 1 and 1.96 standard deviations, which are 0.68 and 0.95
        for normal errors of the predicted size; ``rms`` of the deviations, in e; ``per_element`` the same by symbol.
    """
    numbers, error, deviation = (np.concatenate(list(parts)) for parts in (atomic_numbers, errors, deviations))

    def row(chosen: np.ndarray) -> dict[str, float]:
        scores = np.abs(error[chosen]) / deviation[chosen]
        return {
            "within_68": float(np.mean(scores <= 1.0)),
            "within_95": float(np.mean(scores <= 1.96)),
            "rms": rmse(deviation[chosen]),
        }

    return {
        **row(np.ones(len(numbers), dtype=bool)),
        "per_element": {chemical_symbols[int(z)]: row(numbers == z) for z in np.unique(numbers)},
    }
