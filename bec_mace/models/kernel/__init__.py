"""Kernel models: one stage, linear in the weights, fitted by one linear solve."""

from bec_mace.models.kernel.design import design_matrix
from bec_mace.models.kernel.model import KernelModel, build_kernel_model

__all__ = ["KernelModel", "build_kernel_model", "design_matrix"]
