"""Prediction for streams of structures: read as they are needed, packed into batches, written as they come, in order.

    predict          results one after another, in Python
    predict_files    files to a file, resumable, over several processes
    read_predictions the structures and results of an HDF5 file

The share of time in the model is in what :func:`predict_files` returns::

    summary = predict_files(load_model("water"), "frames.extxyz", "out.h5", ("born_effective_charges",), workers=0)
    summary.model_share, summary.atoms_per_second, peak resident memory of the process (VmHWM in /proc/self/status)

Names are imported when first used: a process that only finds neighbours needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bec_mace.inference.batching import MAX_ATOMS, batches, split_outputs, to_numpy, unlabelled
    from bec_mace.inference.files import Summary, predict_files
    from bec_mace.inference.hdf5 import read_predictions
    from bec_mace.inference.stream import predict

_HOME = {
    "MAX_ATOMS": "batching",
    "batches": "batching",
    "split_outputs": "batching",
    "to_numpy": "batching",
    "unlabelled": "batching",
    "Summary": "files",
    "predict_files": "files",
    "read_predictions": "hdf5",
    "predict": "stream",
}

__all__ = ["MAX_ATOMS", "Summary", "batches", "predict", "predict_files", "read_predictions", "split_outputs", "to_numpy",
           "unlabelled"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"bec_mace.inference.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
