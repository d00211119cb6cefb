"""How good a model is on labelled frames."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bec_mace.config.electrostatics import ElectrostaticsConfig
from bec_mace.data import Frame
from bec_mace.errors import DataError
from bec_mace.evaluate.charge_report import charge_lines, describe_charges
from bec_mace.evaluate.metrics import charge_metrics, coverage_metrics, head_shares, mae, rmse
from bec_mace.evaluate.residuals import residual, residual_unit
from bec_mace.models import PolarizationModel
from bec_mace.models.own_energies import energy_elsewhere
from bec_mace.predict import predict
from bec_mace.properties import DEVIATION, PROPERTIES

Z = "born_effective_charges"


@dataclass(frozen=True)
class Comparison:
    """Reference and predicted values of labelled frames.

    Attributes:
        frames: The frames, in order.
        predicted: For each frame, arrays by property name.
        electrostatics: How charges of the model act through Coulomb's law, where they do.
    """

    frames: list[Frame]
    predicted: list[dict[str, Any]]
    electrostatics: ElectrostaticsConfig | None = None

    def pairs(self, name: str) -> list[tuple[Frame, np.ndarray, np.ndarray]]:
        """Frame, reference and prediction of every frame that holds the label."""
        both = zip(self.frames, self.predicted, strict=True)
        return [(frame, frame.labels[name], guess[name]) for frame, guess in both if name in frame.labels and name in guess]


def compared() -> list[str]:
    """Properties whose labels are held against predictions, Z* first."""
    return [name for name, row in PROPERTIES.items() if row.compared]


def compare(
    model: PolarizationModel,
    frames: Sequence[Frame],
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    uncertainty: bool = False,
) -> Comparison:
    """Predict what the frames have labels for and the model gives; see ``predict``.

    Energies are counted from where those of each frame are. What is not defined for a frame is left out there: stress and
    dielectric tensor unless it is periodic in three directions, the dipole unless it is a molecule.
    """
    frames = list(frames)
    section = None if model.electrostatics is None else model.electrostatics.config
    found: list[dict[str, Any]] = [{} for _ in frames]
    for names, places in _with_the_same_names(model, frames, uncertainty).items():
        for place, guess in zip(places, predict(model, [frames[i] for i in places], names, batch_size, device), strict=True):
            found[place] = dict(guess)
    for frame, guess in zip(frames, found, strict=True):
        if "energy" in guess and frame.reference:
            guess["energy"] = guess["energy"] + energy_elsewhere(model, frame)
    return Comparison(frames, found, section)


def _with_the_same_names(
    model: PolarizationModel, frames: Sequence[Frame], uncertainty: bool
) -> dict[tuple[str, ...], list[int]]:
    """What to predict, and for which frames: crystals, molecules and what is between them have different properties."""
    labels = {name for frame in frames for name in frame.labels}
    common = [name for name in compared() if name in labels and name in model.provides]
    beside: list[str] = []
    if Z in common and "head_contributions" in model.provides:
        beside.append("head_contributions")
    if Z in common and uncertainty:
        beside.append(DEVIATION)
    if model.electrostatics is not None:
        beside += [name for name in ("charges", "screening") if name in model.provides]
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, frame in enumerate(frames):
        names = (*(name for name in common if PROPERTIES[name].is_defined(frame.pbc)), *beside)
        if names:
            groups.setdefault(names, []).append(place)
    return groups


def evaluate(
    model: PolarizationModel,
    frames: Sequence[Frame],
    batch_size: int | None = None,
    device: torch.device | str | None = None,
) -> dict[str, Any]:
    """Errors of a model on labelled frames.

    Args:
        model: The model.
        frames: Structures with labels. Frames without a label do not count for it.
        batch_size: Largest number of frames in a batch; it changes nothing but the speed.
        device: Where to compute; where the model is by default.

    Returns:
        ``n_frames``; ``born_effective_charges``, see ``charge_metrics``; ``head_shares``, see ``metrics.head_shares``;
        and for each of energy (eV/atom), forces (eV/Å), stress (eV/Å^3), dipole, polarization, polarizability and
        dielectric tensor (both relative) that is labelled and given: ``{"rmse", "mae", "unit", "n_frames"}``;
        ``static_charges``, see ``describe_charges``, of models that have them.

    Raises:
        DataError: If no frame holds a label of what the model gives.
        ModelError: If the model does not know an element.
    """
    check_labelled(frames, model.provides)
    return summarize_comparison(compare(model, frames, batch_size, device))


def check_labelled(frames: Sequence[Frame], provides: Collection[str] | None = None) -> None:
    """Refuse frames of which nothing can be judged.

    Args:
        frames: The frames.
        provides: What the model gives; anything, where it is not known yet.

    Raises:
        DataError: If there is no frame, or none holds a label of what the model gives.
    """
    if not frames:
        raise DataError("evaluate: there are no frames")
    wanted = [name for name in compared() if provides is None or name in provides]
    if any(labelled(frame, name) for frame in frames for name in wanted):
        return
    others = sorted({name for frame in frames for name in frame.labels if provides is not None})
    raise DataError(
        f"evaluate: {', '.join(wanted)} found in 0 of {len(frames)} frames (first: {frames[0].source})"
        + (f", which hold {', '.join(others)}; name a model that gives it," if others else ";")
        + f" or name the key of a label in `keys`, known for {wanted[0]}: {', '.join(PROPERTIES[wanted[0]].keys)}"
    )


def labelled(frame: Frame, name: str) -> bool:
    """Whether a frame holds a label that means something for it."""
    return name in frame.labels and PROPERTIES[name].is_defined(frame.pbc)


def not_judged(frames: Sequence[Frame], provides: Collection[str]) -> list[str]:
    """What a person may have hoped to see judged, and why it is not.

    Args:
        frames: The frames.
        provides: What the model gives.

    Returns:
        Sentences on Z* that no frame holds, and on labels that the model does not give or that are not defined.
    """
    lines = []
    if Z in provides and not any(Z in frame.labels for frame in frames):
        lines.append(f"no frame holds {Z} (known keys: {', '.join(PROPERTIES[Z].keys)}); --key {Z}=KEY names another")
    for name in compared():
        held = [frame for frame in frames if name in frame.labels]
        if held and name not in provides:
            lines.append(f"{name} is in {len(held)} of {len(frames)} frames, but the model does not give it")
        elif undefined := [frame for frame in held if not labelled(frame, name)]:
            lines.append(
                f"{name} is left out of {len(undefined)} frames (first: {undefined[0].source}): {PROPERTIES[name].why}"
            )
    return lines


def summarize_comparison(comparison: Comparison) -> dict[str, Any]:
    """The numbers of ``evaluate`` from values that are there already."""
    result: dict[str, Any] = {"n_frames": len(comparison.frames)}
    pairs = comparison.pairs(Z)
    if pairs:
        frames, reference, predicted = zip(*pairs, strict=True)
        numbers, charges = [f.atomic_numbers for f in frames], [f.total_charge for f in frames]
        result[Z] = {"n_frames": len(pairs), **charge_metrics(numbers, reference, predicted, charges)}
        parts = [guess["head_contributions"] for guess in comparison.predicted if "head_contributions" in guess]
        if parts:
            total = np.concatenate([guess[Z] for guess in comparison.predicted])
            result["head_shares"] = head_shares(
                total, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            )
        if all(DEVIATION in guess for guess in comparison.predicted):
            result["uncertainty"] = _coverage(comparison)
    if comparison.electrostatics is not None:
        result["static_charges"] = describe_charges(comparison.frames, comparison.predicted, comparison.electrostatics)
    for name in compared()[1:]:
        errors = [error_of(name, *pair) for pair in comparison.pairs(name)]
        if errors:
            error = np.concatenate(errors)
            result[name] = {"rmse": rmse(error), "mae": mae(error), "unit": residual_unit(name), "n_frames": len(errors)}
    return result


def _coverage(comparison: Comparison) -> dict[str, Any]:
    """Errors of Z* against their predicted standard deviations."""
    rows = [
        (frame.atomic_numbers, guess[Z] - frame.labels[Z], guess[DEVIATION])
        for frame, guess in zip(comparison.frames, comparison.predicted, strict=True)
        if Z in frame.labels
    ]
    numbers, errors, deviations = zip(*rows, strict=True)
    return coverage_metrics(numbers, errors, deviations)


def error_of(name: str, frame: Frame, reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The error as the loss counts it, flat."""
    prediction, label = (torch.as_tensor(np.asarray(value, dtype=np.float64)) for value in (predicted, reference))
    if PROPERTIES[name].per == "frame":
        prediction, label = prediction[None], label[None]
    frame_of = torch.tensor([len(frame)]), torch.tensor(frame.cell)[None], torch.tensor(frame.pbc)[None]
    errors = residual(name, prediction, label, *frame_of)
    return errors.numpy().ravel()


