"""One step, one epoch, one validation, and the state they change."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from bec_mace.config.schema import TrainingConfig
from bec_mace.data import collate
from bec_mace.data.graph import Graph
from bec_mace.errors import TrainingError
from bec_mace.models import PolarizationModel
from bec_mace.models.own_energies import with_own_references
from bec_mace.train.loss import N_SUMS, ErrorSums, Loss
from bec_mace.train.optimizer import MovingAverage, Schedule, build_optimizer
from bec_mace.train.processes import share, sum_gradients, sum_over_processes

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a run has come. Plain numbers, stored in last.pt.

    Attributes:
        epoch: Finished epochs.
        seconds: Time spent in epochs by all starts of the run.
        best_loss: Lowest validation loss so far.
        best_epoch: The epoch it was reached in; 0 before the first validation.
        waited: Validations since then.
    """

    epoch: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf
    best_epoch: int = 0
    waited: int = 0


@dataclass
class TrainingState:
    """Everything that changes during training."""

    model: PolarizationModel
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    average: MovingAverage | None
    progress: Progress = field(default_factory=Progress)

    def parameters(self) -> list[nn.Parameter]:
        """The trained parameters."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain containers that ``load_state_dict`` goes on from."""
        return {
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "progress": dict(vars(self.progress)),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()``."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.progress = Progress(**state["progress"])
        torch.set_rng_state(state["rng"])
        if len(state["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_rng"])

    def averaged(self) -> Any:
        """A context in which the model holds the averaged weights."""
        return nullcontext() if self.average is None else self.average.applied()


def new_state(model: PolarizationModel, config: TrainingConfig, n_train: int) -> TrainingState:
    """Optimizer, schedule and average for a fresh model and ``n_train`` training frames."""
    steps_per_epoch = math.ceil(n_train / config.batch_size)
    optimizer = build_optimizer(model, **config.optimizer.model_dump())
    options = config.schedule.model_dump()
    warmup_steps = round(options.pop("warmup_epochs") * steps_per_epoch)
    schedule = Schedule(optimizer, total_steps=config.epochs * steps_per_epoch, warmup_steps=warmup_steps, **options)
    average = None if config.ema_decay is None else MovingAverage(model, config.ema_decay)
    return TrainingState(model, optimizer, schedule, average)


def epoch_batches(n: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The shuffled batches of one epoch; the same for the same seed and epoch, whatever ran before."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(n, generator=generator).tolist()
    return [order[start : start + batch_size] for start in range(0, n, batch_size)]


def displace(graph: Graph, noise: float | None, seed: int, epoch: int, number: int) -> Graph:
    """A training frame with random displacements; the same for the same seed, epoch and frame, whatever ran before.

    Args:
        graph: The frame; its neighbours stay those of the positions without noise.
        noise: Standard deviation in Å, or None for none.
        seed: Of the run.
        epoch: Of the run.
        number: Of the frame in the training set.
    """
    if noise is None:
        return graph
    generator = np.random.default_rng((seed, epoch, number))
    shift = torch.from_numpy(noise * generator.standard_normal(tuple(graph.positions.shape)))
    return replace(graph, positions=graph.positions + shift.to(graph.positions))


def batch_sums(
    model: PolarizationModel, loss: Loss, graphs: Sequence[Graph], device: torch.device, train: bool
) -> dict[str, ErrorSums]:
    """Error sums by property of one process's graphs; empty where it has none."""
    if not graphs:
        return {}
    batch = collate(graphs).to(device=device)
    names = loss.labelled(batch)
    outputs = with_own_references(model, model(batch, properties=names, create_graph=train), batch)
    return loss.error_sums(outputs, batch)


def training_step(state: TrainingState, loss: Loss, graphs: Sequence[Graph], fabric: Fabric, clip: float | None) -> Tensor:
    """One optimizer step on a batch.

    Args:
        state: Changed in place.
        loss: The loss.
        graphs: The graphs of the whole batch; this process takes its share.
        fabric: Device and processes.
        clip: Largest norm of the gradient, or None.

    Returns:
        Error sums of the whole batch, of shape (n_properties, 5), on the CPU.

    Raises:
        TrainingError: If the loss or the gradient is not finite. The weights are then those before the step.
    """
    state.optimizer.zero_grad(set_to_none=True)
    sums = batch_sums(state.model, loss, share(fabric, graphs), fabric.device, train=True)
    total = sum_over_processes(fabric, loss.stack(sums, fabric.device))
    value = loss.value(sums, total)
    if value.requires_grad:
        value.backward(inputs=state.parameters())  # Nothing is derived by the positions.
    sum_gradients(fabric, state.parameters())
    norm = nn.utils.clip_grad_norm_(state.parameters(), math.inf if clip is None else clip)
    values = torch.cat([total.flatten(), norm.to(total).reshape(1)]).cpu()
    result = values[:-1].reshape(-1, N_SUMS)
    value_now, norm_now = loss.summary(result)["loss"], float(values[-1])
    if not (math.isfinite(value_now) and math.isfinite(norm_now)):
        raise TrainingError(f"the loss became {value_now:g} and the norm of its gradient {norm_now:g}")
    state.optimizer.step()
    state.schedule.step()
    if state.average is not None:
        state.average.update()
    return result


def warm_up(state: TrainingState, loss: Loss, graphs: Sequence[Graph], device: torch.device) -> None:
    """Take the first training frame through a step and a validation a few times; nothing is changed.

    Compiled kernels round differently in their first calls than later, which would show where a run was resumed.
    """
    for train in (True, True, True, False, False, False):
        state.model.train(train)
        sums = batch_sums(state.model, loss, graphs[:1], device, train)
        value = loss.value(sums, loss.stack(sums, device))
        if train and value.requires_grad:
            torch.autograd.grad(value, state.parameters(), allow_unused=True)


def run_epoch(
    state: TrainingState, loss: Loss, graphs: Sequence[Graph], fabric: Fabric, config: TrainingConfig, seed: int
) -> dict[str, float]:
    """One pass over the training graphs; loss, RMSE and MAE over it, of the weights as they were at each step."""
    state.model.train()
    total = torch.zeros(len(loss.properties), N_SUMS, dtype=torch.float64)
    epoch = state.progress.epoch + 1
    batches = epoch_batches(len(graphs), config.batch_size, seed, epoch)
    for step, batch in enumerate(progress_bar(fabric, batches, f"epoch {epoch}/{config.epochs}"), start=1):
        try:
            frames = [displace(graphs[i], config.position_noise, seed, epoch, i) for i in batch]
            total += training_step(state, loss, frames, fabric, config.gradient_clip)
        except TrainingError as error:
            raise TrainingError(
                f"{error} in epoch {epoch}, step {step}, training frames {batch} (counted from 0). The checkpoints are "
                "those of the last good epoch. Try a lower learning rate, a smaller gradient_clip or precision "
                "float64, and look at the labels of those frames."
            ) from None
    return loss.summary(total)


def validate(state: TrainingState, loss: Loss, graphs: Sequence[Graph], fabric: Fabric, batch_size: int) -> dict[str, float]:
    """Loss, RMSE and MAE of the averaged weights; the processes share the frames."""
    total = torch.zeros(len(loss.properties), N_SUMS, dtype=torch.float64, device=fabric.device)
    state.model.eval()
    mine = share(fabric, graphs)
    with state.averaged():
        for start in range(0, len(mine), batch_size):
            sums = batch_sums(state.model, loss, mine[start : start + batch_size], fabric.device, train=False)
            total += loss.stack(sums, fabric.device)
    return loss.summary(sum_over_processes(fabric, total).cpu())


def progress_bar(fabric: Fabric, batches: list[list[int]], label: str) -> Iterator[list[int]]:
    """Batches with a bar on stderr, on a terminal only."""
    hidden = True if fabric.global_rank else None
    yield from tqdm(batches, desc=label, leave=False, disable=hidden)
