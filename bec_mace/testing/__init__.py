"""Checks that a new head, model or term inherits: symmetries, limits, derivatives, precision, devices.

    from bec_mace.testing import CHECKS, make_model

    @pytest.mark.parametrize("check", CHECKS)
    def test_my_head(check, device):
        CHECKS[check](make_model(("my_module:MyHead",)).to(device))

The fixtures ``device`` and ``dtype`` are in :mod:`bec_mace.testing.fixtures`, the slow and independent Z* of a finite cluster
in :mod:`bec_mace.testing.oracle`, small structures without symmetry in :mod:`bec_mace.testing.structures`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bec_mace.lazy import lazy

if TYPE_CHECKING:
    from bec_mace.testing.oracle import oracle
    from bec_mace.testing.physics import CHECKS, CheckError
    from bec_mace.testing.small_models import copy_model, make_model

__all__ = ["CHECKS", "CheckError", "copy_model", "make_model", "oracle"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "CHECKS": "physics",
        "CheckError": "physics",
        "oracle": "oracle",
        "copy_model": "small_models",
        "make_model": "small_models",
    },
)
