"""How exact is Z*? Largest errors, in e, in float64, in cells of two atoms that are smaller than the cutoff.

Against the oracle of bec_mace/testing/oracle.py (a finite cluster, mace's own blocks, plain automatic differentiation) for
every set of heads and 1 to 3 layers; under wrapping, another choice of lattice vectors, and supercells.

    python scripts/check_exactness.py --json exactness.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bec_mace.data import Frame, build_graph
from bec_mace.testing.oracle import oracle
from bec_mace.testing.physics import move, repeat
from bec_mace.testing.small_models import ALL_HEADS, HEAD_SETS, make_model
from bec_mace.testing.structures import rocksalt, triclinic_pair

LIMIT = 1e-10
CELLS = {"rock salt": rocksalt(), "triclinic": triclinic_pair()}


def response(heads: tuple[str, ...], layers: int, frame: Frame) -> Tensor:
    model = make_model(heads, layers)
    return model(build_graph(frame, model.r_max))["born_effective_charges"]


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())


def changed_cells(frame: Frame) -> dict[str, tuple[Frame, int]]:
    """The same crystal in other words, and how often it repeats the cell."""
    shifts = np.array([[2, -1, 3], [-4, 0, 1]])
    vectors = np.array([[2, 1, 0], [1, 1, 0], [0, -3, 1]])
    return {
        "wrapping": (move(frame, frame.positions + shifts @ frame.cell), 1),
        "lattice vectors": (move(frame, frame.positions, vectors @ frame.cell), 1),
        "supercell 2x1x1": (repeat(frame, (2, 1, 1)), 2),
        "supercell 2x2x1": (repeat(frame, (2, 2, 1)), 4),
        "supercell 3x2x2": (repeat(frame, (3, 2, 2)), 12),
    }


def check(layers: list[int]) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Largest errors by head set and number of layers: against the oracle, and under each change of the cell."""
    against_oracle: dict[str, dict[str, float]] = {"+".join(heads): {} for heads in HEAD_SETS}
    invariance: dict[str, dict[str, float]] = {"+".join(heads): {} for heads in HEAD_SETS}
    for number in layers:
        parts = {cell: oracle(make_model(ALL_HEADS, number), frame) for cell, frame in CELLS.items()}
        for heads in HEAD_SETS:
            name = "+".join(heads)
            errors = []
            for cell, frame in CELLS.items():
                actual = response(heads, number, frame)
                expected = sum((parts[cell][head] for head in heads), parts[cell]["reference"])
                errors.append(largest(actual - expected))
                for change, (other, count) in changed_cells(frame).items():
                    error = largest(response(heads, number, other) - actual.repeat(count, 1, 1))
                    invariance[name][change] = max(error, invariance[name].get(change, 0.0))
            against_oracle[name][str(number)] = max(errors)
    return against_oracle, invariance


def print_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    columns = list(next(iter(rows.values())))
    print(f"| {title} | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, values in rows.items():
        print(f"| {name} | {' | '.join(f'{values[column]:.1e}' for column in columns)} |")
    print()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2, 3], metavar="N", help="numbers of layers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    against_oracle, invariance = check(options.layers)
    model = make_model(HEAD_SETS[0], 1)
    worst = max(value for table in (against_oracle, invariance) for row in table.values() for value in row.values())
    print(
        f"r_max {model.r_max} Å; longest lattice vectors "
        + ", ".join(f"{np.linalg.norm(frame.cell, axis=1).max():.2f} Å ({cell})" for cell, frame in CELLS.items())
        + "\n"
    )
    print_table("oracle, by layers", against_oracle)
    print_table("invariance", invariance)
    print(f"largest error {worst:.1e} e (limit {LIMIT:.0e})")
    if options.json is not None:
        options.json.write_text(
            json.dumps(
                {"unit": "e", "limit": LIMIT, "max_error": worst, "oracle": against_oracle, "invariance": invariance}, indent=2
            )
            + "\n",
            encoding="utf-8",
        )
    return 0 if worst < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
