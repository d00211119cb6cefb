r"""A kernel model: charges and dipoles that are linear in the weights, of one stage.

With invariants D and vectors V of atom i, and representatives M of its element (each with a direction u_M in the space of
the vectors, fixed once),

.. math:: q_i = \sum_M w_M (D_i \cdot D_M)^\zeta, \qquad
          \mu_i = \sum_M v_M (D_i \cdot D_M)^{\zeta - 1} \, (u_M \cdot V_i) .

The first is a polynomial kernel, the second one column of the lambda = 1 kernel: the direction u_M is V_M along one axis.
Z* follows by the same engine as that of a network.

Source: Schmiedmayer, Rittsteuer, Hilpert and Kresse, J. Chem. Phys. 164 (2026), arXiv 2602.04773; Schmiedmayer and Kresse,
J. Chem. Phys. 161, 084703 (2024).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from ase.data import chemical_symbols
from torch import Tensor

from bec_mace.config.heads import HEADS
from bec_mace.config.model import KernelModelConfig
from bec_mace.data.graph import Graph
from bec_mace.data.statistics import Statistics
from bec_mace.devices import default_dtype
from bec_mace.engine.contract import EdgeFeatures, Hops
from bec_mace.engine.environments import Blocks, Environments, SortedAtoms, build_environments
from bec_mace.errors import ModelError
from bec_mace.models.base import PolarizationModel
from bec_mace.models.footprint import Footprint
from bec_mace.models.kernel_regression.basis import RadialBasis
from bec_mace.models.kernel_regression.density import Density
from bec_mace.models.kernel_regression.descriptors import Descriptors
from bec_mace.models.kernel_regression.design import sorted_design_matrix
from bec_mace.models.kernel_regression.kernel import Kernel
from bec_mace.models.kernel_regression.stage import KernelStage
from bec_mace.models.kernel_regression.uncertainty import standard_deviation
from bec_mace.properties import DEVIATION

MAX_INVARIANTS = 20000


class KernelHead(torch.nn.Module):
    """The weights of one kind of source.

    Args:
        name: ``monopole`` or ``dipole``.
        n_weights: Number of representatives of all elements.
    """

    def __init__(self, name: str, n_weights: int) -> None:
        super().__init__()
        self.row = HEADS[name]
        self.weights = torch.nn.Parameter(torch.zeros(n_weights))

    @property
    def provides(self) -> frozenset[str]:
        """The properties that it makes possible."""
        return self.row.provides


class KernelModel(PolarizationModel):
    """Sources from kernels between environments.

    Args:
        config: Descriptors, kernel and heads.
        elements: Atomic numbers the model knows, ascending.
        statistics: Means of the training set.

    Attributes:
        zeta: Power of the kernel.
        sizes: Number of representatives of each element.
        representatives: Their invariants, of shape (n_representatives, n_invariants).
        directions: Their directions, of shape (n_representatives, n_vectors).
        posterior: A factor B of the covariance B B^T of the weights, of shape (n_weights, n_weights).
        noise: Standard deviation of what the model cannot describe, of shape (1,), in e.
        calibration: Factor of the standard deviation of each element, of shape (n_elements,).
    """

    representatives: Tensor
    directions: Tensor
    posterior: Tensor
    noise: Tensor
    calibration: Tensor

    def __init__(self, config: KernelModelConfig, elements: Sequence[int], statistics: Statistics) -> None:
        super().__init__(config, elements, statistics)
        self.zeta = config.zeta
        n_elements = len(self.elements)
        _check_size(config, n_elements)
        radial = RadialBasis(config.r_max, config.num_radial, config.max_l, config.smearing)
        self.descriptors = Descriptors(Density(radial, config.max_l, n_elements))
        self.sizes = sizes_of(config, self.elements)
        total = sum(self.sizes)
        self.register_buffer("representatives", torch.zeros(total, self.descriptors.n_invariants))
        self.register_buffer("directions", torch.zeros(total, self.descriptors.n_vectors))
        self._install({name: KernelHead(name, total) for name in config.heads})
        if config.uncertainty:
            self.provides |= {DEVIATION}
            self.register_buffer("posterior", torch.zeros(self.n_weights, self.n_weights))
            self.register_buffer("noise", torch.zeros(1))
            self.register_buffer("calibration", torch.ones(n_elements))

    @property
    def r_max(self) -> float:
        """Cutoff radius, in Å."""
        return float(self.config.r_max)

    @property
    def n_weights(self) -> int:
        """Number of weights: those of the heads, then the reference charges."""
        return len(self.heads) * sum(self.sizes) + (len(self.elements) if self.config.reference_charges else 0)

    def weights(self) -> Tensor:
        """All weights in the order of the columns of the design matrix, of shape (n_weights,)."""
        references = [self.reference_charges] if self.config.reference_charges else []
        return torch.cat([*(head.weights for head in self.heads.values()), *references])

    def set_weights(self, weights: Tensor) -> None:
        """Take up weights in the order of :meth:`weights`."""
        parts = [head.weights for head in self.heads.values()]
        parts += [self.reference_charges] if self.config.reference_charges else []
        with torch.no_grad():
            for part, values in zip(parts, weights.split([len(part) for part in parts]), strict=True):
                part.copy_(values)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> KernelModel:
        """Move the model; what is summed with cancellation stays in float64 whatever the precision of the model."""
        exact = {id(value) for name, value in self.own_tensors().items() if name != "reference_charges"}

        def careful(value: Tensor) -> Tensor:
            moved = fn(value)
            return value.to(moved.device) if id(value) in exact else moved

        super()._apply(careful, recurse)
        return self

    def footprint(self, properties: Collection[str], blocked: bool) -> Footprint:
        """How many numbers are alive at the peak of an evaluation."""
        _, channels = self.sweep_channels(properties)
        described, density = self.descriptors, self.descriptors.density
        numbers = density.n_elements * density.n_components
        return Footprint(
            at_edge=12 + len(self.elements) + 9 * channels,
            at_atom=numbers * (2 + 2 * channels) + 6 * described.n_invariants + 9 * described.n_vectors,
            kept=30.0,
            at_work=density.n_components * (9.0 + channels) + 4 * density.radial.polynomials.shape[0],
        )

    def own_tensors(self) -> dict[str, Tensor]:
        """Parameters and what the fit leaves beside them."""
        return {**self.state_dict(keep_vars=True), "reference_charges": self.reference_charges}

    def kernel(self, heads: Sequence[str] | None = None) -> Kernel:
        """Its kernels as they are now, with the weights of all heads or of some."""
        names = self.heads if heads is None else heads
        return Kernel(
            self.descriptors,
            self.zeta,
            tuple(self.sizes),
            self.representatives,
            self.directions,
            {name: self.heads[name].weights for name in names},
            self.config.reference_charges,
            self.projects,
        )

    def design_matrix(self, graph: Graph, memory: float = 1e9) -> Tensor:
        """Derivatives of Z* by the weights, sum rule included.

        Args:
            graph: A batch.
            memory: Bytes that the work may take, beside the result.

        Returns:
            Of shape (n_atoms, 3, 3, n_weights), in the order of the graph; its product with :meth:`weights` is Z*, in e.
        """
        env = self.environments(graph)
        return env.unsort(sorted_design_matrix(self.kernel(), env, memory))

    def environments(self, graph: Graph) -> Environments:
        """The atomic environments of a batch, atoms sorted by element."""
        return build_environments(graph, self._species(graph), len(self.elements), self.r_max, self.dtype)

    def _hops(self, atoms: SortedAtoms, heads: list[str], frozen: bool) -> Hops[EdgeFeatures]:
        kernel = self.kernel(heads)
        return Hops([KernelStage(kernel)], kernel.element_of(atoms), _vectors_alone)

    def _compute(
        self,
        graph: Graph,
        atoms: Environments | Blocks,
        wanted: set[str],
        create_graph: bool,
        directions: Tensor | None,
        field: tuple[Tensor, bool] | None,
    ) -> dict[str, Tensor]:
        out = super()._compute(graph, atoms, wanted - {DEVIATION}, create_graph, directions, field)
        if DEVIATION in wanted:
            env = atoms if isinstance(atoms, Environments) else self.environments(graph)
            spread = standard_deviation(self.kernel(), self.posterior, self.noise, self.calibration, env, directions)
            out[DEVIATION] = env.unsort(spread).to(env.vectors)
        return out


def _vectors_alone(vectors: Tensor, env: Environments) -> EdgeFeatures:
    """The stage makes its own functions of the edge vectors."""
    return EdgeFeatures(vectors)


def sizes_of(config: KernelModelConfig, elements: Sequence[int]) -> list[int]:
    """Number of representatives of each element.

    Raises:
        ModelError: The configuration names some elements and leaves out others.
    """
    given = config.num_representatives
    if not isinstance(given, Mapping):
        return [int(given)] * len(elements)
    missing = [chemical_symbols[z] for z in elements if chemical_symbols[z] not in given]
    if missing:
        raise ModelError(f"model.num_representatives names no number for {', '.join(missing)}; add it.")
    return [int(given[chemical_symbols[z]]) for z in elements]


def _check_size(config: KernelModelConfig, n_elements: int) -> None:
    largest = (config.max_l + 1) * (n_elements * config.num_radial) ** 2
    if largest > 2 * MAX_INVARIANTS:
        raise ModelError(
            f"a kernel model of {n_elements} elements with num_radial {config.num_radial} and max_l {config.max_l} has up to "
            f"{largest} invariants per atom, more than {2 * MAX_INVARIANTS}; lower them, or train a network."
        )


def build_kernel_model(
    config: KernelModelConfig, elements: Sequence[int], statistics: Statistics, dtype: torch.dtype = torch.float32
) -> KernelModel:
    """Build a kernel model without representatives and with zero weights; a fit or a checkpoint fills it.

    Args:
        config: Descriptors, kernel and heads.
        elements: Atomic numbers.
        statistics: Means of the training set.
        dtype: Floating-point type of weights and computation.
    """
    with torch.inference_mode(False), default_dtype(torch.float64):
        return KernelModel(config, sorted(set(elements)), statistics).to(dtype)
