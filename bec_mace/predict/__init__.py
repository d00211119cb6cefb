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

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bec_mace.lazy import lazy

if TYPE_CHECKING:
    from bec_mace.predict.hdf5 import read_predictions
    from bec_mace.predict.stream import predict
    from bec_mace.predict.to_file import Summary, predict_files
    from bec_mace.predict.work_units import MAX_ATOMS, batches, split_outputs, to_numpy, unlabelled

_HOME = {
    "MAX_ATOMS": "work_units",
    "batches": "work_units",
    "split_outputs": "work_units",
    "to_numpy": "work_units",
    "unlabelled": "work_units",
    "Summary": "to_file",
    "predict_files": "to_file",
    "read_predictions": "hdf5",
    "predict": "stream",
}

__all__ = [
    "MAX_ATOMS",
    "Summary",
    "batches",
    "predict",
    "predict_files",
    "read_predictions",
    "split_outputs",
    "to_numpy",
    "unlabelled",
]

__getattr__, __dir__ = lazy(__name__, _HOME)


class _Package(ModuleType):
    """``bec_mace.predict`` is the function at the first look and, once this package is imported, the package: call either."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As :func:`bec_mace.predict.stream.predict`."""
        return self.predict(*args, **kwargs)


sys.modules[__name__].__class__ = _Package
