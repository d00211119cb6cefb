"""Modules under the names that they had before; importing one gives a warning and the module as it is called now."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

NAMES = {
    "bec_mace.calculator": "bec_mace.integrations.ase",
    "bec_mace.fields": "bec_mace.electric_field",
    "bec_mace.inference": "bec_mace.predict",
    "bec_mace.training": "bec_mace.train",
    "bec_mace.training.evaluation": "bec_mace.evaluate.comparison",
    "bec_mace.training.loop": "bec_mace.train.loop",
    "bec_mace.dynamics.config": "bec_mace.config.dynamics",
}
"""New names by old ones."""


class FormerNames(MetaPathFinder, Loader):
    """Finds the modules of ``NAMES``."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The module under its new name, if the name is an old one."""
        return spec_from_loader(fullname, self) if fullname in NAMES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module under its new name."""
        new = NAMES[spec.name]
        warnings.warn(f"{spec.name} is called {new} now; the old name will go.", FutureWarning, stacklevel=2)
        module = ModuleType(spec.name, f"Former name of {new}.")
        target = import_module(new)
        module.__dict__.update({name: value for name, value in vars(target).items() if not name.startswith("__")})
        module.__getattr__ = lambda name: getattr(target, name)  # type: ignore[method-assign]
        module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to run."""


def install() -> None:
    """Let Python find the old names."""
    if not any(isinstance(finder, FormerNames) for finder in sys.meta_path):
        sys.meta_path.append(FormerNames())
