"""Optimizer, learning-rate schedule and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bec_mace.errors import TrainingError
from bec_mace.train.soap import SOAP, matrix_parts

_UNDECAYED = ("bias", "reference")
_ADAMS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
_OPTIMIZERS = (*_ADAMS, "soap")
_SCHEDULES = ("cosine", "plateau", "constant")


def build_optimizer(
    model: nn.Module, name: str = "adam", learning_rate: float = 0.01, amsgrad: bool = True, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """Adam, AdamW or SOAP over the trainable parameters of a model.

    Weight decay spares biases, reference charges and reference energies: they are offsets that should not be pulled to
    zero.

    Args:
        model: Every parameter that requires a gradient is optimized.
        name: ``"adam"``, ``"adamw"`` or ``"soap"``.
        learning_rate: The highest learning rate; a schedule scales it.
        amsgrad: Keep the running maximum of the second moment, which steadies the last epochs; ``soap`` has no such option.
        weight_decay: L2 penalty for ``adam``, decoupled decay for ``adamw`` and ``soap``.

    Raises:
        TrainingError: If the name is unknown or nothing is trainable.
    """
    if name not in _OPTIMIZERS:
        raise TrainingError(f"optimizer: unknown name {name!r}; choose one of {', '.join(_OPTIMIZERS)}")
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            held = any(word in parameter_name for word in _UNDECAYED)
            (undecayed if held else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": undecayed, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise TrainingError("optimizer: the model has no trainable parameter")
    if name == "soap":
        return SOAP(groups, matrix_parts(model), lr=learning_rate)
    result: torch.optim.Optimizer = _ADAMS[name](groups, lr=learning_rate, amsgrad=amsgrad, foreach=True)
    return result


class Schedule:
    r"""Learning rate as a function of the optimizer step.

    During warm-up the rate rises linearly from zero; step n of n_w gets (n + 1) / n_w. Afterwards

    * ``constant``: 1;
    * ``cosine``: f + (1 - f) (1 + cos(pi t)) / 2 with t from 0 to 1 over the steps left and
      f = ``final_fraction``;
    * ``plateau``: times ``factor`` whenever the validation loss has not improved for ``patience`` validations.

    Args:
        optimizer: Its learning rates at this moment are the highest ones.
        name: ``"cosine"``, ``"plateau"`` or ``"constant"``.
        total_steps: Steps of the whole run.
        warmup_steps: Steps of the linear rise.
        final_fraction: Last rate over highest rate, for ``cosine``.
        patience: Validations without improvement before the rate falls.
        factor: What the rate is multiplied by then.

    Raises:
        TrainingError: If the name is unknown.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        name: str,
        total_steps: int,
        warmup_steps: int = 0,
        final_fraction: float = 0.01,
        patience: int = 10,
        factor: float = 0.5,
    ) -> None:
        if name not in _SCHEDULES:
            raise TrainingError(f"schedule: unknown name {name!r}; choose one of {', '.join(_SCHEDULES)}")
        self.optimizer = optimizer
        self.name = name
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.final_fraction = final_fraction
        self.patience = patience
        self.factor = factor
        self.highest = [group["lr"] for group in optimizer.param_groups]
        self.step_count = 0
        self.plateau_fraction = 1.0
        self.best = math.inf
        self.waited = 0
        self._apply()

    def fraction(self, step: int) -> float:
        """Rate of optimizer step ``step`` (from 0) over the highest rate."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.name == "cosine":
            left = max(self.total_steps - self.warmup_steps, 1)
            progress = min((step - self.warmup_steps) / left, 1.0)
            return self.final_fraction + (1.0 - self.final_fraction) * 0.5 * (1.0 + math.cos(math.pi * progress))
        return self.plateau_fraction

    def step(self) -> None:
        """Go on to the next optimizer step."""
        self.step_count += 1
        self._apply()

    def observe(self, validation_loss: float) -> None:
        """Tell a ``plateau`` schedule the validation loss; the others ignore it."""
        if self.name != "plateau":
            return
        if validation_loss < self.best:
            self.best, self.waited = validation_loss, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.plateau_fraction *= self.factor
            self.waited = 0
            self._apply()

    def learning_rate(self) -> float:
        """The rate that the next optimizer step uses."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on exactly, as plain numbers."""
        return {name: getattr(self, name) for name in ("step_count", "plateau_fraction", "best", "waited")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict()``."""
        for name in ("step_count", "plateau_fraction", "best", "waited"):
            setattr(self, name, state[name])
        self._apply()

    def _apply(self) -> None:
        fraction = self.fraction(self.step_count)
        for group, highest in zip(self.optimizer.param_groups, self.highest, strict=True):
            group["lr"] = highest * fraction


class MovingAverage:
    """Exponential moving average of the trainable parameters.

    After update n (from 0) the average is a <- d a + (1 - d) w with d = min(decay, (1 + n) / (10 + n)), so that the
    initial weights are soon forgotten.

    Args:
        model: The model whose parameters are followed.
        decay: The long-run decay d; zero makes the average equal to the weights.

    Raises:
        TrainingError: If the decay is not in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise TrainingError(f"ema_decay must be at least 0 and below 1, got {decay}")
        self.decay = decay
        self.updates = 0
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights into the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self._average.values()), list(self._parameters.values()), 1.0 - decay)
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the model for the time of a ``with`` block."""
        kept = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._fill(self._average)
        try:
            yield
        finally:
            self._fill(kept)

    def state_dict(self) -> dict[str, Any]:
        """The averages and the number of updates."""
        return {"updates": self.updates, "average": {name: value.clone() for name, value in self._average.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict()``."""
        self.updates = state["updates"]
        for name, value in self._average.items():
            value.copy_(state["average"][name])

    @torch.no_grad()
    def _fill(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])
