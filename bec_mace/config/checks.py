"""Checks of single values and of values against each other, in the words of the user.

They know nothing of files and lines: a check of a single value raises, a check across sections returns mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from bec_mace.config.document import Location, Mistake
from bec_mace.config.heads import HEADS, head_row, is_outside, providers
from bec_mace.errors import ConfigError
from bec_mace.properties import PROPERTIES

_MOST_CHANNELS = 4096
_IRREPS = re.compile(r"\s*\d+x\d+[eo]\s*(\+\s*\d+x\d+[eo]\s*)*")
_SCHEDULE_OPTIONS = {"final_fraction": "cosine", "patience": "plateau", "factor": "plateau"}


def wrong(message: str) -> PydanticCustomError:
    """Return an error whose text reaches the user unchanged."""
    return PydanticCustomError("bec_mace", "{message}", {"message": message})


def suggest(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest known name, or the list of known names."""
    near = get_close_matches(name.lower(), list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known names are {', '.join(known)}"


def one_of(value: Any, choices: list[str]) -> str:
    """Say which values a key can have, and the nearest of them."""
    near = get_close_matches(str(value).lower(), choices, n=1)
    quoted = ", ".join(f"'{choice}'" for choice in choices)
    return f"expected one of {quoted}, got {show(value)}" + (f"; did you mean '{near[0]}'?" if near else "")


def _whole(value: Any) -> Any:
    # 1e3 is a float to YAML and a whole number to its writer.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_path(value: Any) -> Any:
    """Refuse what no file system takes for a name."""
    if isinstance(value, str) and "\0" in value:
        raise wrong("holds a null byte, which no name of a file can")
    return value


def _files(value: Any) -> Any:
    for name in value if isinstance(value, list) else [value]:
        check_path(name)
    if isinstance(value, str) or (isinstance(value, list) and value and all(isinstance(item, str) for item in value)):
        return value
    raise wrong(f"expected a file name, a glob or a list of them, got {show(value)}")


def _property(value: Any) -> Any:
    if not isinstance(value, str) or value not in PROPERTIES:
        alias = next((name for name, row in PROPERTIES.items() if value in row.keys), None)
        hint = f"; did you mean '{alias}'?" if alias else suggest(str(value), PROPERTIES)
        raise wrong(f"{show(value)} is not a known property{hint}")
    return value


def _head(value: Any) -> Any:
    name: Any = value
    if isinstance(value, dict):
        if len(value) != 1:
            raise wrong(f"expected one head per list item, such as 'monopole' or {{monopole: {{...}}}}, got {show(value)}")
        name, options = next(iter(value.items()))
        if not isinstance(options, dict):
            raise wrong(f"expected the options of a head as keys, such as {{{name}: {{option: value}}}}, got {show(options)}")
    if isinstance(name, str) and name in HEADS and isinstance(value, dict):
        _check_options(name, value[name])
    if isinstance(name, str) and is_outside(name):
        try:
            head_row(name)
        except ConfigError as error:
            raise wrong(str(error).removeprefix("model.heads: ")) from error
    elif not isinstance(name, str) or name not in HEADS:
        hint = suggest(str(name), HEADS)
        raise wrong(f"unknown head {show(name)}{hint}" + ("" if "did you mean" in hint else ", or module:Class for your own"))
    return value


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    known = HEADS[name].options
    for option, value in options.items():
        if option not in known:
            hint = suggest(str(option), known) if known else "; it has none"
            raise wrong(f"the head '{name}' has no option '{option}'{hint}")
        if type(value) is not known[option]:
            kind = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[known[option]]
            raise wrong(f"option '{option}' of the head '{name}': expected {kind}, got {show(value)}")


Whole = Annotated[int, BeforeValidator(_whole)]
FileList = Annotated[str | list[str], BeforeValidator(_files)]
PropertyName = Annotated[str, BeforeValidator(_property)]
Head = Annotated[str | dict[str, dict[str, Any]], BeforeValidator(_head)]


def check_split(value: Any) -> Any:
    """Accept a fraction, file names, or ``{indices: FILE}``."""
    if isinstance(value, dict):
        if set(value) != {"indices"} or not isinstance(value["indices"], str):
            raise wrong(f"expected {{indices: FILE}}, got {show(value)}")
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value < 1:
            raise wrong(f"a fraction must be at least 0 and less than 1, got {value}")
        return value
    if (
        hasattr(value, "indices")
        or isinstance(value, str)
        or (isinstance(value, list) and value and all(isinstance(item, str) for item in value))
    ):
        return value
    raise wrong(f"expected a fraction, a file name, a list of file names or {{indices: FILE}}, got {show(value)}")


def check_optional_split(value: Any) -> Any:
    """Accept nothing, or what ``check_split`` accepts."""
    return None if value is None else check_split(value)


def check_irreps(value: str | None) -> str | None:
    """Accept text such as ``32x0e + 32x1o`` that contains scalars."""
    if value is None:
        return None
    if not _IRREPS.fullmatch(value):
        raise wrong(f"expected irreducible representations such as '32x0e + 32x1o', got {show(value)}")
    if "x0e" not in value:
        raise wrong(f"needs scalar features, such as '32x0e + 32x1o', got {show(value)}")
    if any(int(number) > _MOST_CHANNELS for number in re.findall(r"(\d+)x", value)):
        raise wrong(
            f"more than {_MOST_CHANNELS} channels of an irreducible representation fit into no machine, got {show(value)}"
        )
    return value


def check_network_key(name: str, value: Any, changed: bool, description: str, before: Mapping[str, Any]) -> None:
    """A network needs a cutoff; one that is read from a mace file has all its sizes from there.

    Args:
        name: Key of a size of the network.
        value: Its value.
        changed: Whether it is not the default.
        description: What the key means.
        before: The keys read before it, ``backbone`` among them where that is sound.
    """
    if "backbone" not in before:
        return
    backbone = before["backbone"]
    if name == "r_max" and value is None and backbone is None:
        raise wrong(f"missing key; {description}")
    if changed and backbone is not None and backbone.sizes is None:
        raise wrong(f"comes from the file of model.backbone.from_mace; remove {name}")


def check_kind(value: Any) -> Any:
    """Accept the kind of a network; that of a kernel model has other keys and does not come here."""
    if value != "network":
        near = get_close_matches(str(value), ["network", "kernel"], n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise wrong(f"expected one of 'network', 'kernel', got {show(value)}{hint}")
    return value


def check_kernel_head(value: Any) -> Any:
    """Accept a head of a kernel model."""
    known = [name for name, row in HEADS.items() if row.in_kernel_models]
    if value not in known:
        hint = "; a network has this head" if isinstance(value, str) and value in HEADS else ""
        raise wrong(f"a kernel model has the heads {' and '.join(known)}, got {show(value)}{hint}")
    return value


def check_representatives(value: Any) -> Any:
    """Accept a positive whole number, or one by the symbol of each element."""
    numbers = value if isinstance(value, dict) else {"H": value}
    counts = {check_element(str(symbol)): _whole(number) for symbol, number in numbers.items()}
    for number in counts.values():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise wrong(f"expected a whole number of at least 1, or {{element: number}}, got {show(number)}")
    return counts if isinstance(value, dict) else counts["H"]


def outside_heads(values: Mapping[str, Any]) -> list[str]:
    """Names of the heads from outside the package in the plain values of a training configuration."""
    heads = _at(values, "model", "heads")
    names = [next(iter(head), "") if isinstance(head, dict) else head for head in (heads if isinstance(heads, list) else [])]
    return [name for name in names if isinstance(name, str) and is_outside(name)]


def import_outside_heads(values: Mapping[str, Any]) -> None:
    """Import the heads from outside that a file names, before other keys are checked: they may bring properties."""
    for name in outside_heads(values):
        with suppress(ConfigError):  # Said later, with its line.
            head_row(name)


def check_unique_heads(heads: list[Any]) -> list[Any]:
    """Refuse a head that is named twice."""
    names = [head if isinstance(head, str) else next(iter(head)) for head in heads]
    for name in names:
        if names.count(name) > 1:
            raise wrong(f"the head '{name}' is named {names.count(name)} times; name it once")
    return heads


def check_element(symbol: str) -> str:
    """Accept the symbol of a chemical element."""
    from ase.data import chemical_symbols  # not at the top: ASE brings in numpy and scipy

    if symbol not in chemical_symbols[1:]:
        near = get_close_matches(symbol.capitalize(), chemical_symbols[1:], n=1, cutoff=0.5)
        raise wrong(f"'{symbol}' is not the symbol of an element" + (f"; did you mean '{near[0]}'?" if near else ""))
    return symbol


def check_schedule(name: str, changed: Mapping[str, bool]) -> None:
    """Refuse an option that has no effect with this schedule."""
    for option, owner in _SCHEDULE_OPTIONS.items():
        if changed[option] and name != owner:
            raise wrong(f"'{option}' has no effect with the {name} schedule; remove it or choose name: {owner}")


def show(value: Any) -> str:
    """Return a value as the user would recognise it, with a word on its kind."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, dict):
        return f"keys ({', '.join(map(str, value))})" if value else "no keys"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return str(value)


def cross_check(values: Mapping[str, Any]) -> list[Mistake]:
    """Check sections against each other.

    Args:
        values: Plain values as read from a file. They may be incomplete or wrong elsewhere.

    Returns:
        What does not fit together.
    """
    checks = (_check_fractions, _check_targets, _check_backbone, _check_lengths, _check_degrees)
    return [mistake for check in checks for mistake in check(values)]


def _check_lengths(values: Mapping[str, Any]) -> list[Mistake]:
    """The warm-up ends before the run does."""
    warmup, epochs = _at(values, "training", "schedule", "warmup_epochs"), _at(values, "training", "epochs")
    if _is_number(warmup) and _is_number(epochs) and warmup > epochs > 0:
        location = ("training", "schedule", "warmup_epochs")
        return [Mistake(location, f"a warm-up of {warmup:g} epochs does not fit into {epochs:g} epochs; shorten it")]
    return []


def _check_degrees(values: Mapping[str, Any]) -> list[Mistake]:
    """Layers couple harmonics up to max_l, correlation of them at a time, and make no higher degree of that."""
    section = _at(values, "model") or {}
    if not isinstance(section, Mapping) or section.get("kind") == "kernel" or section.get("backbone"):
        return []
    hidden, max_l, correlation = (section.get(name, n) for name, n in (("hidden_max_l", 1), ("max_l", 2), ("correlation", 2)))
    if all(map(_is_number, (hidden, max_l, correlation))) and hidden > max_l * correlation > 0:
        text = f"features up to l = {hidden} cannot be made of {correlation} harmonics up to l = {max_l}; lower it"
        return [Mistake(("model", "hidden_max_l"), text)]
    return []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _at(values: Any, *path: str) -> Any:
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


def _check_fractions(values: Mapping[str, Any]) -> list[Mistake]:
    fractions = [_at(values, "data", name) for name in ("validation", "test")]
    numbers = [value for value in fractions if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == 2 and all(0 <= value < 1 for value in numbers) and sum(numbers) >= 1:
        return [
            Mistake(
                ("data", "test"),
                f"validation and test fractions add up to {sum(numbers):g} and leave "
                "nothing to train on; they must sum to less than 1",
            )
        ]
    return []


def _check_backbone(values: Mapping[str, Any]) -> list[Mistake]:
    """What a frozen mace model gives by itself cannot be trained."""
    backbone = _at(values, "model", "backbone")
    if not isinstance(backbone, Mapping):
        return []
    location: Location = ("training", "loss", "weights")
    weights = _at(values, "training", "loss", "weights")
    mistakes = (
        []
        if backbone.get("sizes") is None
        else [Mistake(("model", "backbone", "sizes"), "is read from the file of from_mace; remove it")]
    )
    charges_act = _at(values, "model", "electrostatics") is not None
    if isinstance(weights, Mapping) and backbone.get("freeze", True) is True and not charges_act:
        mistakes += [
            Mistake(
                (*location, target),
                f"'{target}' of a frozen mace model is not trained; remove it or set model.backbone.freeze to false",
            )
            for target, weight in weights.items()
            if target in HEADS["energy"].provides and weight
        ]
    return mistakes


def _yields(section: Any) -> bool:
    """Whether charges and dipoles yield to a field, which makes a polarizability."""
    if not isinstance(section, Mapping) or section.get("screening") not in ("fixed", "global"):
        return False
    response = section.get("response")
    return isinstance(response, Mapping) and response.get("charges") != "atoms"


def _check_targets(values: Mapping[str, Any]) -> list[Mistake]:
    """Every property with a weight must come from some head."""
    heads = _at(values, "model", "heads")
    if not isinstance(heads, list):
        return []
    names = [head if isinstance(head, str) else next(iter(head), "") for head in heads if isinstance(head, str | dict)]
    try:
        rows = {name: head_row(name) for name in names}
    except ConfigError:
        return []  # Said already, where the head is named.
    if not rows:
        return []
    location: Location = ("training", "loss", "weights")
    weights = _at(values, "training", "loss", "weights")
    if weights is None:  # nothing was said about the loss, so the heads are what must change
        location, weights = ("model", "heads"), {"born_effective_charges": 1.0}
    if not isinstance(weights, Mapping):
        return []
    if _at(values, "model", "backbone") is not None and "energy" not in names:
        rows["energy"] = HEADS["energy"]  # A mace model brings it.
    provided = frozenset[str]().union(*(row.provides for row in rows.values()))
    if _yields(_at(values, "model", "electrostatics")):
        provided |= HEADS["polarizability"].provides
    mistakes = []
    for target in weights:
        makers = providers(target)
        if target in PROPERTIES and target not in provided:
            cure = f"add {' or '.join(makers)} to model.heads" if makers else "no head does"
            place = location if location[0] == "model" else (*location, target)
            mistakes.append(
                Mistake(
                    place,
                    f"no head of this model gives '{target}' (heads: {', '.join(rows)}); "
                    f"{cure}, or train other properties under training.loss.weights",
                )
            )
    if weights and all(isinstance(value, int | float) and value == 0 for value in weights.values()):
        mistakes.append(Mistake(location, "all weights are zero; give at least one property a positive weight"))
    return mistakes
