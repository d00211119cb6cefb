"""Saving and loading models: tensors as safetensors, everything else as JSON. Loading runs no code."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers, chemical_symbols
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bec_mace.config.model import CommitteeConfig, KernelModelConfig, ModelConfig, read_model_config
from bec_mace.data.statistics import Statistics
from bec_mace.errors import ModelError
from bec_mace.models.base import PolarizationModel
from bec_mace.properties import PROPERTIES
from bec_mace.storage.files import replace_file
from bec_mace.units import BASE_UNITS
from bec_mace.version import __version__

FORMAT_VERSION = 1


def save_model(model: PolarizationModel, path: str | Path, metadata: Mapping[str, Any] | None = None) -> Path:
    """Write PATH.safetensors and PATH.json; each is written whole or not at all.

    Args:
        model: The model.
        path: Path without or with the ending ``.safetensors``.
        metadata: What else to keep: training configuration, fingerprint of the data, metrics.

    Returns:
        The path of the safetensors file.
    """
    tensors_path = _tensors_path(path)
    description = {
        **(metadata or {}),
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "units": {
            **BASE_UNITS,
            **{name: PROPERTIES[name].unit for name in sorted(model.provides & PROPERTIES.keys())},
            "index_order": "polarization_first",
        },
        "elements": [chemical_symbols[z] for z in model.elements],
        "config": model.config.model_dump(mode="json"),
        "statistics": dataclasses.asdict(model.statistics),
        "number_of_parameters": sum(p.numel() for p in model.parameters()),
    }
    tensors = {name: _as_precise_as_known(model, name, value).cpu().contiguous() for name, value in model.own_tensors().items()}
    tensors_path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(tensors_path, lambda path: save_file(tensors, path))
    description["tensors_sha256"] = _digest(tensors_path)
    tensors_path.chmod(0o644)
    _write_description(tensors_path.with_suffix(".json"), description)
    return tensors_path


def update_metadata(path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Change what is kept beside the tensors of a saved model; the tensors stay as they are.

    Args:
        path: As for :func:`save_model`.
        metadata: What to replace or add.

    Raises:
        ModelError: There is no such model.
    """
    json_path = _tensors_path(path).with_suffix(".json")
    _write_description(json_path, {**_read_description(json_path), **metadata})


def _write_description(json_path: Path, description: Mapping[str, Any]) -> None:
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    replace_file(json_path, lambda path: path.write_text(text, encoding="utf-8"))


