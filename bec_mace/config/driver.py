"""The schema of a driver that gives another program energies, forces and Z* over a socket, read from YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from bec_mace.config.checks import PropertyName, Whole, wrong
from bec_mace.config.document import Mistake
from bec_mace.config.dynamics import Counts, PotentialConfig
from bec_mace.config.schema import read_config
from bec_mace.config.section import Device, Precision, Section

_SENT_ANYWAY = ("energy", "forces", "stress")


def _extra(value: Any) -> Any:
    if value in _SENT_ANYWAY:
        raise wrong(f"{value} is always sent; name what goes into the extras beside it")
    if value == "polarization":
        raise wrong("the polarization of a cell is sent as dipole; write dipole")
    return value


class DriverConfig(Section):
    """Everything that defines a driver of i-PI."""

    structure: str = Field(
        min_length=1,
        description="FILE or FILE@INDEX as for bec-mace md: elements in the order of i-PI's atoms, and whether they are "
        "periodic. i-PI sends positions and cell.",
    )
    repeat: Counts = Field(default=[1, 1, 1], description="Supercell: number of copies along each lattice vector.")
    potential: PotentialConfig = Field(description="Energy and forces: a model, mace or any ASE calculator.")
    charges: str | None = Field(
        default=None, description="Model for Z*: file, run folder or name. Null: the potential where it is one of ours."
    )
    address: str = Field(
        min_length=1, description="<address> of i-PI's ffsocket: a host with a port, the name of a unix socket without one."
    )
    port: Whole | None = Field(default=None, ge=1, le=65535, description="<port> of i-PI. Null: a unix socket.")
    socket_prefix: str = Field(
        default="/tmp/ipi_", description="What stands before the name of a unix socket; <sockets_prefix> of i-PI."
    )
    wait_seconds: float = Field(default=60.0, ge=0, description="How long to wait for i-PI to open its socket.")
    properties: list[Annotated[PropertyName, BeforeValidator(_extra)]] = Field(
        default=["born_effective_charges", "dipole"],
        description="What goes into the extras, in atomic units; born_effective_charges is sent as BEC.",
    )
    skin: float = Field(default=0.5, ge=0, description="Width in Å of the shell in which neighbours are known in advance.")
    device: Device = Field(default="auto", description="auto, cpu, cuda, cuda:N, mps or xpu, for models and mace.")
    precision: Precision = Field(
        default="float32",
        description="Floating-point type of models and mace. In float32 the sum of Z* over few atoms is not zero to i-PI's "
        "asr_threshold of 1e-8 e; raise that, or take float64.",
    )


def load_driver_config(path: str | Path, overrides: Sequence[str] = ()) -> DriverConfig:
    """Read and check the configuration of a driver.

    Args:
        path: The YAML file.
        overrides: Texts such as ``"address=water"`` that win over the file and pass the same checks.

    Returns:
        The complete configuration, defaults filled in.

    Raises:
        ConfigError: Something is wrong. The message lists every mistake with its line.
    """
    return read_config(path, overrides, DriverConfig, _nothing_more, "'structure:', 'potential:' and 'address:'")


def _nothing_more(values: Mapping[str, Any]) -> list[Mistake]:
    """The keys do not depend on each other."""
    return []
