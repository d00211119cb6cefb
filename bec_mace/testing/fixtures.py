"""Fixtures of pytest: import them in your conftest.py, and every test that names one runs once for each of its values.

from bec_mace.testing.fixtures import device, dtype
"""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(params=("cpu", "cuda"))
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU and, where there is one, the GPU."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return torch.device(request.param)


@pytest.fixture(params=(torch.float32, torch.float64), ids=("float32", "float64"))
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Single and double precision."""
    value: torch.dtype = request.param
    return value
