"""Put the model of a run into the package, under a name that every command takes.

Weights and everything that is known of them stay as they are, but for the folders of the runs: only their names are kept. The
description is what ``bec-mace info NAME`` says first of what the model is good for.

    bec-mace train configs/water.yaml
    python scripts/ship_model.py runs/water water --description "Liquid water, trained on 20 frames, for trying things out."
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from bec_mace.errors import BecMaceError
from bec_mace.models import load_model, save_model


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="run folder or file")
    parser.add_argument("name", help="what it shall be called")
    parser.add_argument("--description", required=True, help="what it was trained on and is good for, in one or two sentences")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(str(resources.files("bec_mace") / "pretrained")),
        help="where to put it; in the package by default",
    )
    return parser.parse_args(arguments)


def without_places(value: Any) -> Any:
    """The same metadata, the folders of runs by their name alone."""
    if isinstance(value, dict):
        return {
            key: f"runs/{Path(item).name}" if key == "output" and isinstance(item, str) else without_places(item)
            for key, item in value.items()
        }
    return [without_places(item) for item in value] if isinstance(value, list) else value


def main() -> int:
    """Copy the model, and say where it is."""
    args = parse_arguments()
    try:
        model = load_model(args.model)
        print(save_model(model, args.folder / args.name, {**without_places(model.metadata), "description": args.description}))
    except BecMaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
