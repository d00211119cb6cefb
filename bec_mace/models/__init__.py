"""Models: a backbone, heads, and the exact engine for their derivatives."""

from bec_mace.models.checkpoint import load_model, save_model
from bec_mace.models.model import PolarizationModel, build_model

__all__ = ["PolarizationModel", "build_model", "load_model", "save_model"]
