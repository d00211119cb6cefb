"""Files to frames, frames to graphs, graphs to batches.

Names are imported when first used: reading and reporting need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bec_mace.data.batching import build_graph, collate
    from bec_mace.data.fingerprint import data_fingerprint
    from bec_mace.data.frames import Frame
    from bec_mace.data.graph import Graph
    from bec_mace.data.reading import check_complete, read_frames
    from bec_mace.data.report import DataSummary, summarize
    from bec_mace.data.splits import divide_frames, split_frames
    from bec_mace.data.statistics import Statistics, compute_statistics

_HOME = {
    "build_graph": "batching",
    "collate": "batching",
    "Frame": "frames",
    "Graph": "graph",
    "check_complete": "reading",
    "read_frames": "reading",
    "DataSummary": "report",
    "summarize": "report",
    "data_fingerprint": "fingerprint",
    "divide_frames": "splits",
    "split_frames": "splits",
    "Statistics": "statistics",
    "compute_statistics": "statistics",
}

__all__ = [
    "DataSummary",
    "Frame",
    "Graph",
    "Statistics",
    "build_graph",
    "check_complete",
    "collate",
    "compute_statistics",
    "data_fingerprint",
    "divide_frames",
    "read_frames",
    "split_frames",
    "summarize",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"bec_mace.data.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
