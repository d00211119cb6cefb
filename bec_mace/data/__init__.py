"""Files to frames, frames to graphs, graphs to batches.

Names are imported when first used: reading and reporting need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bec_mace.lazy import lazy

if TYPE_CHECKING:
    from bec_mace.data.batching import build_graph, collate
    from bec_mace.data.fingerprint import data_fingerprint
    from bec_mace.data.frames import Frame
    from bec_mace.data.graph import Graph
    from bec_mace.data.reading import check_complete, read_frames
    from bec_mace.data.splits import divide_frames, split_frames
    from bec_mace.data.statistics import Statistics, compute_statistics
    from bec_mace.data.summary import DataSummary, summarize

_HOME = {
    "build_graph": "batching",
    "collate": "batching",
    "Frame": "frames",
    "Graph": "graph",
    "check_complete": "reading",
    "read_frames": "reading",
    "DataSummary": "summary",
    "summarize": "summary",
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

__getattr__, __dir__ = lazy(__name__, _HOME)
