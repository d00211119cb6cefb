"""The training loss: weighted mean squared errors, one term per property.

For property p with weight w_p, the loss of a batch is

    L = sum_p w_p  sum_i s_i f_i |y_i - y_i^ref|^2 / (sum_i s_i n_p)

where i runs over the atoms (or frames) whose frame holds the label, n_p is the number of tensor components, s_i is
the element weight of atom i (1 for properties of a frame) and f_i the factor of its frame (1 unless its files have one).
How errors are made comparable between cells of different size says :mod:`bec_mace.evaluate.residuals`. A polarization that is
wrong by more than half a quantum is pulled to the wrong branch: start from a model that has learned Z*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bec_mace.data.graph import Graph
from bec_mace.errors import TrainingError
from bec_mace.evaluate.residuals import residual
from bec_mace.properties import PROPERTIES


@dataclass(frozen=True)
class ErrorSums:
    """Sums of errors of one property over a batch. Adding them up over batches or processes gives the set's errors.

    Attributes:
        weighted: Sum of squared errors, each times the element weight.
        weight: Sum of element weights times the number of components.
        squared: Sum of squared errors without weights.
        absolute: Sum of absolute errors without weights.
        count: Number of components that were compared.
    """

    weighted: Tensor
    weight: Tensor
    squared: Tensor
    absolute: Tensor
    count: Tensor

    def stack(self) -> Tensor:
        """All five sums without gradient, of shape (5,), float64."""
        values = (self.weighted, self.weight, self.squared, self.absolute, self.count)
        return torch.stack([value.detach().to(torch.float64) for value in values])


N_SUMS = 5
"""Length of ``ErrorSums.stack()``."""


def penalty(errors: Tensor, huber: float | None) -> Tensor:
    """The square of an error; beyond ``huber`` it goes on as the tangent, 2 d |e| - d^2."""
    squared = errors.square()
    return squared if huber is None else torch.where(errors.abs() < huber, squared, 2 * huber * errors.abs() - huber**2)


def _sum_errors(errors: Tensor, kept: Tensor, element_weight: Tensor, factor: Tensor | float, huber: float | None) -> ErrorSums:
    """Sums over rows of ``errors`` (n, components); ``kept`` (n,) is one where there is a label and zero elsewhere."""
    n_components = errors.shape[1]
    squared = errors.detach().square().sum(dim=1) * kept
    return ErrorSums(
        weighted=(penalty(errors, huber).sum(dim=1) * kept * element_weight * factor).sum(),
        weight=(kept * element_weight).sum() * n_components,
        squared=squared.sum(),
        absolute=(errors.detach().abs().sum(dim=1) * kept).sum(),
        count=kept.sum() * n_components,
    )


def _residual(name: str, prediction: Tensor, graph: Graph) -> Tensor:
    return residual(name, prediction, graph.labels[name], graph.atoms_per_frame(), graph.cell, graph.pbc)


@dataclass(frozen=True)
class Loss:
    """Weighted mean squared error over the properties of a batch; see the module for the equation.

    Attributes:
        weights: Weight of each property that is trained, all positive.
        element_weights: Weight of the atoms of each atomic number in properties per atom; 1 where not given. Only their
            ratios matter.
        huber: For a property, the error beyond which the loss grows only linearly; squares throughout where not given.
    """

    weights: Mapping[str, float]
    element_weights: Mapping[int, float] = field(default_factory=dict)
    huber: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = [name for name in self.weights if name not in PROPERTIES]
        if unknown:
            raise TrainingError(f"loss weights: unknown property {unknown[0]!r}; known are {', '.join(PROPERTIES)}")
        negative = [name for name, weight in self.weights.items() if not weight > 0.0]
        if negative:
            raise TrainingError(f"loss weights: the weight of {negative[0]!r} must be positive; leave it out to not train it")
        if not self.weights:
            raise TrainingError("loss weights: no property has a positive weight, so there is nothing to train")

    @property
    def properties(self) -> tuple[str, ...]:
        """Names of the trained properties, in the order of ``weights``."""
        return tuple(self.weights)

    def labelled(self, graph: Graph) -> tuple[str, ...]:
        """The trained properties of which a batch holds labels."""
        return tuple(name for name in self.weights if name in graph.labels)

    def error_sums(self, outputs: Mapping[str, Tensor], graph: Graph) -> dict[str, ErrorSums]:
        """Sums of errors by property over the frames of ``graph`` that hold the label."""
        sums: dict[str, ErrorSums] = {}
        for name in self.labelled(graph):
            errors, labelled = _residual(name, outputs[name], graph), graph.masks[name]
            per_atom = PROPERTIES[name].per == "atom"
            labelled = labelled[graph.frame_index] if per_atom else labelled
            # Where there is no label, the prediction may be no number either.
            errors = torch.where(labelled.unsqueeze(-1), errors, torch.zeros_like(errors))
            kept = labelled.to(errors.dtype)
            weight = self._weight_per_atom(graph.atomic_numbers, errors.dtype) if per_atom else torch.ones_like(kept)
            factor: Tensor | float = 1.0
            if name in graph.weights:
                factor = graph.weights[name].to(errors.dtype)
                factor = factor[graph.frame_index] if per_atom else factor
            sums[name] = _sum_errors(errors, kept, weight, factor, self.huber.get(name))
        return sums

    def stack(self, sums: Mapping[str, ErrorSums], device: torch.device | str = "cpu") -> Tensor:
        """Sums as one tensor of shape (n_properties, 5) without gradient; zero where a property has none."""
        empty = torch.zeros(N_SUMS, dtype=torch.float64, device=device)
        return torch.stack([sums[name].stack() if name in sums else empty for name in self.weights])

    def value(self, sums: Mapping[str, ErrorSums], total: Tensor) -> Tensor:
        """The loss of a batch, or one process's share of it.

        Args:
            sums: From ``error_sums``, of this process's frames.
            total: ``stack(sums)`` of the whole batch. The values of the processes add up to the loss of the batch, and
                so do their gradients.

        Returns:
            A scalar. A property without any label in the batch adds zero.
        """
        value = total.new_zeros(())
        for row, (name, factor) in enumerate(self.weights.items()):
            if name in sums:
                weight = total[row, 1].to(sums[name].weighted.dtype)
                value = value + factor * sums[name].weighted / torch.where(weight > 0, weight, torch.ones_like(weight))
        return value

    def summary(self, stacked: Tensor) -> dict[str, float]:
        """Loss, RMSE and MAE of a set from summed ``ErrorSums.stack()`` rows.

        Args:
            stacked: Of shape (n_properties, 5), in the order of ``properties``.

        Returns:
            ``loss``, and ``{property}_rmse`` and ``{property}_mae`` for each property that had a label.
        """
        result = {"loss": 0.0}
        for (name, factor), row in zip(self.weights.items(), stacked.tolist(), strict=True):
            weighted, weight, squared, absolute, count = row
            if count > 0:
                result["loss"] += factor * weighted / weight if weight > 0 else 0.0
                result[f"{name}_rmse"] = (squared / count) ** 0.5
                result[f"{name}_mae"] = absolute / count
        return result

    def _weight_per_atom(self, atomic_numbers: Tensor, dtype: torch.dtype) -> Tensor:
        weight = torch.ones(atomic_numbers.shape, dtype=dtype, device=atomic_numbers.device)
        for number, value in self.element_weights.items():
            weight = torch.where(atomic_numbers == number, torch.as_tensor(value, dtype=dtype), weight)
        return weight
