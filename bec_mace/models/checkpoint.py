"""Saving and loading models: one safetensors file whose header holds everything else as JSON. Loading runs no code."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from ase.data import atomic_numbers, chemical_symbols

from bec_mace.config.heads import is_outside
from bec_mace.config.model import CommitteeConfig, KernelModelConfig, ModelConfig, read_model_config
from bec_mace.data.statistics import Statistics
from bec_mace.devices import find_device, find_dtype
from bec_mace.errors import ModelError
from bec_mace.models.base import PolarizationModel
from bec_mace.models.checkpoint_file import FORMAT_VERSION, read_checkpoint, tensors_path, write_checkpoint
from bec_mace.models.probe import check_probe, measure_probe
from bec_mace.outside import check_trusted
from bec_mace.properties import PROPERTIES
from bec_mace.units import BASE_UNITS
from bec_mace.version import __version__

_TWINS: WeakKeyDictionary[PolarizationModel, PolarizationModel] = WeakKeyDictionary()


def save_model(model: PolarizationModel, path: str | Path, metadata: Mapping[str, Any] | None = None) -> Path:
    """Write PATH.safetensors, whole or not at all.

    Args:
        model: The model.
        path: Path without or with the ending ``.safetensors``.
        metadata: What else to keep: training configuration, fingerprint of the data, metrics.

    Returns:
        The path of the file.
    """
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
        "statistics": _plain(model.statistics),
        "number_of_parameters": sum(p.numel() for p in model.parameters()),
        "probe": measure_probe(_twin(model)),
    }
    tensors = {name: _as_precise_as_known(model, name, value).cpu().contiguous() for name, value in model.own_tensors().items()}
    return write_checkpoint(tensors_path(path), description, tensors)


def update_metadata(path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Change what is kept beside the tensors of a saved model; the tensors stay as they are.

    Args:
        path: As for :func:`save_model`.
        metadata: What to replace or add.

    Raises:
        ModelError: There is no such model.
    """
    file = tensors_path(path)
    description, tensors = read_checkpoint(file)
    write_checkpoint(file, {**description, **metadata}, tensors)


def load_model(
    path_or_name: str | Path, device: str | torch.device = "cpu", dtype: str | torch.dtype = torch.float32
) -> PolarizationModel:
    """Load a model from a file, a run folder, or by the name of one that comes with the package.

    Args:
        path_or_name: ``"water"``, ``"runs/water"``, ``"runs/water/best"`` or ``"best.safetensors"``. A name of the package's
            models means that model; write ``"./water"`` for a file or folder of that name.
        device: Where the weights go; ``"auto"`` is a GPU where there is one.
        dtype: Floating-point type of weights and computation.

    Raises:
        ModelError: There is no such model, device or precision, its file is damaged, it gives other numbers here than where it
            was saved, or it names a head from outside the package whose module is neither imported nor trusted.
    """
    if not isinstance(path_or_name, str | Path):
        raise ModelError(f"a model is a file, a run folder or a name, got {path_or_name!r}; pass one as text.")
    device, dtype = find_device(device, ModelError), find_dtype(dtype, ModelError)
    path = _find(path_or_name)
    description, tensors = read_checkpoint(path)
    config, elements, statistics = _read_description(description, path)
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        model = _build(config, elements, statistics, dtype)
    expected = model.own_tensors()
    wrong = sorted(
        {name for name in tensors.keys() & expected.keys() if tensors[name].shape != expected[name].shape}
        | (tensors.keys() ^ expected.keys())
    )
    if wrong:
        raise ModelError(
            f"{path}: tensors do not fit the description beside them ({', '.join(wrong[:4])}); get the model again."
        )
    with torch.inference_mode(False):
        model.load_state_dict({name: value.to(expected[name].dtype) for name, value in tensors.items()}, strict=False)
        model.metadata = description
        model.eval().requires_grad_(False)
        if "probe" in description:
            _check_probe(model, description["probe"], path)
        return model.to(device)


def _check_probe(model: PolarizationModel, probe: Any, path: Path) -> None:
    try:
        check_probe(model, probe, str(path))
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ModelError(f"{path}: does not describe a model (probe: {exc}); save the model again.") from exc


def _read_description(
    description: Mapping[str, Any], path: Path
) -> tuple[ModelConfig | KernelModelConfig | CommitteeConfig, list[int], Statistics]:
    """What a model is built from.

    Raises:
        ModelError: It is not there, or cannot be built without running code that nobody asked for.
    """
    try:
        for member in description["config"].get("members", [description["config"]]):
            for head in member["heads"]:
                name = head if isinstance(head, str) else next(iter(head))
                if is_outside(name):
                    check_trusted(name, str(path), ModelError)
            if member.get("backbone") and not member["backbone"].get("sizes"):
                raise ValueError("the sizes of its backbone are missing; a model reads no other file")
        config = read_model_config(description["config"])
        statistics = _statistics(description["statistics"])
        elements = [atomic_numbers[symbol] for symbol in description["elements"]]
        if not elements or elements != sorted(set(elements)):
            raise ValueError("elements must be a list of symbols in the order of their numbers")
    except (AttributeError, KeyError, TypeError, ValueError, StopIteration) as exc:
        raise ModelError(f"{path}: does not describe a model ({exc}); save the model again.") from exc
    return config, elements, statistics


def _twin(model: PolarizationModel) -> PolarizationModel:
    """The model in float64 on the CPU, for a probe that does not depend on device and precision; networks keep theirs."""
    keep = model.config.kind != "kernel"
    twin = _TWINS.get(model) or copy_model(model, torch.float64, "cpu")
    if keep:
        _TWINS[model] = twin
    twin.load_state_dict({name: value.detach().double().cpu() for name, value in model.own_tensors().items()}, strict=False)
    return twin.eval().requires_grad_(False)


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
    own = {name: {int(z): float(v) for z, v in row.items()} for name, row in values.get("own_reference_energies", {}).items()}
    return Statistics(**{**values, **per_element, "shortest_distances": distances, "own_reference_energies": own})


def _plain(statistics: Statistics) -> dict[str, Any]:
    values = dataclasses.asdict(statistics)
    if not values["own_reference_energies"]:  # Earlier versions do not know the key, and read what has none.
        del values["own_reference_energies"]
    return values


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
    if isinstance(path_or_name, str) and path_or_name in available_models():
        return Path(str(resources.files("bec_mace") / "pretrained" / f"{path_or_name}.safetensors"))
    candidates = [tensors_path(path)] if str(path_or_name) else []
    if str(path_or_name) and os.path.isdir(path):
        candidates.insert(0, path / "best.safetensors")
    if path.suffix == ".json":
        candidates.insert(0, path.with_suffix(".safetensors"))
    with suppress(OSError, ValueError):  # A name that is too long, or holds what no name can.
        for candidate in candidates:
            if candidate.is_file():
                return candidate
    raise ModelError(
        f"there is no model '{path_or_name}': no such file, no run folder with best.safetensors, and not one of the "
        f"models that come with the package ({', '.join(available_models()) or 'none'})."
    )
