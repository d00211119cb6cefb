"""What reads node features: one file for each head. The table of heads is :mod:`bec_mace.config.heads`."""

from __future__ import annotations

from bec_mace.config.heads import HEADS
from bec_mace.errors import ModelError
from bec_mace.models.heads.features import Features
from bec_mace.models.heads.head import Head
from bec_mace.outside import import_object


def head_class(name: str) -> type[Head]:
    """The class of a head; that of one from outside the package, ``module:Class``, is imported, which runs its module.

    Raises:
        ModelError: There is no such class, or it is no head.
    """
    imported = import_object(HEADS[name].place if name in HEADS else name, "model.heads", ModelError)
    if not (isinstance(imported, type) and issubclass(imported, Head)):
        raise ModelError(f"model.heads: {name} is no head; derive it from bec_mace.models.heads.Head")
    return imported


__all__ = ["Features", "Head", "head_class"]
