"""The blocks of mace and e3nn, imported without what they print and warn of. It takes some seconds."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import torch


def _quiet(record: logging.LogRecord) -> bool:
    return "cuequivariance" not in record.getMessage()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Import without remarks; nothing of the process is changed afterwards."""
    root = logging.getLogger("root")
    root.addFilter(_quiet)
    try:
        # e3nn 0.4.4 reads its constants with a slice in the pickle, which torch >= 2.6 refuses unless told.
        with (
            torch.serialization.safe_globals([slice]),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(_quiet)


with _quietly():
    import e3nn
    from e3nn import o3
    from mace.modules.blocks import (
        EquivariantProductBasisBlock,
        LinearNodeEmbeddingBlock,
        RadialEmbeddingBlock,
        RealAgnosticDensityInteractionBlock,
        RealAgnosticDensityResidualInteractionBlock,
        RealAgnosticInteractionBlock,
        RealAgnosticResidualInteractionBlock,
    )

__all__ = [
    "EquivariantProductBasisBlock",
    "LinearNodeEmbeddingBlock",
    "RadialEmbeddingBlock",
    "RealAgnosticDensityInteractionBlock",
    "RealAgnosticDensityResidualInteractionBlock",
    "RealAgnosticInteractionBlock",
    "RealAgnosticResidualInteractionBlock",
    "e3nn",
    "o3",
]
