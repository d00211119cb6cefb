"""How should charges that act through Coulomb's law and Born effective charges belong together? Trains each way and compares.

Ways: no Coulomb term; independent static charges; charges that make Z* as well, screened by a fixed, a global or a local
number. Sets of data: `ions`, made here, where the right charges are known; `water`; `bulk_and_clusters`, water of both kinds
whose energies come from different programs; `quartz`. Complete runs are kept, so that a table can be made again at once.

    python scripts/compare_charges.py --data data --json charges.json --plot charges
    python scripts/compare_charges.py --sets ions --json ions.json

Writes a table to the screen, all figures to --json, and to --plot two pictures: PREFIX_screening.png, gamma by element in bulk
and in clusters, and PREFIX_apart.png, the energy of two molecules that are pulled apart, against the model without the term.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from comparing.runs import complete, format_rows, write_json
from comparing.sets import COUPLINGS, SETS

from bec_mace.errors import BecMaceError


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), metavar="FOLDER", help="where the files of the sets are")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--couplings", nargs="+", choices=list(COUPLINGS), default=list(COUPLINGS))
    parser.add_argument("--output", type=Path, default=Path("runs/compare_charges"), metavar="FOLDER", help="of the runs")
    parser.add_argument("--epochs", type=float, default=1.0, metavar="FACTOR", help="of the lengths of all trainings; 1")
    parser.add_argument("--channels", type=int, metavar="N", help="of all networks; by default those of each set")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-training", action="store_true", help="take only the runs that are there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--plot", metavar="PREFIX", help="draw pictures, names begin with this")
    return parser.parse_args()


def run_folder(args: argparse.Namespace, name: str, coupling: str) -> Path:
    return args.output / f"{name}_{coupling}"


def compare_set(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Figures of all ways of one set."""
    from comparing.figures import cost_ratios, figures_of

    data_set = SETS[name]
    data_set.prepare(args.data)
    couplings = [coupling for coupling in args.couplings if coupling in data_set.couplings]
    there = [
        coupling
        for coupling in couplings
        if complete(
            run_folder(args, name, coupling),
            data_set.config(args.data, coupling, args.epochs, args.channels),
            args.device,
            not args.no_training,
        )
    ]
    rows = {coupling: figures_of(run_folder(args, name, coupling), args.device) for coupling in there}
    for coupling, ratios in cost_ratios(
        {coupling: run_folder(args, name, coupling) for coupling in there}, args.device
    ).items():
        rows[coupling].update(ratios)
    print(format_rows(name, COLUMNS, rows), flush=True)
    return rows


COLUMNS = (
    ("energy", "energy (meV/atom)", 1000.0, "8.3f"),
    ("forces", "forces (eV/Å)", 1.0, "8.4f"),
    ("born_effective_charges", "Z* (e)", 1.0, "8.4f"),
    ("forces_bulk", "forces, bulk", 1.0, "8.4f"),
    ("forces_clusters", "forces, clusters", 1.0, "8.4f"),
    ("born_effective_charges_bulk", "Z*, bulk", 1.0, "8.4f"),
    ("born_effective_charges_clusters", "Z*, clusters", 1.0, "8.4f"),
    ("charge_error", "charges (e)", 1.0, "8.4f"),
    ("gamma", "gamma", 1.0, "8.3f"),
    ("cost", "cost of a step", 1.0, "8.2f"),
)


def main() -> int:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        results = {name: compare_set(args, name) for name in args.sets}
        write_json(results, args.json)
        if args.plot:
            from comparing.pictures import draw

            for path in draw(args.plot, args.output, args.device):
                print(path)
    except BecMaceError as error:
        print(f"compare_charges: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
