"""Sets of data and ways to couple charges, as configurations."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from comparing.ions import write_ions

COUPLINGS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "independent": {"sources": ["static_charges"], "screening": "independent"},
    "fixed": {"screening": "fixed"},
    "global": {"screening": "global"},
    "local": {"screening": "local"},
}
"""By name, what ``model.electrostatics`` begins with."""

IONS = "ions.extxyz"


@dataclass(frozen=True)
class DataSet:
    """One set of data and how a model is trained on it.

    Attributes:
        train: The section ``data.train`` with names of files in the data folder; a text, or a list of mappings.
        test: Fraction of the frames that is held out and evaluated once.
        sizes: Of the network, ``model`` without heads.
        source: The head whose charges act where they make Z*.
        heads: Without those of the coupling.
        weights: Of the loss.
        epochs: Passes over the training frames.
        learning_rate: Of SOAP.
        epsilon_infinity: Of the material.
        charge_sign: Of an element, where Z* is not trained.
        couplings: The ways that make sense.
    """

    train: Any
    test: float
    sizes: dict[str, Any]
    source: str
    heads: tuple[str, ...]
    weights: dict[str, float]
    epochs: int
    learning_rate: float
    epsilon_infinity: float
    charge_sign: dict[str, int] = field(default_factory=dict)
    couplings: tuple[str, ...] = tuple(COUPLINGS)

    def prepare(self, folder: Path) -> None:
        """Make the data that are made here."""
        path = folder / IONS
        if self.train == IONS and not path.exists():
            write_ions(path, 250)

    def config(self, folder: Path, coupling: str, epochs: float, channels: int | None) -> dict[str, Any]:
        """The configuration of a training, but for its output."""
        section, heads, weights = COUPLINGS[coupling], list(self.heads), dict(self.weights)
        if coupling == "independent":
            heads.append("static_charges")
        elif section is not None and self.source not in heads:
            heads.append(self.source)
        if coupling == "fixed":  # Z* is to come from energies and forces alone
            weights.pop("born_effective_charges", None)
            heads = [name for name in heads if name in ("energy", self.source)]
        model: dict[str, Any] = {**self.sizes, "heads": heads}
        if channels is not None:
            model["channels"] = channels
        if section is not None:
            signs = {} if "born_effective_charges" in weights else {"charge_sign": self.charge_sign}
            model["electrostatics"] = {
                "sources": [self.source],
                "epsilon_infinity": self.epsilon_infinity,
                **signs,
                **section,
            }
        return {
            "data": {"train": self._train(folder), "validation": 0.0, "test": self.test},
            "model": model,
            "training": {
                "epochs": max(1, round(self.epochs * epochs)),
                "optimizer": {"name": "soap", "learning_rate": self.learning_rate},
                "ema_decay": 0.995,
                "loss": {"weights": weights},
            },
        }

    def _train(self, folder: Path) -> Any:
        if isinstance(self.train, str):
            return str(folder / self.train)
        return [{**entry, "files": str(folder / entry["files"])} for entry in self.train]


_SIZES = {"r_max": 4.5, "channels": 32, "max_l": 2, "hidden_max_l": 1, "correlation": 2, "radial_mlp": [32, 32]}
_WITH_LABELS = ("none", "independent", "global", "local")
_WATER = DataSet(
    train="water_rpbe_d3.extxyz",
    test=0.1,
    sizes=_SIZES,
    source="charge_transfer",
    heads=("energy", "charge_transfer", "dipole"),
    weights={"energy": 3.0, "forces": 1.0, "born_effective_charges": 30.0},
    epochs=12,
    learning_rate=0.05,
    epsilon_infinity=1.78,
    charge_sign={"O": -1, "H": 1},
)

SETS = {
    "ions": DataSet(
        train=IONS,
        test=0.2,
        sizes={**_SIZES, "r_max": 5.0, "channels": 16, "max_l": 1, "hidden_max_l": 0},
        source="monopole",
        heads=("energy",),
        weights={"energy": 10.0, "forces": 1.0},
        epochs=30,
        learning_rate=0.03,
        epsilon_infinity=1.0,
        charge_sign={"Na": 1, "Cl": -1},
        couplings=("none", "independent", "fixed"),
    ),
    "water": _WATER,
    "bulk_and_clusters": replace(
        _WATER,
        train=[
            {"files": "water_rpbe_d3.extxyz"},
            {"files": "water_clusters_rpbe_d3.extxyz", "reference": "clusters"},  # energies of another program
        ],
        couplings=_WITH_LABELS,
    ),
    "quartz": replace(
        _WATER,
        train="quartz_pbe.extxyz",
        test=0.2,
        sizes={**_SIZES, "r_max": 5.0},
        epsilon_infinity=2.4,
        charge_sign={"O": -1, "Si": 1},
        couplings=_WITH_LABELS,
    ),
}
