"""The cost of the full Z* over that of energy and forces on the same backbone: the part ``ratios`` of benchmark.py.

    OMP_NUM_THREADS=1 python scripts/benchmark_response.py --json response.json

The file holds ``{"ratios": {"monopole": .., "charge_transfer": .., "dipole": .., "monopole+dipole": .., "phase": ..}, ..}``.
Options are those of benchmark.py.
"""

import sys

from benchmark import main

if __name__ == "__main__":
    sys.argv[1:1] = ["--only", "ratios"]
    sys.exit(main())
