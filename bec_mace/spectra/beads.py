"""Path integrals: the current of a ring polymer is the mean over its beads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bec_mace.errors import SpectrumError
from bec_mace.spectra.currents import Currents


def mean_of_beads(beads: Sequence[Currents], temperature: float) -> Currents:
    r"""The current of a path-integral simulation, :math:`J(t) = \frac1P \sum_k \sum_j Z_j(r^{(k)}) v^{(k)}_j`.

    Its correlation function approximates the Kubo transform of the quantum one in (thermostatted) ring-polymer dynamics, and
    the harmonic quantum correction of :func:`~bec_mace.spectra.infrared_spectrum` turns that into absorption: the response of
    both has the same form (Craig and Manolopoulos, J. Chem. Phys. 121, 3368 (2004); Rossi, Ceriotti and Manolopoulos, J. Chem.
    Phys. 140, 234116 (2014)).

    Args:
        beads: The currents of all beads of one simulation, at the same times.
        temperature: Of the simulation, in K; the beads themselves move at P times that.

    Returns:
        The mean, with this temperature.

    Raises:
        SpectrumError: Fewer than two beads, or beads that do not belong together.
    """
    if len(beads) < 2:
        raise SpectrumError("--beads: needs the trajectories of all beads of one simulation, got one; name all of them")
    first = beads[0]
    for bead in beads[1:]:
        same = bead.elements == first.elements and bead.counts == first.counts and bead.method == first.method
        if not (same and len(bead) == len(first) and np.allclose(bead.time, first.time, atol=1e-6)):
            raise SpectrumError(
                f"{bead.source}: is no bead beside {first.source}: elements, frames ({len(bead)} and {len(first)}) or "
                "times differ. Name the beads of one simulation, cut at the same step"
            )
    return replace(
        first,
        current=np.mean([bead.current for bead in beads], axis=0),
        temperature=np.full(len(first), float(temperature)),
        source=f"{len(beads)} beads, {first.source} the first",
    )
