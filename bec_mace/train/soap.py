r"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner.

For a weight matrix W with gradient G the optimizer keeps running means of :math:`L = G G^T` and :math:`R = G^T G`, and
runs Adam on :math:`Q_L^T G Q_R`, with the eigenvectors of L and R. The eigenvectors are followed by one step of subspace
iteration every few steps. The first gradient makes the eigenvectors and moves nothing: in its own basis it is diagonal, all
else is rounding, and Adam would make whole steps of that.

Small equivariant networks are badly conditioned, and a step is costly beside the matrices: at equal time this halves
the error that Adam reaches.

Reference: Vyas et al., SOAP: Improving and Stabilizing Shampoo using Adam, ICLR 2025, arXiv 2409.11321.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_BETA = 0.95
_EPSILON = 1e-12
_LARGEST = 512
_VECTOR_FRACTION = 0.1


class MatrixPart(NamedTuple):
    """A part of a parameter that is a matrix: where it starts in the flat parameter, and its shape."""

    start: int
    rows: int
    columns: int


def matrix_parts(model: nn.Module) -> dict[nn.Parameter, list[MatrixPart]]:
    """The matrices among a model's parameters.

    e3nn keeps the matrices of all irreps of a linear map in one flat vector; its instructions say where each one is.
    Parameters that are not among the result are vectors.
    """
    parts_of: dict[nn.Parameter, list[MatrixPart]] = {}
    for module in model.modules():
        weight, instructions = getattr(module, "weight", None), getattr(module, "instructions", None)
        if isinstance(weight, nn.Parameter) and instructions:
            parts, start = [], 0
            for instruction in instructions:
                size = int(torch.Size(instruction.path_shape).numel())
                columns = int(instruction.path_shape[-1])
                parts.append(MatrixPart(start, size // columns, columns))
                start += size
            if start == weight.numel():
                parts_of[weight] = parts
    for parameter in model.parameters():
        if parameter not in parts_of and parameter.dim() > 1:
            columns = parameter.shape[-1]
            parts_of[parameter] = [MatrixPart(0, parameter.numel() // columns, columns)]
    return parts_of


class SOAP(torch.optim.Optimizer):
    """The optimizer of the module's docstring.

    Args:
        params: Parameters or groups, as for any optimizer of torch.
        parts: The matrices among them; the rest is optimized by Adam at a tenth of the rate.
        lr: Learning rate. Weights of equivariant layers are of order one, so 0.05 to 0.2 is usual.
        weight_decay: Decoupled weight decay.
        update_every: Steps between updates of the eigenvectors.
    """

    def __init__(
        self,
        params: Iterable[Any],
        parts: Mapping[nn.Parameter, list[MatrixPart]],
        lr: float = 0.1,
        weight_decay: float = 0.0,
        update_every: int = 5,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._parts, self._update_every = dict(parts), update_every

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Change the parameters by one step; ``closure`` is not used."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                state["step"] = state.get("step", 0) + 1
                if group["weight_decay"]:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                flat, gradient = parameter.view(-1), parameter.grad.reshape(-1)
                parts = self._parts.get(parameter)
                if parts is None:
                    flat.sub_(_adam(state, "", gradient, gradient) * (group["lr"] * _VECTOR_FRACTION))
                    continue
                for number, (start, rows, columns) in enumerate(parts):
                    part = slice(start, start + rows * columns)
                    update = self._update(state, f"{number}.", gradient[part].view(rows, columns))
                    flat[part].sub_(update.reshape(-1), alpha=group["lr"])

    def _update(self, state: dict[str, Any], name: str, gradient: Tensor) -> Tensor:
        """Adam's update of one matrix in the eigenbasis, turned back; none from the first gradient."""
        sides = [side for side, size in zip("LR", gradient.shape, strict=True) if size <= _LARGEST]
        for side in sides:
            square = gradient @ gradient.T if side == "L" else gradient.T @ gradient
            if state["step"] == 1:
                state[name + side] = square * (1 - _BETA)
                # In float64: gradients of rare elements leave hundreds of equal eigenvalues, on which float32 fails.
                state[name + "Q" + side] = torch.linalg.eigh(square.double())[1].to(square)
            else:
                state[name + side].lerp_(square, 1 - _BETA)
        if state["step"] == 1 and sides:
            return torch.zeros_like(gradient)
        update = self._turn(
            state,
            name,
            sides,
            _adam(
                state,
                name,
                gradient,
                self._turn(state, name, sides, gradient, back=False),
                lambda mean: self._turn(state, name, sides, mean, back=False),
            ),
            back=True,
        )
        if state["step"] % self._update_every == 0:
            for side in sides:
                _follow_eigenvectors(state, name, side)
        return update

    @staticmethod
    def _turn(state: dict[str, Any], name: str, sides: list[str], value: Tensor, back: bool) -> Tensor:
        """Into the eigenbasis or back."""
        if "L" in sides:
            basis = state[name + "QL"]
            value = basis @ value if back else basis.T @ value
        if "R" in sides:
            basis = state[name + "QR"]
            value = value @ basis.T if back else value @ basis
        return value


def _adam(state: dict[str, Any], name: str, gradient: Tensor, turned: Tensor, turn: Any = None) -> Tensor:
    """Adam's step: the mean of gradients, turned, over the root of the mean square of turned gradients."""
    step = state[name + "count"] = state.get(name + "count", state["step"] - 1) + 1
    if name + "mean" not in state:
        state[name + "mean"], state[name + "square"] = torch.zeros_like(gradient), torch.zeros_like(turned)
    state[name + "mean"].lerp_(gradient, 1 - _BETA)
    state[name + "square"].lerp_(turned.square(), 1 - _BETA)
    correction = 1 - _BETA**step
    mean = state[name + "mean"] if turn is None else turn(state[name + "mean"])
    result: Tensor = (mean / correction) / ((state[name + "square"] / correction).sqrt() + _EPSILON)
    return result


def _follow_eigenvectors(state: dict[str, Any], name: str, side: str) -> None:
    """One step of subspace iteration, eigenvectors in the order of their eigenvalues."""
    matrix, basis = state[name + side], state[name + "Q" + side]
    order = torch.argsort(torch.einsum("ij,ij->j", basis, matrix @ basis), descending=True)
    axis = 0 if side == "L" else 1
    state[name + "square"] = state[name + "square"].index_select(axis, order)
    state[name + "Q" + side] = torch.linalg.qr(matrix @ basis[:, order])[0]
