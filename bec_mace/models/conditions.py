"""What has to hold before a model is evaluated."""

from __future__ import annotations

import torch
from torch import Tensor

from bec_mace.errors import ModelError


def check_precision(weight: Tensor) -> None:
    """Refuse weights that cannot be differentiated or are too coarse for it."""
    if weight.dtype not in (torch.float32, torch.float64):
        raise ModelError(f"the model is in {weight.dtype}, which is too coarse for derivatives; use float32 or float64.")
    if weight.is_inference():
        raise ModelError("the model was made in torch.inference_mode() and cannot be differentiated; make it outside.")


def check_block_size(block_size: int | None, create_graph: bool) -> None:
    """Refuse block sizes that are not positive, and blocks in training."""
    if block_size is not None and block_size < 1:
        raise ModelError(f"block_size must be at least 1, got {block_size}.")
    if block_size is not None and create_graph:
        raise ModelError("block_size cannot be given with create_graph: blocks keep no graph to differentiate. Leave one out.")


def check_field(electric_field: Tensor | None, order: int, wanted: set[str], has_enthalpy: bool) -> None:
    """Refuse a field that nobody asks for or that is missing, and orders that the model does not know."""
    if (electric_field is not None) != ("field_forces" in wanted):
        raise ModelError("field_forces and electric_field belong together; give both or neither.")
    check_order(order, has_enthalpy)


def check_order(order: int, has_enthalpy: bool) -> None:
    """Refuse orders of a field that a model does not know."""
    if order not in (1, 2):
        raise ModelError(f"field_order must be 1 or 2, got {order}.")
    if order == 2 and not has_enthalpy:
        raise ModelError(
            "this model does not know the energy of a field to second order; take field_order 1, or train one with "
            "model.electrostatics.response of dipoles or edges and screening: fixed or global."
        )
