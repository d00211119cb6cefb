"""The file of a model: tensors, and a description of them as JSON in the header, under a digest of both.

Files of earlier formats are read: each step of ``_UPGRADES`` makes a description of one format that of the next.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bec_mace.errors import ModelError
from bec_mace.storage.files import replace_file

FORMAT_VERSION = 2
_KEY = "bec_mace"
# What the numbers of a model depend on. Metrics and words beside it may change.
_DEFINING = ("format_version", "config", "statistics", "elements")

Tensors = dict[str, torch.Tensor]


def tensors_path(path: str | Path) -> Path:
    """The path with the ending of a model file."""
    path = Path(path)
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")


def write_checkpoint(path: Path, description: Mapping[str, Any], tensors: Tensors) -> Path:
    """Write a model file; it is whole or not there.

    Args:
        path: Of the file.
        description: Plain values, with format_version, config, statistics and elements.
        tensors: By name, on the CPU.
    """
    description = json.loads(json.dumps(description))  # as it will be read: keys are texts
    text = json.dumps({**description, "digest": digest(description, tensors)}, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda temporary: save_file(tensors, temporary, metadata={_KEY: text}))
    path.chmod(0o644)
    return path


def read_checkpoint(path: Path) -> tuple[dict[str, Any], Tensors]:
    """The description, in the present format, and the tensors of a model file.

    Raises:
        ModelError: The file is missing, damaged, or of a format that is not known.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; give the file of a model.")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as exc:
        raise ModelError(f"{path}: cannot be read ({exc}); the file is damaged, copy it again.") from exc
    beside = path.with_suffix(".json")
    description = _parse(text, path) if text is not None else _parse(_text_of(beside, path), beside)
    version = description.get("format_version")
    if not isinstance(version, int) or version not in {*_UPGRADES, FORMAT_VERSION} or (version == 1) != (text is None):
        raise ModelError(
            f"{path}: format version {version}, this package reads 1 to {FORMAT_VERSION}; "
            "install the version of bec_mace that wrote it, or save the model again."
        )
    if version == 1 and description.get("tensors_sha256") != hashlib.sha256(path.read_bytes()).hexdigest():
        raise ModelError(
            f"{path}: not the file that {beside.name} was written with; keep the .safetensors and .json of one model together."
        )
    if version > 1 and description.get("digest") != digest(description, tensors):
        raise ModelError(f"{path}: is not as it was saved, its digest is another; the file is damaged, copy it again.")
    for number in range(version, FORMAT_VERSION):
        description = _UPGRADES[number](description)
    return description, tensors


def digest(description: Mapping[str, Any], tensors: Tensors) -> str:
    """SHA-256 of all that the numbers of a model depend on."""
    defining = {name: description.get(name) for name in _DEFINING}
    total = hashlib.sha256(json.dumps(defining, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _text_of(path: Path, tensors: Path) -> str:
    """The description of a model of format 1, which was a file of its own."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise ModelError(
            f"{tensors}: holds no description of a model, and {path.name} is not beside it, where models of earlier versions "
            "have theirs; keep the two files together."
        ) from exc
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path}: cannot be read ({exc}); the file is damaged, copy it again.") from exc


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        description = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ModelError(f"{path}: cannot be read ({exc}); the file is damaged, copy it again.") from exc
    if not isinstance(description, dict):
        raise ModelError(f"{path}: does not describe a model; the file is damaged, copy it again.")
    return description


def _to_one_file(description: dict[str, Any]) -> dict[str, Any]:
    """Format 1 had two files, and a digest of the tensors alone."""
    return {**{name: value for name, value in description.items() if name != "tensors_sha256"}, "format_version": 2}


_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _to_one_file}
