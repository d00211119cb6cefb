"""The folder of a molecular dynamics run.

    config.yaml       the resolved configuration
    md.log            step, time, temperature, energies, drift
    trajectory.traj   positions (never wrapped), velocities, energies and forces, for ASE
    currents.h5       J(t) by element, see ``bec_mace.spectra.currents``
    state.npz         everything needed to go on exactly: plain arrays and JSON, no pickle
    results.json      the summary

Files that a resumed run reads are written under a temporary name and then renamed; the trajectory and the currents are
appended to, and cut back to the state when a run is resumed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.jsonio import decode, encode

from bec_mace.config.document import flatten
from bec_mace.config.dynamics import MDConfig, load_md_config
from bec_mace.config.schema import save_config
from bec_mace.data.labels import TOTAL_CHARGE
from bec_mace.errors import DynamicsError
from bec_mace.storage.files import check_free, logging_to, replace_file, replace_text
from bec_mace.storage.locks import alone_in

STATE = "state.npz"
_VERSION = 1
_ARRAYS = ("numbers", "positions", "momenta", "masses", "cell", "pbc")

# What may change between a run and its continuation; everything else would make it another run.
_FREE = ("output", "structure", "steps", "device", "limits", "time_limit_minutes", "sampling.log", "sampling.checkpoint")


@dataclass(frozen=True)
class State:
    """A moment of a run.

    Attributes:
        arrays: ``numbers``, ``positions`` (Å), ``momenta`` (ASE's units), ``masses`` (u), ``cell`` (Å) and ``pbc``;
            ``total_charge`` (e) where the structure has one.
        values: ``step``, and what the integrator, the potential and the log must remember.
    """

    arrays: dict[str, np.ndarray]
    values: dict[str, Any]

    def atoms(self) -> Atoms:
        """The structure, with masses and momenta."""
        atoms = Atoms(
            numbers=self.arrays["numbers"],
            positions=self.arrays["positions"],
            cell=self.arrays["cell"],
            pbc=self.arrays["pbc"],
            masses=self.arrays["masses"],
        )
        atoms.arrays["momenta"] = self.arrays["momenta"].copy()
        if TOTAL_CHARGE in self.arrays:
            atoms.info[TOTAL_CHARGE] = float(self.arrays[TOTAL_CHARGE])
        return atoms

    @classmethod
    def of(cls, atoms: Atoms, values: Mapping[str, Any]) -> State:
        """The state of these atoms; nothing is shared with them."""
        arrays = {
            "numbers": atoms.numbers,
            "positions": atoms.positions,
            "momenta": atoms.get_momenta(),
            "masses": atoms.get_masses(),
            "cell": atoms.cell.array,
            "pbc": atoms.pbc,
            **({TOTAL_CHARGE: atoms.info[TOTAL_CHARGE]} if TOTAL_CHARGE in atoms.info else {}),
        }
        return cls({name: np.array(value) for name, value in arrays.items()}, dict(values))


def write_state(path: Path, state: State) -> None:
    """Write a state; the file is whole or not there."""
    text = encode({"version": _VERSION, **state.values})

    def write(temporary: Path) -> None:
        content: dict[str, Any] = {"values": np.array(text), **state.arrays}
        with temporary.open("wb") as file:  # given a name, numpy would add an ending
            np.savez(file, **content)

    replace_file(path, write)


def read_state(path: Path) -> State:
    """Read a state.

    Raises:
        DynamicsError: There is none, or the file is not one.
    """
    if not path.is_file():
        raise DynamicsError(f"{path.parent}: the folder has no {path.name}; name a folder that `bec-mace md` made")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in (*_ARRAYS, TOTAL_CHARGE) if name in file or name in _ARRAYS}
            values = decode(str(file["values"]), always_array=False)
        version = values.pop("version")
    except Exception as error:  # numpy and the decoder raise many kinds for a file of another sort
        raise DynamicsError(f"{path}: cannot be read as the state of a run; restore it, or choose another `output`") from error
    if version != _VERSION:
        raise DynamicsError(f"{path}: has format version {version}, this bec_mace reads {_VERSION}; update bec_mace")
    return State(arrays, values)


class MDFolder:
    """Paths and files of one run.

    Args:
        path: The folder; made by ``create``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.log = self.path / "md.log"
        self.trajectory = self.path / "trajectory.traj"
        self.currents = self.path / "currents.h5"
        self.state = self.path / STATE
        self.results = self.path / "results.json"

    def check_free(self, resume: bool) -> None:
        """Refuse to overwrite a run.

        Raises:
            DynamicsError: The folder holds a run and ``resume`` is false, or it is a file.
        """
        check_free(self.path, (self.config, self.trajectory, self.currents, self.state), resume, DynamicsError)

    def read_state(self, config: MDConfig) -> State | None:
        """The state to go on from; None for a run that starts.

        Raises:
            DynamicsError: The state is that of a run with another configuration, or cannot be read.
        """
        if not self.state.exists():
            return None
        if self.config.exists():
            self._check_same_run(config)
        return read_state(self.state)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and hold it for the time of a ``with`` block.

        Raises:
            DynamicsError: Another run is at work in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with alone_in(self.path, DynamicsError):
            yield

    def create(self, config: MDConfig, state: State | None) -> None:
        """Make the folder and write the configuration; without a state, nothing of an earlier start is left."""
        if state is None:
            for path in (self.trajectory, self.currents):
                path.unlink(missing_ok=True)
        self.path.mkdir(parents=True, exist_ok=True)
        replace_file(self.config, lambda path: save_config(config, path))

    def _check_same_run(self, config: MDConfig) -> None:
        old, new = (flatten(one.model_dump(mode="json")) for one in (load_md_config(self.config), config))
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name) and not any(name == free or name.startswith(f"{free}.") for free in _FREE):
                raise DynamicsError(
                    f"{self.path}: cannot resume, the run in this folder had {name} = {old.get(name)}, now it "
                    f"is {new.get(name)}; restore it, or start another run from this folder with `structure`"
                )
        if isinstance(config.ensemble.temperature, dict) and old["steps"] != new["steps"]:
            raise DynamicsError(
                f"{self.path}: cannot resume, the temperature changes over all {old['steps']} steps, and with steps = "
                f"{new['steps']} it would have changed otherwise; restore it, or start another run from this folder with "
                "`structure`; points [step, K] would not depend on steps"
            )

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write results.json."""
        text = json.dumps(results, indent=2) + "\n"
        replace_text(self.results, text)

    def logging_to_file(self) -> AbstractContextManager[None]:
        """Append the package's log to md.log for the time of a ``with`` block."""
        return logging_to(self.log, "%(message)s")
