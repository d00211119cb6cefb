"""Relaxation of a crystal under its space group."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.constraints import FixSymmetry
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from bec_mace.errors import PhononError

logger = logging.getLogger(__name__)

_MOST_STEPS = 1000


def relax(
    atoms: Atoms, calculator: BaseCalculator, with_cell: bool = False, max_force: float = 1e-3, symmetry_tolerance: float = 1e-5
) -> Atoms:
    """Minimise the energy at fixed space group; the structure that is given stays as it is.

    Args:
        atoms: The crystal.
        calculator: Gives forces, and the stress for the cell.
        with_cell: Whether the cell is free.
        max_force: Where it ends, in eV/Å; for the cell the force of ASE's ``FrechetCellFilter``.
        symmetry_tolerance: In Å.

    Returns:
        The relaxed structure, without calculator and constraints.

    Raises:
        PhononError: It has not converged.
    """
    moved: Atoms = atoms.copy()
    moved.calc = calculator
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks of spglib and ASE about how their own functions are called
        moved.set_constraint(FixSymmetry(moved, symprec=symmetry_tolerance))
        target: Any = FrechetCellFilter(moved) if with_cell else moved
        optimizer = BFGS(target, logfile=None)
        converged = optimizer.run(fmax=max_force, steps=_MOST_STEPS)
    if not converged:
        raise PhononError(
            f"relax: the forces are still above {max_force:g} eV/Å after {_MOST_STEPS} steps; "
            "start nearer to the minimum, or raise max_force"
        )
    moved.set_constraint()
    moved.calc = None
    shift = float(np.abs(moved.positions - atoms.positions).max())
    change = float(moved.get_volume() / atoms.get_volume() - 1.0)
    logger.info("relaxed in %d steps: volume %+.2f %%, largest shift %.4f Å", optimizer.nsteps, 100 * change, shift)
    return moved
