"""Entries of ``data.train``: files whose energies or labels count otherwise than those of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from bec_mace.config.checks import FileList, PropertyName, check_path, show, wrong
from bec_mace.config.document import Mistake
from bec_mace.config.section import Section

OWN = "own"
"""The reference of one entry alone."""


def _name(value: str) -> str:
    if not value.strip() or value != value.strip():
        raise wrong(f"a reference needs a name, or '{OWN}' for one of this entry alone; got {show(value)}")
    return value


class DataEntry(Section):
    """Some files of the training structures."""

    files: FileList = Field(description="File, glob or list of files.")
    reference: Annotated[str, AfterValidator(_name)] | None = Field(
        default=None,
        description="Where energies are counted from. Null: the references of the model. own: learned ones of this entry, for "
        "energies of another program or functional. Any other name: learned ones that entries of this name share.",
    )
    weights: dict[PropertyName, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="Factors of these structures in the loss, by property; 0 leaves their labels out.",
    )


def _kind_of_entry(value: Any) -> str:
    return "[entry]" if isinstance(value, Mapping | DataEntry) else "[file]"


def _kind_of_list(value: Any) -> str:
    return "[several]" if isinstance(value, list) else "[one]"


def _listed(value: Any) -> Any:
    if isinstance(value, DataEntry):
        return [value]
    if isinstance(value, Mapping):
        raise wrong(f"expected a file name, a glob, or a list; write entries as a list, '- files: ...', got {show(value)}")
    if isinstance(value, str) or (isinstance(value, list) and value):
        for name in value if isinstance(value, list) else [value]:
            check_path(name)
        return value
    raise wrong(f"expected a file name, a glob or a list of them, got {show(value)}")


_Entry = Annotated[Annotated[str, Tag("[file]")] | Annotated[DataEntry, Tag("[entry]")], Discriminator(_kind_of_entry)]
TrainingFiles = Annotated[
    Annotated[str, Tag("[one]")] | Annotated[list[_Entry], Tag("[several]")],
    Discriminator(_kind_of_list),
    BeforeValidator(_listed),
]


def entries_of(train: str | list[str | DataEntry]) -> list[DataEntry]:
    """Entries in order; files that stand by themselves are one entry as long as nothing comes between them."""
    entries: list[DataEntry] = []
    plain: list[str] = []
    for item in [train] if isinstance(train, str) else train:
        if isinstance(item, str):
            plain.append(item)
            continue
        if plain:
            entries.append(DataEntry(files=plain))
            plain = []
        entries.append(item)
    return [*entries, DataEntry(files=plain)] if plain else entries


def reference_names(entries: list[DataEntry]) -> list[str]:
    """What each entry's references are called; empty where they are those of the model."""
    return [f"{OWN} {number}" if entry.reference == OWN else entry.reference or "" for number, entry in enumerate(entries)]


def check_entries(values: Mapping[str, Any]) -> list[Mistake]:
    """What must stand elsewhere for entries to make sense, in the plain values of a training configuration."""
    data, training = values.get("data"), values.get("training")
    train = data.get("train") if isinstance(data, Mapping) else None
    entries = [item for item in train if isinstance(item, Mapping | str)] if isinstance(train, list) else []
    named = [isinstance(item, Mapping) and bool(item.get("reference")) for item in entries]
    mistakes = []
    if named and all(named):
        text = "every entry has references of its own; leave `reference` out of that whose energies the model shall predict"
        mistakes.append(Mistake(("data", "train", 0, "reference"), text))
    model = values.get("model")
    if isinstance(model, Mapping) and model.get("kind") == "kernel":
        return [*mistakes, *_of_kernels(entries)]
    loss = training.get("loss") if isinstance(training, Mapping) else None
    trained = loss.get("weights") if isinstance(loss, Mapping) else {"born_effective_charges": 1.0}
    if not isinstance(trained, Mapping):
        return mistakes
    for number, item in enumerate(entries):
        factors = item.get("weights") if isinstance(item, Mapping) else None
        for name in factors if isinstance(factors, Mapping) else ():
            if name not in trained:
                text = f"'{name}' is not among training.loss.weights, so nothing is trained on it; add it there"
                mistakes.append(Mistake(("data", "train", number, "weights", str(name)), text))
        if isinstance(item, Mapping) and item.get("reference") and "energy" not in trained:
            text = "energy is not among training.loss.weights, so references of energies do nothing; leave it out"
            mistakes.append(Mistake(("data", "train", number, "reference"), text))
    return mistakes


def _of_kernels(entries: list[Any]) -> list[Mistake]:
    """A kernel model is one solve for Z*, in which all labels count alike."""
    return [
        Mistake(("data", "train", number, key), f"kernel models have no {what}; leave it out")
        for number, item in enumerate(entries)
        for key, what in (("reference", "energies"), ("weights", "factors of labels"))
        if isinstance(item, Mapping) and item.get(key)
    ]