def format_table(result: dict[str, Any]) -> str:
    """The numbers of ``evaluate`` as lines of text, with units."""
    lines = [f"frames: {result['n_frames']}"]
    if Z in result:
        lines += _charge_lines(result[Z])
    if "uncertainty" in result:
        deviation = result["uncertainty"]
        lines.append(
            f"  predicted deviation {deviation['rms']:.4f} e (rms): {deviation['within_68']:.1%} of errors within 1, "
            f"{deviation['within_95']:.1%} within 1.96 of it"
        )
    for name, share in result.get("head_shares", {}).items():
        lines.append(f"  {'head ' + name:<24} share {share['share']:8.4f}   rms {share['rms']:8.4f} e")
    for name in compared()[1:]:
        if name in result:
            row = result[name]
            some = "" if row["n_frames"] == result["n_frames"] else f"   in {row['n_frames']} frames"
            lines.append(f"{name:<26} RMSE {row['rmse']:10.5f}   MAE {row['mae']:10.5f} {row['unit']}{some}")
    lines += charge_lines(result.get("static_charges", {}))
    return "\n".join(lines)


def _charge_lines(charges: dict[str, Any]) -> list[str]:
    trivial, residual = charges["trivial"], charges["sum_rule_residual"]
    rows: list[tuple[str, float, float | None]] = [
        ("all components", charges["rmse"], charges["mae"]),
        *((symbol, row["rmse"], row["mae"]) for symbol, row in charges["per_element"].items()),
        ("diagonal", charges["diagonal_rmse"], None),
        ("off-diagonal", charges["off_diagonal_rmse"], None),
        ("antisymmetric part", charges["antisymmetric_rmse"], None),
        ("trivial model", trivial["rmse"], trivial["mae"]),
    ]
    lines = ["Born effective charges      RMSE (e)    MAE (e)"]
    lines += [f"  {label:<24} {r:9.4f}  " + ("" if m is None else f"{m:9.4f}") for label, r, m in rows]
    lines.append(
        f"  sum-rule residual per cell: reference {residual['reference']:.2e} e, predicted {residual['predicted']:.2e} e"
    )
    return [line.rstrip() for line in lines]
