"""The blocks of mace and e3nn, imported without what they print and warn of. It takes some seconds."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import torch

# e3nn 0.4.4 reads its constants with a slice in the pickle, which torch >= 2.6 refuses unless told.
torch.serialization.add_safe_globals([slice])
logging.getLogger("root").addFilter(lambda record: "cuequivariance" not in record.getMessage())
with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
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
