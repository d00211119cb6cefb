"""Files of mace models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], str]:
    def write(module: Any) -> str:
        torch.save(module, tmp_path / "user.model")
        return str(tmp_path / "user.model")

    return write


@pytest.fixture
def present(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], str]:
    """A file that holds a module without the time that writing and reading it takes."""

    def write(module: Any) -> str:
        (tmp_path / "user.model").touch()
        monkeypatch.setattr(torch, "load", lambda *_, **__: module)
        return str(tmp_path / "user.model")

    return write
