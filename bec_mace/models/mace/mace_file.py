"""Reading a model file of mace: what is in it, and whether this package can evaluate it.

The file is a pickle of mace's own modules. Unpickling runs code that the file names, so a file from a stranger must not be
read. A model that is built from it is saved without any pickle.

The modules are looked at from outside, by their attributes: files of older versions of mace lack some of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from bec_mace.config.model import BackboneConfig, MaceSizes, ModelConfig, ZblSizes
from bec_mace.data.statistics import Statistics
from bec_mace.errors import ModelError
from bec_mace.models.mace.blocks_of_mace import o3  # With mace, which unpickling would import with all its noise.
from bec_mace.models.mace.distance_transform import AGNESI

_MODELS = ("MACE", "ScaleShiftMACE")
_BLOCKS = {  # Whether the layer adds a linear map of its input, and whether it divides its messages by a density.
    "RealAgnosticInteractionBlock": (False, False),
    "RealAgnosticResidualInteractionBlock": (True, False),
    "RealAgnosticDensityInteractionBlock": (False, True),
    "RealAgnosticDensityResidualInteractionBlock": (True, True),
}
_RADIAL = {"BesselBasis": "bessel", "GaussianBasis": "gaussian"}
_READOUTS = ("LinearReadoutBlock", "NonLinearReadoutBlock")
_GATES = {"silu": "silu", "tanh": "tanh", "abs": "abs"}


@dataclass(frozen=True)
class MaceFile:
    """A model file of mace that this package can evaluate.

    Attributes:
        path: The file.
        module: mace's model, in float64, whose weights are to be copied.
        elements: Atomic numbers, ascending.
        order: For each of them its place in the file.
        config: A complete configuration: the sizes are those of the file.
    """

    path: str
    module: Any
    elements: list[int]
    order: list[int]
    config: ModelConfig

    def statistics(self, statistics: Statistics) -> Statistics:
        """The statistics of the training set with those of the file in their place where it has them."""
        sizes = sizes_of(self.config)
        energies = dict(zip(self.elements, sizes.reference_energies, strict=True))
        return replace(statistics, avg_num_neighbors=sizes.avg_num_neighbors[0], reference_energies=energies)


def sizes_of(config: ModelConfig) -> MaceSizes:
    """The sizes in a configuration that was completed from a file.

    Raises:
        ModelError: It was not.
    """
    if config.backbone is None or config.backbone.sizes is None:
        raise ModelError("model.backbone: the sizes of the mace model are missing; build the model from its file.")
    return config.backbone.sizes


def read_mace_file(config: ModelConfig, section: BackboneConfig) -> MaceFile:
    """Read the model file that a configuration names. This runs the code in it.

    Args:
        config: The configuration; sizes of the network are not given.
        section: Its ``backbone``.

    Raises:
        ModelError: There is no such file, it is not a mace model, or one with parts that this package does not evaluate.
    """
    path = section.from_mace
    module = _load(path)
    _check_model(path, module)
    numbers = [int(z) for z in module.atomic_numbers]
    elements = sorted(numbers)
    order = [numbers.index(z) for z in elements]
    single = next(module.parameters()).dtype == torch.float32
    module = module.double()
    sizes = _read_sizes(path, module, order, single)
    keys = {
        **config.model_dump(mode="json"),
        **_read_keys(module),
        "backbone": {"from_mace": path, "freeze": section.freeze, "sizes": sizes.model_dump(mode="json")},
    }
    if "energy" not in config.head_options:
        keys["heads"] = [*keys["heads"], "energy"]
    return MaceFile(path, module, elements, order, ModelConfig.model_validate(keys))


def _load(path: str) -> Any:
    if not Path(path).is_file():
        raise ModelError(f"model.backbone.from_mace: there is no file {path}; give the model file that mace wrote.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as exc:  # What a pickle runs can fail in any way.
        raise ModelError(
            f"{path}: cannot be read as a mace model ({type(exc).__name__}: {exc}); give the model file that mace wrote "
            "at the end of its training, and install the version of mace that reads it."
        ) from exc
    name = type(module).__name__
    if name not in _MODELS:
        what = "a compiled model" if "Script" in name else f"an object of class {name}"
        raise ModelError(
            f"{path}: holds {what}; give the model file that mace wrote at the end of its training (not a checkpoint, and "
            f"without 'compiled' in its name), of class {' or '.join(_MODELS)}."
        )
    return module


def _refuse(path: str, what: str) -> NoReturn:
    raise ModelError(
        f"{path}: {what} is not supported. Supported are {' and '.join(_MODELS)} with the interaction blocks "
        f"{', '.join(_BLOCKS)} (residual ones after the first layer), bessel or gaussian radial functions, the Agnesi "
        "transform or none, and one head."
    )


def _check_model(path: str, module: Any) -> None:
    """Refuse what the backbone does not evaluate."""
    heads = getattr(module, "heads", None) or ["Default"]
    if len(heads) > 1:
        _refuse(path, f"a model of {len(heads)} heads ({', '.join(heads)}; mace_select_head writes a file with one of them)")
    for name, what in (
        ("joint_embedding", "an embedding of other features"),
        ("use_so3", "use_so3"),
        ("use_agnostic_product", "use_agnostic_product"),
    ):
        if getattr(module, name, False):
            _refuse(path, what)
    repulsion = type(module.pair_repulsion_fn).__name__ if getattr(module, "pair_repulsion", False) else "ZBLBasis"
    if repulsion != "ZBLBasis":
        _refuse(path, f"the pair repulsion {repulsion}")
    _check_radial(path, module.radial_embedding)
    first = type(module.interactions[0]).__name__
    for number, block in enumerate(module.interactions):
        name = type(block).__name__
        residual, density = _BLOCKS.get(name, (False, None))
        if density != _BLOCKS.get(first, (False, False))[1] or (number and not residual):
            _refuse(path, f"the interaction block {name} in layer {number + 1}")
        if getattr(getattr(block, "cueq_config", None), "enabled", False):
            _refuse(path, "a model for cuEquivariance (mace_cueq_to_e3nn writes one for e3nn)")
        if block.conv_tp.irreps_in1 != o3.Irreps(block.node_feats_irreps):
            _refuse(path, f"edge_irreps {block.conv_tp.irreps_in1}")
    for block in module.readouts:
        if type(block).__name__ not in _READOUTS:
            _refuse(path, f"the readout {type(block).__name__}")
    _check_irreps(path, [o3.Irreps(block.hidden_irreps) for block in module.interactions])


def _check_radial(path: str, radial: Any) -> None:
    transform = getattr(radial, "distance_transform", None)
    if transform is not None and type(transform).__name__ != "AgnesiTransform":
        _refuse(path, f"the distance transform {type(transform).__name__}")
    if transform is not None and not all(abs(float(getattr(transform, name)) - value) < 1e-6 for name, value in AGNESI.items()):
        _refuse(path, "an Agnesi transform with other constants than " + ", ".join(f"{k} = {v}" for k, v in AGNESI.items()))
    if not getattr(radial, "apply_cutoff", True):
        _refuse(path, "apply_cutoff: False")
    if type(radial.bessel_fn).__name__ not in _RADIAL:
        _refuse(path, f"the radial functions {type(radial.bessel_fn).__name__}")


def _check_irreps(path: str, layers: Sequence[Any]) -> None:
    """Every layer must make the same number of channels; only the last may make fewer irreps."""
    hidden = layers[0]
    sound = hidden == hidden.sort().irreps.simplify() and hidden.count("0e") and not hidden.count("0o")
    if not sound or len({mul for mul, _ in hidden}) != 1 or any(other != hidden for other in layers[1:-1]):
        _refuse(path, f"hidden_irreps {hidden}")
    if layers[-1] not in (hidden, hidden[:1]):
        _refuse(path, f"features {layers[-1]} after the last layer")


def _read_keys(module: Any) -> dict[str, Any]:
    """The keys of a network, as the file has them."""
    first, radial = module.interactions[0], module.radial_embedding
    hidden = o3.Irreps(first.hidden_irreps)
    return {
        "r_max": float(module.r_max),
        "channels": hidden[0].mul,
        "max_l": max(ir.l for _, ir in o3.Irreps(first.edge_attrs_irreps)),
        "hidden_irreps": str(hidden).replace("+", " + "),
        "hidden_max_l": hidden.lmax,
        "correlation": max(_correlation(product) for product in module.products),
        "num_interactions": len(module.interactions),
        "radial_basis": _RADIAL[type(radial.bessel_fn).__name__],
        "distance_transform": "agnesi" if hasattr(radial, "distance_transform") else "none",
        "num_radial": int(radial.out_dim),
        "cutoff_power": int(radial.cutoff_fn.p),
        "radial_mlp": [int(width) for width in first.conv_tp_weights.hs[1:-1]],
    }


def _correlation(product: Any) -> int:
    return int(product.symmetric_contractions.contractions[0].correlation)


def _read_sizes(path: str, module: Any, order: list[int], single: bool) -> MaceSizes:
    """What the keys of a network cannot say."""
    scaling = getattr(module, "scale_shift", None)
    scale, shift = (1.0, 0.0) if scaling is None else (float(scaling.scale), float(scaling.shift))
    energies = module.atomic_energies_fn.atomic_energies.flatten().tolist()
    residual, density = _BLOCKS[type(module.interactions[0]).__name__]
    n_layers = len(module.interactions)
    readouts: list[list[int] | None] = [[] for _ in range(n_layers)]
    gate = "none"
    if len(module.readouts) < n_layers:  # mace reads the last layer alone.
        readouts[:-1] = [None] * (n_layers - 1)
    for place, block in zip([k for k in range(n_layers) if readouts[k] is not None], module.readouts, strict=True):
        if hasattr(block, "linear_1"):
            if o3.Irreps(block.hidden_irreps).lmax > 0:
                _refuse(path, f"a readout with hidden units {block.hidden_irreps}")
            readouts[place] = [o3.Irreps(block.hidden_irreps).dim]
            gate = _read_gate(path, block)
    return MaceSizes(
        residual_first=residual,
        layer_irreps=[str(o3.Irreps(block.hidden_irreps)) for block in module.interactions],
        correlations=[_correlation(product) for product in module.products],
        avg_num_neighbors=[float(block.avg_num_neighbors) for block in module.interactions],
        readouts=readouts,
        gate=gate,  # type: ignore[arg-type]
        scale=scale,
        reference_energies=[energies[place] + shift for place in order],
        single_precision=single,
        density=density,
        zbl=_read_zbl(module),
    )


def _read_zbl(module: Any) -> ZblSizes | None:
    if not getattr(module, "pair_repulsion", False):
        return None
    zbl = module.pair_repulsion_fn
    return ZblSizes(power=int(zbl.p), exponent=float(zbl.a_exp), prefactor=float(zbl.a_prefactor))


def _read_gate(path: str, block: Any) -> str:
    """The name of the nonlinearity of a readout."""
    act = block.non_linearity.acts[0]
    if act is None:
        return "none"
    name = getattr(act.f, "__name__", str(act.f))
    if name not in _GATES:
        _refuse(path, f"the gate {name}")
    return _GATES[name]
