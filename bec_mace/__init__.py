"""Born effective charges from equivariant message-passing networks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bec_mace.calculator import BECCalculator
    from bec_mace.inference import predict
    from bec_mace.models import load_model

__version__ = "0.1.0"
__all__ = ["BECCalculator", "__version__", "load_model", "predict"]

# Resolved at first use: torch alone takes seconds to import.
_HOMES = {"BECCalculator": "bec_mace.calculator", "load_model": "bec_mace.models", "predict": "bec_mace.inference"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bec_mace' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
