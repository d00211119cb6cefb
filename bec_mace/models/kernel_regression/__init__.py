"""Kernel models and their fit: one stage, linear in the weights, fitted by one linear solve."""

from bec_mace.models.kernel_regression.kernel_model import KernelModel, build_kernel_model

__all__ = ["KernelModel", "build_kernel_model"]
