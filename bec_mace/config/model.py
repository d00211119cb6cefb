"""The section ``model`` of a training run: networks, kernel models, and what is stored of them in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from bec_mace.config.checks import (
    Head,
    Whole,
    check_irreps,
    check_kernel_head,
    check_kind,
    check_network_key,
    check_representatives,
    check_unique_heads,
)
from bec_mace.config.electrostatics import ElectrostaticsConfig
from bec_mace.config.section import Section

SHORTEST_CUTOFF, LONGEST_CUTOFF = 0.5, 30.0
"""In Å. Below, no atom has a neighbour; above, no machine holds the edges of a dense system."""
Width = Annotated[Whole, Field(ge=1, le=65536)]


class ZblSizes(Section):
    """The pair repulsion of a mace file."""

    power: Whole = Field(description="Of the polynomial that ends it where the covalent spheres touch.")
    exponent: float = Field(description="Of the atomic number in the screening length.")
    prefactor: float = Field(description="Of the screening length, in units of 0.529 Å.")


class MaceSizes(Section):
    """What a mace file says that the keys of a network cannot. It is read from the file and stored in checkpoints."""

    residual_first: bool = Field(description="Whether the first layer adds a linear map of its input.")
    layer_irreps: list[str] = Field(description="Node features after each layer.")
    correlations: list[Whole] = Field(description="Number of neighbours that the product of each layer couples.")
    avg_num_neighbors: list[float] = Field(description="What each layer divides its messages by.")
    readouts: list[list[Whole] | None] = Field(
        description="Hidden units of the energy readout of each layer; null where there is none."
    )
    gate: Literal["silu", "tanh", "abs", "none"] = Field(description="Nonlinearity of those hidden units.")
    scale: float = Field(description="Factor of the interaction energy.")
    reference_energies: list[float] = Field(description="Energy of an atom of each element, shift included, in eV.")
    single_precision: bool = Field(description="Whether the constants of the file were rounded to float32.")
    density: bool = Field(
        default=False, description="Whether messages are divided by a learned density of neighbours, not their mean number."
    )
    zbl: ZblSizes | None = Field(default=None, description="Its pair repulsion.")


class BackboneConfig(Section):
    """A mace model that someone has trained already."""

    from_mace: str = Field(
        description="Model file of mace. It is a pickle: reading it runs the code in it, so trust who made it."
    )
    freeze: bool = Field(
        default=True, description="Train the heads and reference charges alone; energies stay those of the file."
    )
    sizes: MaceSizes | None = Field(default=None, description="Read from the file; never given.")


_FROM_THE_FILE = (
    "r_max",
    "channels",
    "max_l",
    "hidden_irreps",
    "hidden_max_l",
    "correlation",
    "num_interactions",
    "radial_basis",
    "distance_transform",
    "num_radial",
    "cutoff_power",
    "radial_mlp",
    "element_correlation",
)


class ModelConfig(Section):
    """The network and its heads. It is stored in every checkpoint."""

    kind: Annotated[Literal["network"], BeforeValidator(check_kind)] = Field(
        default="network", description="network or kernel: which keys there are follows from it."
    )
    backbone: BackboneConfig | None = Field(
        default=None, description="A mace model to build on. Sizes of the network, elements and the energy are then its own."
    )
    r_max: float | None = Field(
        default=None, validate_default=True, ge=SHORTEST_CUTOFF, le=LONGEST_CUTOFF, description="Cutoff radius in Å."
    )
    channels: Whole = Field(default=32, gt=0, le=4096, description="Channels per irreducible representation.")
    max_l: Whole = Field(default=2, ge=1, le=6, description="Highest degree of the spherical harmonics of the edges.")
    hidden_irreps: Annotated[str | None, AfterValidator(check_irreps)] = Field(
        default=None, description="Node features, such as '32x0e + 32x1o'. Null: channels for each l <= hidden_max_l."
    )
    hidden_max_l: Whole = Field(default=1, ge=0, le=6, description="Highest degree of the node features.")
    correlation: Whole = Field(default=2, ge=1, le=4, description="Number of neighbours that one product block couples.")
    num_interactions: Whole = Field(default=2, ge=1, le=20, description="Number of layers of message passing.")
    radial_basis: Literal["bessel", "gaussian"] = Field(default="bessel", description="Functions of the distance.")
    distance_transform: Literal["none", "agnesi"] = Field(
        default="none", description="agnesi: distances in units of the sizes of the atoms; for data of many elements."
    )
    num_radial: Whole = Field(default=8, ge=1, le=512, description="Number of functions of the distance.")
    cutoff_power: Whole = Field(default=5, ge=2, le=64, description="Power p of the polynomial cutoff; smooth to order p - 1.")
    radial_mlp: list[Width] = Field(default=[64, 64], description="Widths of the network of the distance.")
    readout_mlp: list[Width] = Field(default=[16], description="Widths of the readout after the last layer.")
    element_correlation: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Correlation of the weights of neighbouring elements of the periodic table, "
        "before training; 0.9 helps where many elements have few structures each.",
    )
    heads: Annotated[list[Head], Field(min_length=1), AfterValidator(check_unique_heads)] = Field(
        description="One or more of monopole, charge_transfer, dipole, direct, energy, polarizability, static_charges, or "
        "module:Class for one of your own, which is code that runs; {name: {option: value}} sets options of a head."
    )
    electrostatics: ElectrostaticsConfig | None = Field(
        default=None, description="Charges that act through Coulomb's law. Null: none do."
    )
    reference_charges: bool = Field(default=True, description="Learn one constant charge per element.")
    acoustic_sum_rule: Literal["project", "weighted", "none"] | None = Field(
        default=None,
        description="project subtracts the mean tensor of each cell; weighted subtracts the sum in parts that "
        "are learned for each element. Null: project when a monopole or direct head is there.",
    )

    @field_validator(*_FROM_THE_FILE)
    @classmethod
    def _network_or_file(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        field = cls.model_fields[name]
        check_network_key(name, value, value != field.default, str(field.description), info.data)
        return value

    @property
    def head_options(self) -> dict[str, dict[str, Any]]:
        """The heads by name, each with its options, in the order of the file."""
        return {
            name: options for head in self.heads for name, options in ({head: {}} if isinstance(head, str) else head).items()
        }


class KernelModelConfig(Section):
    """A kernel model: sums of kernels between atomic environments and representative ones. Stored in every checkpoint."""

    kind: Literal["kernel"] = Field(description="kernel: one linear solve in place of training.")
    r_max: float = Field(ge=SHORTEST_CUTOFF, le=LONGEST_CUTOFF, description="Cutoff radius in Å.")
    num_radial: Whole = Field(default=5, ge=1, le=64, description="Number of radial functions for l = 0; higher l have fewer.")
    max_l: Whole = Field(default=4, ge=1, le=10, description="Highest degree of the spherical harmonics.")
    smearing: float = Field(
        default=0.5, ge=0, le=10, description="Width of the density around a neighbour in Å; wider is smoother."
    )
    zeta: Whole = Field(
        default=2, ge=1, le=8, description="Power of the kernel: the number of descriptors that one term couples."
    )
    num_representatives: Annotated[int | dict[str, int], BeforeValidator(check_representatives)] = Field(
        default=500, description="Representative environments of each element, or {element: number}."
    )
    heads: Annotated[
        list[Annotated[str, BeforeValidator(check_kernel_head)]], Field(min_length=1), AfterValidator(check_unique_heads)
    ] = Field(description="monopole, dipole or both.")
    reference_charges: bool = Field(default=True, description="Learn one constant charge per element.")
    acoustic_sum_rule: Literal["project", "none"] | None = Field(
        default=None, description="project subtracts the mean tensor of each cell. Null: project with a monopole head."
    )
    uncertainty: bool = Field(default=True, description="Keep the posterior in the model, for the uncertainty of Z*.")

    @property
    def head_options(self) -> dict[str, dict[str, Any]]:
        """The heads by name; none has options."""
        return {name: {} for name in self.heads}


class CommitteeConfig(Section):
    """Networks whose predictions are averaged. It stands in checkpoints only: each is trained by a run of its own."""

    kind: Literal["committee"] = "committee"
    members: list[ModelConfig] = Field(min_length=2)


def read_model_config(values: Mapping[str, Any]) -> ModelConfig | KernelModelConfig | CommitteeConfig:
    """Check the ``model`` section of a checkpoint; its ``kind`` says which it is."""
    kinds: dict[Any, type[ModelConfig | KernelModelConfig | CommitteeConfig]] = {
        "kernel": KernelModelConfig,
        "committee": CommitteeConfig,
    }
    return kinds.get(values.get("kind"), ModelConfig).model_validate(values)
