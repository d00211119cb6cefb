"""Models: a backbone and heads, kernels, committees.

Names are imported when first used: a kernel model needs no mace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bec_mace.lazy import lazy

if TYPE_CHECKING:
    from bec_mace.models.base import PolarizationModel
    from bec_mace.models.checkpoint import load_model, save_model, update_metadata
    from bec_mace.models.committee import CommitteeModel
    from bec_mace.models.kernel_regression import KernelModel, build_kernel_model
    from bec_mace.models.network import NetworkModel, build_model

_HOME = {
    "CommitteeModel": "committee",
    "KernelModel": "kernel_regression",
    "NetworkModel": "network",
    "PolarizationModel": "base",
    "build_kernel_model": "kernel_regression",
    "build_model": "network",
    "load_model": "checkpoint",
    "save_model": "checkpoint",
    "update_metadata": "checkpoint",
}

__all__ = [
    "CommitteeModel",
    "KernelModel",
    "NetworkModel",
    "PolarizationModel",
    "build_kernel_model",
    "build_model",
    "load_model",
    "save_model",
    "update_metadata",
]

__getattr__, __dir__ = lazy(__name__, _HOME)
