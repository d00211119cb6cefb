"""YAML for configuration files: safe, strict, and aware of the line of every key.

It differs from plain YAML 1.1 in four ways that matter to a user. ``1e-3`` is a number; ``No`` and ``off`` are
text, only ``true`` and ``false`` are booleans; a key given twice is a mistake; aliases are refused, so that a small
file cannot grow without bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bec_mace.errors import ConfigError, SettingError

Location = tuple[str | int, ...]
"""Where a value stands: ``("training", "optimizer", "learning_rate")``."""


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong with a configuration.

    Attributes:
        location: The keys that lead to it.
        message: What is wrong and what to do, in plain words.
    """

    location: Location
    message: str


@dataclass
class Document:
    """The values of a configuration file and where each one came from.

    Attributes:
        name: The name of the file as the user wrote it.
        values: The plain values, nested as in the file.
        lines: The line of every key and list item.
        overrides: The text of every ``--set`` by the location that it sets.
        mistakes: What was wrong already while reading: keys given twice.
    """

    name: str
    values: dict[str, Any]
    lines: dict[Location, int] = field(default_factory=dict)
    overrides: dict[Location, str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def source(self, location: Location) -> tuple[int, str]:
        """Return the line (0 for ``--set``) and the printable origin of the nearest known key above a location."""
        below = [text for path, text in self.overrides.items() if path[: len(location)] == location]
        if below and location not in self.lines:
            return 0, f"--set {below[0]}"
        for length in range(len(location), -1, -1):
            if location[:length] in self.overrides:
                return 0, f"--set {self.overrides[location[:length]]}"
            if location[:length] in self.lines:
                line = self.lines[location[:length]]
                return line, f"{self.name}:{line}"
        return 1, f"{self.name}:1"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2 and without aliases."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not supported; write the value out", problem_mark=mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Writes what the loader reads back unchanged."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True


_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
for _tag, _pattern, _first in _SCALARS:
    for _letter in _first:
        _Loader.yaml_implicit_resolvers.setdefault("" if _letter == "\0" else _letter, []).append(
            (f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"))
        )


def read_document(path: str | Path, example: str = "'data:', 'model:' and 'training:'") -> Document:
    """Read a configuration file into plain values, remembering lines.

    Args:
        path: The YAML file.
        example: Keys that such a file has, for the message.

    Returns:
        The document. Keys given twice are among its ``mistakes``; the first value is kept.

    Raises:
        ConfigError: The file cannot be read, is not valid YAML, or is not a mapping.
    """
    name = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{name}: no such configuration file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: cannot be read as a text file: {error}") from error
    document = Document(name, {})
    values = _parse(text, name, document)
    if not isinstance(values, dict):
        raise ConfigError(
            f"{name}: expected keys such as {example}, got {'an empty file' if values is None else type(values).__name__}"
        )
    document.values = values
    return document


def apply_overrides(document: Document, overrides: Sequence[str]) -> None:
    """Set values from ``key.path=value`` texts, the value read as YAML.

    Args:
        document: Changed in place.
        overrides: Texts such as ``"training.epochs=5"``; later ones win.

    Raises:
        ConfigError: A text has no ``=`` or no key, or its value is not valid YAML.
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        path: Location = tuple(part.strip() for part in key.split("."))
        if not equals or not all(path):
            raise ConfigError(f"--set {text}: expected key=value, for example --set training.epochs=5")
        parent = document.values
        for part in path[:-1]:
            if not isinstance(parent.get(str(part)), dict):
                parent[str(part)] = {}
            parent = parent[str(part)]
        scratch = Document(document.name, {})
        parent[str(path[-1])] = _parse(value, f"--set {text}", scratch)
        # What stood at or below this key in the file is gone, and so is its line.
        document.lines = {at: line for at, line in document.lines.items() if at[: len(path)] != path}
        document.mistakes = [mistake for mistake in document.mistakes if mistake.location[: len(path)] != path]
        document.mistakes += [Mistake(path + mistake.location, mistake.message) for mistake in scratch.mistakes]
        document.overrides[path] = text


@contextmanager
def naming_lines(path: str | Path, overrides: Sequence[str] = ()) -> Iterator[None]:
    """Add the line of a configuration file to an error in its values that is found only in a run.

    Raises:
        ConfigError: There is such an error.
    """
    try:
        yield
    except SettingError as error:
        document = read_document(path)
        apply_overrides(document, overrides)
        raise ConfigError(f"{document.source(error.location)[1]}: {error}") from error


def write_document(values: dict[str, Any], path: str | Path) -> None:
    """Write plain values as YAML that :func:`read_document` reads back unchanged."""
    Path(path).write_text(dump_text(values), encoding="utf-8")


def dump_text(values: dict[str, Any]) -> str:
    """Return plain values as YAML text, in the order given."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _parse(text: str, name: str, document: Document) -> Any:
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else _construct(loader, node, (), document)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = name if mark is None or name.startswith("--set") else f"{name}:{mark.line + 1}"
        raise ConfigError(f"{where}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from None


def _construct(loader: _Loader, node: yaml.Node, location: Location, document: Document) -> Any:
    """Build the plain value of a node and note the line of every key below it."""
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            document.lines[location + (index,)] = item.start_mark.line + 1
            items.append(_construct(loader, item, (*location, index), document))
        return items
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key must be plain text", problem_mark=key_node.start_mark)
        # The text itself, so that the elements No and Y stay text.
        key = key_node.value
        place = (*location, key)
        line = key_node.start_mark.line + 1
        if key in values:
            document.mistakes.append(Mistake(place, f"given twice (again in line {line}); keep one of them"))
            continue
        document.lines[place] = line
        values[key] = _construct(loader, value_node, place, document)
    return values


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Plain values of nested sections by their full key, such as ``training.epochs``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat
