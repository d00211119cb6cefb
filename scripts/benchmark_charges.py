"""What charges that act through Coulomb's law cost: processor time over that of energy and forces of the same backbone.

1. 192 atoms of water: energy and forces with the term, and with Z* of coupled charges, of atoms or of flows, in the same pass;
   `full` has flows, dipoles, quadrupoles, induced dipoles and flows, `rigid` no response.
2. Time per atom in boxes of 2,000 and 20,000 atoms, in blocks, where the term is done on a mesh.

    OMP_NUM_THREADS=1 python scripts/benchmark_charges.py --json charges_cost.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch
from benchmarking.systems import Sizes, Z, build, graph_of, measure, ratio, water_box

LIMITS = {"term_extra": 0.15, "coupled_z": 1.5, "per_atom_growth": 1.3, "full": 1.6, "full_z": 2.5}
BOTH = ("energy", "forces")
INDEPENDENT = {"sources": ["static_charges"], "screening": "independent"}
LOCAL = {"sources": ["monopole"], "screening": "local", "epsilon_infinity": 1.78}
FLOWS = {**LOCAL, "sources": ["charge_transfer"]}
MULTIPOLES = ["charge_transfer", "dipole", "quadrupole"]
FULL = {
    "sources": MULTIPOLES,
    "screening": "fixed",
    "epsilon_infinity": 1.78,
    "response": {"dipoles": "anisotropic", "charges": "edges"},
}


def small(sizes: Sizes) -> dict[str, float]:
    """Ratios at the size of the first frame of the data."""
    graph = graph_of(sizes.frames()[0], sizes)
    plain = build(["energy"], sizes)
    independent = build(["energy", "static_charges"], sizes, electrostatics=INDEPENDENT)
    local, alone = build(["energy", "monopole"], sizes, electrostatics=LOCAL), build(["energy", "monopole"], sizes)
    flows = build(["energy", "charge_transfer"], sizes, electrostatics=FLOWS)
    flows_alone = build(["energy", "charge_transfer"], sizes)
    full = build(["energy", *MULTIPOLES], sizes, electrostatics=FULL)
    rigid = build(["energy", *MULTIPOLES], sizes, electrostatics={**FULL, "response": None})
    times = measure(
        {
            "full": lambda: full(graph, BOTH),
            "full_z": lambda: full(graph, (*BOTH, Z)),
            "rigid_z": lambda: rigid(graph, (*BOTH, Z)),
            "plain": lambda: plain(graph, BOTH),
            "independent": lambda: independent(graph, BOTH),
            "coupled": lambda: local(graph, BOTH),
            "coupled_z": lambda: local(graph, (*BOTH, Z)),
            "z_without_term": lambda: alone(graph, (*BOTH, Z)),
            "flows": lambda: flows(graph, BOTH),
            "flows_z": lambda: flows(graph, (*BOTH, Z)),
            "flows_z_without_term": lambda: flows_alone(graph, (*BOTH, Z)),
        },
        sizes.repeats,
        sizes.device,
    )
    found = {name: ratio(times, name, "plain") for name in times if name != "plain"}
    return {"n_atoms": float(graph.n_atoms), "term_extra": found["independent"] - 1, **found}


def large(sizes: Sizes, counts: tuple[int, int], block_size: int) -> dict[str, float]:
    """Time per atom of energy, forces and Z* in two boxes."""
    local = build(["energy", "monopole"], sizes, electrostatics=LOCAL)
    graphs = [graph_of(water_box(count), sizes) for count in counts]
    jobs = {
        str(graph.n_atoms): lambda graph=graph: local(graph, (*BOTH, Z), block_size=min(block_size, graph.n_atoms))
        for graph in graphs
    }
    times = measure(jobs, 1 + sizes.repeats // 20, sizes.device, warm_up=0)
    per_atom = {name: statistics.median(taken) / int(name) for name, taken in times.items()}
    first, last = per_atom.values()
    return {"per_atom_growth": last / first, **{f"seconds_per_atom_{name}": value for name, value in per_atom.items()}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--max-l", type=int, default=2)
    parser.add_argument("--correlation", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--sizes", type=int, nargs=2, default=(2000, 20000), metavar="ATOMS", help="of the boxes; 2000 20000")
    parser.add_argument("--block-size", type=int, default=1000, help="atoms whose edges are in memory at once")
    parser.add_argument("--data", default="bec_mace:water_revpbe_d3.extxyz.gz", help="the first frame is taken")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = Sizes(options.channels, options.max_l, options.correlation, options.repeats, options.device, options.data)
    figures = {**small(sizes), **large(sizes, tuple(options.sizes), options.block_size)}
    for name, value in figures.items():
        print(f"{name:<28} {value:12.6g}   {f'bar {LIMITS[name]:g}' if name in LIMITS else ''}".rstrip())
    if options.json is not None:
        options.json.write_text(json.dumps({**figures, "limits": LIMITS}, indent=2) + "\n", encoding="utf-8")
    return 0 if all(figures[name] <= limit for name, limit in LIMITS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
