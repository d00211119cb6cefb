"""From the words of a configuration to phonons and infrared optics, in a folder.

config.yaml            the resolved configuration
phonons.log            what was done
phonons.json           all results and how they were made
modes.csv              modes at Gamma: frequencies, irreducible representations, charges, strengths
longitudinal.csv       transverse and longitudinal frequencies by direction
spectrum.csv, .png     dielectric function, absorption, reflectivity
bands.csv, .png        bands
BORN                   Z* and dielectric tensor, made symmetric, for phonopy
phonopy_params.yaml    cells, displacements and forces, Z*: what phonopy goes on with
relaxed.extxyz         the structure, where it was relaxed here
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from bec_mace.config.phonons import PhononConfig
from bec_mace.config.schema import save_config
from bec_mace.data.labels import TOTAL_CHARGE
from bec_mace.devices import DTYPES, find_device
from bec_mace.dynamics.potential import build_calculator
from bec_mace.dynamics.structure import read_structure
from bec_mace.errors import PhononError
from bec_mace.integrations.ase import BECCalculator
from bec_mace.models import PolarizationModel, load_model
from bec_mace.phonons.analysis import PhononResults, analyse
from bec_mace.phonons.born import EPSILON, BornCharges, Z, from_file, from_model, write_born
from bec_mace.phonons.lattice import add_force_constants, add_force_sets, add_forces, make_phonon, phonopy_module
from bec_mace.phonons.plots import plot_bands, plot_optics
from bec_mace.phonons.relaxation import relax
from bec_mace.phonons.scattering import raman_of_crystal
from bec_mace.phonons.tables import write_tables
from bec_mace.storage.files import check_free, logging_to, replace_file
from bec_mace.storage.locks import alone_in

logger = logging.getLogger(__name__)

Progress = Callable[[Iterable[Any]], Iterable[Any]]


def compute(config: PhononConfig, progress: Progress = iter) -> tuple[PhononResults, Atoms]:
    """Do what a configuration says, and write nothing.

    Args:
        config: The configuration.
        progress: Wraps the displaced supercells.

    Returns:
        The results, and the unit cell that they are of.

    Raises:
        BecMaceError: phonopy is missing, or a file, model or calculator cannot be used.
    """
    phonopy_module()
    atoms = read_structure(config.structure)
    if atoms.info.get(TOTAL_CHARGE):
        raise PhononError(
            f"{config.structure}: the cell has a charge of {atoms.info[TOTAL_CHARGE]:g} e; phonons need a neutral one"
        )
    device = find_device(config.device, PhononError)
    model = _load(config.potential.model, device, config)
    calculator = _calculator(config, model, device)
    meta: dict[str, Any] = {"structure": config.structure, "phonopy": phonopy_module().__version__}
    if calculator is not None:
        if config.relax != "none":
            with_cell = config.relax == "cell"
            atoms = relax(atoms, calculator, with_cell, config.max_force, config.symmetry_tolerance)
        force = float(np.linalg.norm(calculator.get_property("forces", atoms), axis=1).max())
        meta["largest_force_eV/Å"] = force
        if force > config.max_force and config.relax == "none":
            logger.warning(
                "the largest force is %.3g eV/Å: modes are those of a structure at rest; relax it with `relax: positions`",
                force,
            )
    phonon = make_phonon(atoms, config.supercell, config.primitive, config.symmetry_tolerance)
    meta |= _add_forces(phonon, config, calculator, progress)
    name, network = _model_of_charges(config, model, device)
    born = _born(phonon, atoms, config, name, network)
    raman = None
    if config.raman:
        if network is None:
            raise PhononError("raman: there is no model that gives polarizabilities; name one under charges, or remove raman")
        raman = raman_of_crystal(phonon, atoms, network, name)
    return analyse(phonon, born, np.array(config.directions), config.bands, config.spectrum, meta, raman), atoms


def run(config: PhononConfig, progress: Progress = iter) -> PhononResults:
    """Do what a configuration says and write the folder ``config.output``.

    Raises:
        PhononError: The folder holds a calculation already.
        BecMaceError: phonopy is missing, or a file, model or calculator cannot be used.
    """
    folder = config.output
    check_free(folder, [folder / "phonons.json"], False, PhononError, "choose another `output`, or remove the folder")
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder, PhononError), logging_to(folder / "phonons.log", "%(asctime)s %(message)s"):
        replace_file(folder / "config.yaml", lambda path: save_config(config, path))
        results, atoms = compute(config, progress)
        if config.relax != "none":
            replace_file(folder / "relaxed.extxyz", lambda path: ase.io.write(path, atoms, format="extxyz"))
        if results.modes.born is not None:
            write_born(results.phonon, results.modes.born, folder / "BORN")
        replace_file(folder / "phonopy_params.yaml", lambda path: results.phonon.save(filename=str(path)))
        write_tables(results, folder)
        _draw(results, folder)
    return results


def _draw(results: PhononResults, folder: Path) -> None:
    if results.bands is not None:
        plot_bands(results.bands, folder / "bands.png")
    if results.spectrum is not None:
        plot_optics(results.spectrum, folder / "spectrum.png")


def _load(name: str | None, device: str, config: PhononConfig) -> PolarizationModel | None:
    return None if name is None else load_model(name, device, DTYPES[config.precision])


def _calculator(config: PhononConfig, model: PolarizationModel | None, device: str) -> BaseCalculator | None:
    """The calculator of forces; None where they come from files."""
    potential = config.potential
    if model is not None:
        if "energy" not in model.provides:
            raise PhononError(
                f"potential: the model {potential.model} has no energy head ({', '.join(model.heads)}); "
                "give it as `charges`, beside another potential"
            )
        return BECCalculator(model, device=device, dtype=config.precision)
    if potential.mace is not None or potential.calculator is not None:
        return build_calculator(potential, device, config.precision)
    return None


def _add_forces(phonon: Any, config: PhononConfig, calculator: BaseCalculator | None, progress: Progress) -> dict[str, Any]:
    """Force constants, and how they were made."""
    potential, n_atoms = config.potential, len(phonon.supercell)
    meta: dict[str, Any] = {"supercell_atoms": n_atoms}
    if calculator is not None:
        meta["forces"] = potential.model or potential.mace or potential.calculator
        meta["displacement_Å"] = config.displacement
        meta["displaced_supercells"] = add_forces(phonon, calculator, config.displacement, progress)
    elif potential.force_sets is not None:
        meta["forces"] = potential.force_sets
        meta["displaced_supercells"] = add_force_sets(phonon, potential.force_sets)
    else:
        meta["forces"] = potential.force_constants
        add_force_constants(phonon, str(potential.force_constants))
    logger.info("force constants from %s, supercell of %d atoms", meta["forces"], n_atoms)
    return meta


def _model_of_charges(
    config: PhononConfig, model: PolarizationModel | None, device: str
) -> tuple[str, PolarizationModel | None]:
    """The model of ``charges`` and its name, or that of the potential where there is none."""
    charges = config.charges
    if charges is None or charges.born is not None:
        return str(config.potential.model), model
    if model is not None and charges.model == config.potential.model:
        return str(charges.model), model
    return str(charges.model), _load(charges.model, device, config)


def _born(phonon: Any, atoms: Atoms, config: PhononConfig, name: str, network: PolarizationModel | None) -> BornCharges | None:
    charges = config.charges
    if charges is not None and charges.born is not None:
        return from_file(phonon, charges.born)
    if network is None or (charges is None and not {Z, EPSILON} <= network.provides):
        logger.info("no Z* and dielectric tensor, so no longitudinal modes and no spectrum; name a model under charges")
        return None
    given = None if charges is None else charges.epsilon_infinity
    return from_model(phonon, atoms, network, name, np.array(given) if isinstance(given, list) else given)
