"""Training runs that are kept, and tables of their figures."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bec_mace.storage.files import replace_text

logger = logging.getLogger(__name__)

Column = tuple[str, str, float, str]
"""Key of a figure, its title, a factor, a format."""


def complete(folder: Path, values: Mapping[str, Any], device: str, may_train: bool) -> bool:
    """Train a run unless it is complete; whether it is there."""
    from bec_mace.config.schema import RunConfig
    from bec_mace.train.loop import train

    if not (folder / "results.json").exists():
        if not may_train:
            return False
        logger.info("training %s", folder)
        train(RunConfig.model_validate({**values, "output": str(folder), "device": device}), resume=True)
    return True


def format_rows(
    title: str, columns: Sequence[Column], rows: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str] | None = None
) -> str:
    """A table in Markdown, without columns that no row has; errors are RMSE over the test frames."""
    shown = [column for column in columns if any(row.get(column[0]) is not None for row in rows.values())]
    lines = [f"| {title} | {' | '.join(heading for _, heading, _, _ in shown)} |", "|---" * (len(shown) + 1) + "|"]
    for name, row in rows.items():
        cells = [f"{row[key] * factor:{form}}".strip() if row.get(key) is not None else "" for key, _, factor, form in shown]
        lines.append(f"| {(titles or {}).get(name, name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_json(results: Mapping[str, Any], path: Path | None) -> None:
    """Write figures, where a file is named."""
    if path is not None:
        replace_text(path, json.dumps(results, indent=2) + "\n")
