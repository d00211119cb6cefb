"""What acts through Coulomb's law, rung by rung, as configurations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparing.sets import SETS, DataSet

_ANISOTROPIC = {"dipoles": "anisotropic"}


@dataclass(frozen=True)
class Rung:
    """One model of the ladder.

    Attributes:
        title: What acts, as printed.
        multipoles: Heads that act beside the charges; None without electrostatics.
        response: How it all yields.
    """

    title: str
    multipoles: tuple[str, ...] | None
    response: dict[str, str] | None = None


LADDER = {
    "none": Rung("no electrostatics", None),
    "q": Rung("q", ()),
    "qu": Rung("q u", ("dipole",)),
    "quQ": Rung("q u Q", ("dipole", "quadrupole")),
    "induced": Rung("q u Q, induced dipoles", ("dipole", "quadrupole"), _ANISOTROPIC),
    "edges": Rung("q u Q, induced dipoles, edges", ("dipole", "quadrupole"), {**_ANISOTROPIC, "charges": "edges"}),
    "atoms": Rung("q u Q, induced dipoles, atoms", ("dipole", "quadrupole"), {**_ANISOTROPIC, "charges": "atoms"}),
}
"""By name, from nothing to everything."""

LABELS = {
    "ef": ("energy", "forces"),
    "efz": ("energy", "forces", "born_effective_charges"),
    "efza": ("energy", "forces", "born_effective_charges", "polarizability"),
}
"""By name, what is trained on."""


def ladder_config(
    folder: Path, name: str, rung: str, labels: str, epochs: float, channels: int | None = None
) -> dict[str, Any]:
    """The configuration of a training, but for its output: ``fixed`` without labels of Z*, ``global`` with them."""
    data_set, step = SETS[name], LADDER[rung]
    wanted = [target for target in LABELS[labels] if target != "born_effective_charges" or name != "ions"]
    with_z = "born_effective_charges" in wanted
    values = data_set.config(folder, "none", epochs, channels)
    values["training"]["loss"]["weights"] = {
        target: data_set.weights.get(target, _WEIGHTS.get(target, 1.0)) for target in wanted
    }
    model = values["model"]
    if step.multipoles is None:
        model["heads"] = list(data_set.heads) if with_z else ["energy"]
        return values
    model["heads"] = ["energy", data_set.source, *step.multipoles]
    if step.multipoles:
        model["hidden_max_l"] = max(1, model["hidden_max_l"])  # They are read from vectors.
    model["electrostatics"] = {
        "sources": [data_set.source, *step.multipoles],
        "screening": "global" if with_z else "fixed",
        "epsilon_infinity": data_set.epsilon_infinity,
        **({} if with_z else {"charge_sign": data_set.charge_sign}),
        **({} if step.response is None else {"response": step.response}),
    }
    return values


_WEIGHTS = {"polarizability": 1.0}


def can_train(data_set: DataSet, rung: str, labels: str) -> bool:
    """Whether a rung gives what is to be trained."""
    return "polarizability" not in LABELS[labels] or rung in ("induced", "edges")
