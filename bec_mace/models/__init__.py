"""Models: a backbone, heads, and the exact engine for their derivatives."""

from bec_mace.models.checkpoint import load_model, save_model, update_metadata
from bec_mace.models.committee import CommitteeModel
from bec_mace.models.kernel import KernelModel, build_kernel_model
from bec_mace.models.model import NetworkModel, build_model
from bec_mace.models.polarization import PolarizationModel

__all__ = ["CommitteeModel", "KernelModel", "NetworkModel", "PolarizationModel", "build_kernel_model", "build_model",
           "load_model", "save_model", "update_metadata"]
