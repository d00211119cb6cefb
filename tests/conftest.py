"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from hypothesis import HealthCheck, Phase, settings

from bec_mace.testing.fixtures import device, dtype  # noqa: F401 - fixtures of all tests

# The same examples in every run, and no clock: a busy machine must not fail a test. Smaller examples of a failure take minutes;
# `--hypothesis-profile=shrink` asks for them.
settings.register_profile(
    "shrink", derandomize=True, deadline=None, database=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("fixed", settings.get_profile("shrink"), phases=[Phase.explicit, Phase.generate])
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def files() -> Path:
    """The folder of small reference files."""
    return Path(__file__).parent / "files"


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(7)


@pytest.fixture
def write_extxyz(tmp_path: Path) -> Callable[..., Path]:
    """Write structures to a file in the test's own folder and return its path."""

    def write(atoms: Atoms | Sequence[Atoms], name: str = "frames.extxyz") -> Path:
        path = tmp_path / name
        ase.io.write(path, atoms, format="extxyz")
        return path

    return write
