"""Models: a backbone, heads, and the exact engine for their derivatives."""

from bec_mace.models.base import PolarizationModel
from bec_mace.models.checkpoint import load_model, save_model, update_metadata
from bec_mace.models.committee import CommitteeModel
from bec_mace.models.kernel_regression import KernelModel, build_kernel_model
from bec_mace.models.network import NetworkModel, build_model

__all__ = ["CommitteeModel", "KernelModel", "NetworkModel", "PolarizationModel", "build_kernel_model", "build_model",
           "load_model", "save_model", "update_metadata"]
