"""What the log says of an epoch, in lines that fit a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bec_mace.evaluate.residuals import residual_unit

WIDTH = 100
"""Characters of a line."""

EPOCH_HEADER = "of each epoch: loss, and RMSE of each property, of training and of validation frames"
EPOCH_HEADER_ALONE = "of each epoch: loss, and RMSE of each property, of training frames"


def epoch_line(row: Mapping[str, Any], epochs: int, properties: Sequence[str], improved: bool) -> str:
    """An epoch with units, in one line or in several of at most ``WIDTH`` characters.

    Args:
        row: The row of metrics.csv.
        epochs: Number of epochs of the run.
        properties: Those that are trained.
        improved: Whether it is the best so far.
    """
    parts = [f"epoch {row['epoch']:4d}/{epochs}", f"loss {_numbers(row, 'loss', '.3e')}"]
    for name in properties:
        errors = _numbers(row, f"{name}_rmse", ".4g")
        if errors:
            parts.append(f"{short_name(name)} {errors} {residual_unit(name)}")
    parts += [f"lr {row['learning_rate']:.2e}", f"{row['seconds']:.1f} s", *(["best"] if improved else [])]
    return "\n".join(wrap(parts))


def _numbers(row: Mapping[str, Any], column: str, form: str) -> str:
    columns = [f"{part}_{column}" for part in ("train", "validation")]
    return ", ".join(format(row[name], form) for name in columns if row.get(name) is not None)


def wrap(parts: Iterable[str]) -> list[str]:
    """Parts, two blanks between them, in as few lines as hold them; lines after the first are indented."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= WIDTH:
            lines[-1] += f"  {part}"
        else:
            lines.append(f"      {part}" if lines else part)
    return lines


def short_name(name: str) -> str:
    """What the log calls a property."""
    return "Z*" if name == "born_effective_charges" else name.replace("_", " ")
