"""What do multipoles and response add to charges in Coulomb's law? Trains rung by rung and compares.

Rungs: no electrostatics; charges; with dipoles; with quadrupoles; with induced dipoles; and charge that flows between
neighbours (`edges`) or between each atom and the whole (`atoms`). Labels: energies and forces alone (`ef`: Z* of the test
frames then follows from epsilon_infinity), with Z* (`efz`), with polarizabilities (`efza`). Complete runs are kept.

    python scripts/compare_multipoles.py --data data --sets water --labels ef --json multipoles.json --plot multipoles.png

Writes a table to the screen, all figures to --json, and a picture of the errors along the ladder to --plot.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from comparing.ladder import LABELS, LADDER, can_train, ladder_config
from comparing.runs import complete, format_rows, write_json
from comparing.sets import SETS

from bec_mace.errors import BecMaceError

COLUMNS = (
    ("energy", "energy (meV/atom)", 1000.0, "8.3f"),
    ("forces", "forces (eV/Å)", 1.0, "8.4f"),
    ("born_effective_charges", "Z* (e)", 1.0, "8.4f"),
    ("polarizability", "polarizability", 1.0, "8.4f"),
    ("charge_error", "charges (e)", 1.0, "8.4f"),
    ("cost", "cost of a step", 1.0, "8.2f"),
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), metavar="FOLDER", help="where the files of the sets are")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=["ions", "water", "quartz"])
    parser.add_argument("--rungs", nargs="+", choices=list(LADDER), default=list(LADDER))
    parser.add_argument("--labels", nargs="+", choices=list(LABELS), default=["ef", "efz"])
    parser.add_argument("--output", type=Path, default=Path("runs/compare_multipoles"), metavar="FOLDER", help="of the runs")
    parser.add_argument("--epochs", type=float, default=1.0, metavar="FACTOR", help="of the lengths of all trainings; 1")
    parser.add_argument("--channels", type=int, metavar="N", help="of all networks; by default those of each set")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-training", action="store_true", help="take only the runs that are there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the errors along the ladder")
    return parser.parse_args()


def compare_set(args: argparse.Namespace, name: str, labels: str) -> dict[str, Any]:
    """Figures of all rungs of one set and one choice of labels."""
    from comparing.figures import cost_ratios, figures_of

    data_set = SETS[name]
    data_set.prepare(args.data)
    rungs = [rung for rung in args.rungs if can_train(data_set, rung, labels)]
    folders = {}
    for rung in rungs:
        values = ladder_config(args.data, name, rung, labels, args.epochs, args.channels)
        folder = args.output / f"{name}_{labels}_{rung}"
        if complete(folder, values, args.device, not args.no_training):
            folders[rung] = folder
    rows = {rung: figures_of(folder, args.device) for rung, folder in folders.items()}
    for rung, ratios in cost_ratios(folders, args.device).items():
        rows[rung].update(ratios)
    titles = {rung: LADDER[rung].title for rung in rows}
    print(format_rows(f"{name}, {' '.join(LABELS[labels])}", COLUMNS, rows, titles), flush=True)
    return rows


def main() -> int:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        results = {f"{name}_{labels}": compare_set(args, name, labels) for name in args.sets for labels in args.labels}
        write_json(results, args.json)
        if args.plot:
            from comparing.pictures import draw_ladder

            draw_ladder(args.plot, results, {name: rung.title for name, rung in LADDER.items()})
            print(args.plot)
    except BecMaceError as error:
        print(f"compare_multipoles: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
