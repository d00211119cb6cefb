"""The mistakes that pydantic finds, in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from bec_mace.config.checks import one_of, show
from bec_mace.config.document import Location, Mistake
from bec_mace.errors import ConfigError

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "a section of keys and values",
    "model_attributes_type": "a section of keys and values",
}
_BOUNDS = {
    "greater_than": ("gt", "must be greater than"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be less than"),
    "less_than_equal": ("le", "must be at most"),
}


def explain(error: ValidationError, model: type[BaseModel]) -> list[Mistake]:
    """Turn pydantic's errors into mistakes that a user can act on.

    Args:
        error: What pydantic raised.
        model: The class that was read, for suggestions of valid names.

    Returns:
        One mistake per error, with its location in the file.
    """
    mistakes = []
    for detail in error.errors(include_url=False):
        # Keys of mappings, and which kind of a union was read, are no places in the file.
        location = tuple(part for part in detail["loc"] if not str(part).startswith("["))
        mistakes.append(Mistake(location, _words(detail, location, model)))
    return mistakes


def raise_together(schema: BaseModel, mistakes: Iterable[Mistake]) -> None:
    """Raise one error for keys that do not fit together, of a configuration that was made without a file.

    Raises:
        ConfigError: There is at least one mistake.
    """
    lines = [(0, f"{'.'.join(map(str, mistake.location))}: {mistake.message}") for mistake in mistakes]
    raise_mistakes(type(schema).__name__, lines)


def raise_mistakes(name: str, lines: list[tuple[int, str]]) -> None:
    """Raise one error for all mistakes, sorted by line.

    Args:
        name: The file they are in.
        lines: Pairs of line number and text.

    Raises:
        ConfigError: There is at least one mistake.
    """
    texts = [text for _, text in sorted(lines, key=lambda pair: pair[0])]
    if len(texts) == 1:
        raise ConfigError(texts[0])
    if texts:
        raise ConfigError("\n  ".join([f"{len(texts)} mistakes in {name}:", *texts]))


def _words(detail: Any, location: Location, model: type[BaseModel]) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key{_suggest_key(location, model)}"
    if kind == "missing":
        field = _section(location[:-1], model).model_fields[str(location[-1])]
        return f"missing key; {field.description}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, got {show(value)}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{words} {context[key]:g}, got {show(value)}"
    if kind == "literal_error":
        return one_of(value, _choices(location, model))
    if kind in ("too_short", "string_pattern_mismatch"):
        field = _section(location[:-1], model).model_fields[str(location[-1])]
        return f"{'must not be empty' if kind == 'too_short' else f'cannot be {show(value)}'}; {field.description}"
    return str(detail["msg"])


def _choices(location: Location, model: type[BaseModel]) -> list[str]:
    """Return the values of the literal type of a field, also when it may be null."""

    def literals(kind: Any) -> Iterator[str]:
        for part in get_args(kind):
            if isinstance(part, str):
                yield part
            else:
                yield from literals(part)

    return list(literals(_section(location[:-1], model).model_fields[str(location[-1])].annotation))


def _section(location: Location, model: type[BaseModel]) -> type[BaseModel]:
    """Return the class of the section at a location."""
    for part in location:
        if isinstance(part, int):  # of a list; the section is that of its entries
            continue
        inner = _section_class(model.model_fields[str(part)].annotation)
        if inner is None:
            return model
        model = inner
    return model


def _section_class(annotation: Any) -> type[BaseModel] | None:
    """Return the class of a field that is a section or holds a list of them, also when it may be null; None for others."""

    def sections(kind: Any) -> Iterator[type[BaseModel]]:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield kind
        for part in get_args(kind):
            yield from sections(part)

    found = list(sections(annotation))
    return found[0] if len(found) == 1 else None


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every key of the schema with its full path."""
    for name, field in model.model_fields.items():
        yield name, prefix + name
        if (inner := _section_class(field.annotation)) is not None:
            yield from _paths(inner, f"{prefix}{name}.")


def _suggest_key(location: Location, model: type[BaseModel]) -> str:
    section = _section(location[:-1], model)
    name = str(location[-1])
    near = get_close_matches(name.lower(), list(section.model_fields), n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    elsewhere = [path for key, path in _paths(model) if key == name.lower()]
    if elsewhere:
        return f"; did you mean '{elsewhere[0]}'?"
    return f"; known keys here are {', '.join(section.model_fields)}"
