"""What the tests of files share."""

from __future__ import annotations

import pytest

from bec_mace.data import read_frames


@pytest.fixture
def read(tmp_path):
    """Read a text under a name that says nothing."""

    def _read(content: str, **options):
        path = tmp_path / "run_7"
        path.write_text(content)
        return read_frames(path, **options)

    return _read