def load_model(
    path_or_name: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> PolarizationModel:
    """Load a model from a file, a run folder, or by the name of one that comes with the package.

    Args:
        path_or_name: ``"water"``, ``"runs/water"``, ``"runs/water/best"`` or ``"best.safetensors"``.
        device: Where the weights go.
        dtype: Floating-point type of weights and computation.

    Raises:
        ModelError: There is no such model, or its files do not fit together.
    """
    tensors_path = _find(path_or_name)
    description = _read_description(tensors_path.with_suffix(".json"))
    try:
        config = read_model_config(description["config"])
        statistics = _statistics(description["statistics"])
        elements = [atomic_numbers[symbol] for symbol in description["elements"]]
        if not elements or elements != sorted(set(elements)):
            raise ValueError("elements must be a list of symbols in the order of their numbers")
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ModelError(
            f"{tensors_path.with_suffix('.json')}: does not describe a model ({exc}); save the model again."
        ) from exc
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        model = _build(config, elements, statistics, dtype)
    try:
        tensors = load_file(tensors_path)
    except (SafetensorError, OSError) as exc:
        raise ModelError(f"{tensors_path}: cannot be read ({exc}); the file is damaged, copy it again.") from exc
    if description.get("tensors_sha256") != _digest(tensors_path):
        raise ModelError(
            f"{tensors_path}: not the file that {tensors_path.with_suffix('.json').name} was written with; "
            "keep the .safetensors and .json of one model together."
        )
    expected = model.own_tensors()
    wrong = sorted(
        {name for name in tensors.keys() & expected.keys() if tensors[name].shape != expected[name].shape}
        | (tensors.keys() ^ expected.keys())
    )
    if wrong:
        raise ModelError(
            f"{tensors_path}: tensors do not fit the description beside it ({', '.join(wrong[:4])}); "
            "keep the .safetensors and .json of one model together."
        )
    model.load_state_dict({name: value.to(expected[name].dtype) for name, value in tensors.items()}, strict=False)
    model.metadata = description
    with torch.inference_mode(False):
        return model.to(device).eval().requires_grad_(False)


def copy_model(
    model: PolarizationModel, dtype: torch.dtype | None = None, device: str | torch.device | None = None
) -> PolarizationModel:
    """A model with the same weights, in the precision and on the device of the first by default; changing it changes nothing.

    Args:
        model: The model.
        dtype: Floating-point type of weights and computation.
        device: Where the weights go.
    """
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        copy = _build(model.config, model.elements, model.statistics, dtype or model.dtype)
        expected = copy.own_tensors()
        copy.load_state_dict(
            {name: value.detach().to(expected[name].dtype) for name, value in model.own_tensors().items()}, strict=False
        )
        copy.metadata, copy.exact_weights = model.metadata, model.exact_weights
        copy = copy.to(device or model.reference_charges.device)
    for ours, theirs in zip(copy.parameters(), model.parameters(), strict=True):
        ours.requires_grad_(theirs.requires_grad)
    return copy.train(model.training)


def _build(
    config: ModelConfig | KernelModelConfig | CommitteeConfig, elements: list[int], statistics: Statistics, dtype: torch.dtype
) -> PolarizationModel:
    """A model that has yet to get its tensors. Only what is built is imported: mace alone takes seconds."""
    if isinstance(config, KernelModelConfig):
        from bec_mace.models.kernel_regression import build_kernel_model

        return build_kernel_model(config, elements, statistics, dtype)
    if isinstance(config, CommitteeConfig):
        from bec_mace.models.committee import build_committee

        return build_committee(config, elements, statistics, dtype)
    from bec_mace.models.network import build_model

    return build_model(config, elements, statistics, dtype)


def _as_precise_as_known(model: PolarizationModel, name: str, value: torch.Tensor) -> torch.Tensor:
    """A weight that was never trained is stored as it was read, not as it was rounded for the computation."""
    value, exact = value.detach(), model.exact_weights.get(name)
    return value if exact is None or not torch.equal(exact.to(value), value) else exact


def _statistics(values: Mapping[str, Any]) -> Statistics:
    if not float(values["avg_num_neighbors"]) > 0:
        raise ValueError("avg_num_neighbors must be positive")
    per_element = {
        name: {int(z): float(v) for z, v in values[name].items()} for name in ("reference_charges", "reference_energies")
    }
    distances = tuple((int(a), int(b), float(d)) for a, b, d in values.get("shortest_distances", ()))
    return Statistics(**{**values, **per_element, "shortest_distances": distances})


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _tensors_path(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")


def available_models() -> list[str]:
    """Names of the models that come with the package."""
    folder = resources.files("bec_mace") / "pretrained"
    return (
        sorted(p.name.removesuffix(".safetensors") for p in folder.iterdir() if p.name.endswith(".safetensors"))
        if folder.is_dir()
        else []
    )


def _find(path_or_name: str | Path) -> Path:
    path = Path(path_or_name)
    candidates = [_tensors_path(path)]
    if path.is_dir():
        candidates.insert(0, path / "best.safetensors")
    if path.suffix == ".json":
        candidates.insert(0, path.with_suffix(".safetensors"))
    if str(path_or_name) in available_models():
        candidates.append(Path(str(resources.files("bec_mace") / "pretrained" / f"{path_or_name}.safetensors")))
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ModelError(
        f"there is no model '{path_or_name}': no such file, no run folder with best.safetensors, and not one of the "
        f"models that come with the package ({', '.join(available_models()) or 'none'})."
    )


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ModelError(f"{path}: missing; a model is two files, keep them together.") from exc
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path}: cannot be read ({exc}); the file is damaged, copy it again.") from exc
    version = description.get("format_version") if isinstance(description, dict) else None
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{path}: format version {version}, this package reads {FORMAT_VERSION}; "
            "install the version of bec_mace that wrote it, or save the model again."
        )
    result: dict[str, Any] = description
    return result
