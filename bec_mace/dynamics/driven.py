"""Dynamics that another program integrates, with our potential and Z*."""

from __future__ import annotations

import logging
import time

from ase.calculators.calculator import BaseCalculator

from bec_mace.config.driver import DriverConfig
from bec_mace.devices import DTYPES, find_device
from bec_mace.dynamics.potential import Z, build_calculator, load_potential
from bec_mace.dynamics.structure import read_structure
from bec_mace.errors import DynamicsError, ModelError
from bec_mace.integrations.ase import BECCalculator
from bec_mace.integrations.ipi_driver import Answers, IPIDriver
from bec_mace.models import PolarizationModel, load_model

logger = logging.getLogger(__name__)


def drive(config: DriverConfig) -> int:
    """Answer i-PI until it is done.

    Args:
        config: The configuration; ``load_driver_config`` reads it from YAML.

    Returns:
        Number of evaluations.

    Raises:
        DynamicsError: The potential cannot be built, gives no such property, or the connection cannot be made or is lost.
        DataError: The structure cannot be used.
        ModelError: A model cannot be used.
    """
    atoms = read_structure(config.structure, config.repeat)
    model, base = build_parts(config)
    answers = Answers(model, base, atoms, config.properties, config.skin)
    if atoms.pbc.any() and not atoms.pbc.all():
        logger.warning(
            "%s: is periodic along %s only, where no virial is defined; i-PI gets nan for it: keep its cell fixed",
            config.structure,
            " and ".join(axis for axis, periodic in zip("abc", atoms.pbc, strict=True) if periodic),
        )
    driver = IPIDriver(config.address, config.port, config.socket_prefix, config.wait_seconds)
    logger.info("%d atoms; connected to i-PI at %s", len(atoms), driver.name)
    start = time.monotonic()
    count = driver.serve(answers)
    logger.info("i-PI is done: %d evaluations in %.1f s", count, time.monotonic() - start)
    return count


def build_parts(config: DriverConfig) -> tuple[PolarizationModel | None, BaseCalculator | None]:
    """The model of the extras, and the potential where it is something else.

    Raises:
        DynamicsError: As :func:`~bec_mace.dynamics.potential.build_potential`.
        ModelError: There is no such model, or the one for charges gives no Z*.
    """
    device = find_device(config.device, DynamicsError)
    base: BaseCalculator
    if config.potential.model is not None:
        potential = load_potential(config.potential.model, device, config.precision)
        if config.charges is None:
            return potential, None
        base = BECCalculator(potential, device=device, dtype=config.precision, skin=config.skin)
    else:
        base = build_calculator(config.potential, device, config.precision)
    if config.charges is None:
        return None, base
    model = load_model(config.charges, device, DTYPES[config.precision])
    if Z not in model.provides:
        raise ModelError(
            f"charges: the model {config.charges} gives no Z* (heads: {', '.join(model.heads)}); name one that does"
        )
    return model, base
