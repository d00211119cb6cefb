"""i-PI as a server: its input file, its process, what it wrote."""

import os
import re
import subprocess
import sys
from pathlib import Path

import ase.units
import numpy as np
from ase.io import write

FIELD = 0.5291772109 / 27.211386246
"""One V/Å in atomic units."""

INPUT = """\
<simulation verbosity='low' safe_stride='1000000'>
  <output prefix='out'>
    <properties filename='energies' stride='1'> [ step, potential{{electronvolt}}, conserved{{electronvolt}} ] </properties>
    <properties filename='virial' stride='1'> [ virial_md{{ase}}, volume{{angstrom3}} ] </properties>
    <trajectory filename='pos' stride='{stride}' cell_units='angstrom'> positions{{angstrom}} </trajectory>
    <trajectory filename='dipole' stride='1' extra_type='dipole'> extras </trajectory>
  </output>
  <total_steps> {steps} </total_steps>
  <prng><seed> 5 </seed></prng>
  <ffsocket name='driver' mode='{mode}' pbc='false'>
    <address> {address} </address> {port}
    <latency> 1e-4 </latency>
  </ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='xyz' units='angstrom'> start.xyz </file>
      <cell mode='manual' units='angstrom'> {cell} </cell>
      <masses mode='manual' units='dalton'> {masses} </masses>
      {velocities}
    </initialize>
    <forces><force forcefield='driver'/></forces>
    <ensemble><temperature units='kelvin'> 300 </temperature>{ensemble}</ensemble>
    {motion}
  </system>
</simulation>
"""
DRIVEN = """\
<motion mode='driven_dynamics'>
  <fixcom> False </fixcom>
  <driven_dynamics mode='eda-nve'>
    <timestep units='femtosecond'> {time_step} </timestep>
    <bec mode='driver'/>
    <efield><amp> {field} </amp></efield>
  </driven_dynamics>
</motion>"""
BAROSTAT = """\
<motion mode='dynamics'>
  <dynamics mode='npt'>
    <timestep units='femtosecond'> {time_step} </timestep>
    <thermostat mode='langevin'><tau units='femtosecond'> 100 </tau></thermostat>
    <barostat mode='isotropic'><tau units='femtosecond'> 20 </tau></barostat>
  </dynamics>
</motion>"""


def numbers(values):
    return "[ " + ", ".join(f"{value:.17g}" for value in np.ravel(values)) + " ]"


def start(folder, atoms, motion, address, port=None, steps=100, beads=1, stride=1, ensemble="", thermal=False):
    """Start i-PI in a folder."""
    write(folder / "start.xyz", atoms, format="xyz", fmt="%24.16f")
    speeds = atoms.get_velocities() * ase.units.fs  # Å/fs
    velocities = (
        "<velocities mode='thermal' units='kelvin'> 300 </velocities>"
        if thermal
        else f"<velocities mode='manual' units='atomic_unit'> {numbers(speeds * SPEED)} </velocities>"
    )
    text = INPUT.format(
        mode="unix" if port is None else "inet",
        address=address,
        port="" if port is None else f"<port> {port} </port>",
        steps=steps,
        beads=beads,
        stride=stride,
        cell=numbers(atoms.cell.array.T),
        masses=numbers(atoms.get_masses()),
        velocities=velocities,
        motion=motion,
        ensemble=ensemble,
    )
    (folder / "input.xml").write_text(text)
    program = Path(sys.executable).parent / "i-pi"
    with (folder / "ipi.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, str(program), "input.xml"],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


SPEED = 24.188843265857 / 1000 / 0.529177210903
"""One Å/fs in atomic units: an atomic unit of time is 0.0242 fs."""


def last_positions(folder):
    """Of the state in which i-PI ended, in Å; its trajectories are rounded to six digits."""
    text = re.search(r"<q[^>]*>\s*\[(.*?)\]", (folder / "RESTART").read_text(), re.DOTALL)[1]
    return np.array([float(value) for value in text.split(",")]).reshape(-1, 3) * 0.529177210903
