"""Born effective charges from equivariant message-passing networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bec_mace.former_names import install
from bec_mace.lazy import lazy
from bec_mace.version import __version__

if TYPE_CHECKING:
    from bec_mace.integrations.ase import BECCalculator
    from bec_mace.models import load_model
    from bec_mace.predict import predict

__all__ = ["BECCalculator", "__version__", "load_model", "predict"]

# Resolved at first use: torch alone takes seconds to import.
__getattr__, __dir__ = lazy(__name__, {"BECCalculator": "integrations.ase", "load_model": "models", "predict": "predict"})
install()
