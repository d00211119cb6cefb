"""The fit of a kernel model: representatives, normal equations, Bayesian evidence, calibration."""

from bec_mace.training.kernel.fit import fit_kernel

__all__ = ["fit_kernel"]
