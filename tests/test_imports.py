"""The house rules that a program can check: imports point one way, files stay short."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bec_mace"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE = 400

# A module imports only from its own part of the package and from parts with a smaller number.
RANK = {
    "errors": 0,
    "lazy": 0,
    "version": 0,
    "former_names": 0,
    "units": 0,
    "properties": 1,
    "outside": 1,
    "datasets": 1,
    "pretrained": 1,
    "devices": 1,
    "electric_field": 1,
    "config": 2,
    "storage": 2,
    "data": 3,
    "engine": 4,
    "electrostatics": 4,
    "models": 5,
    "predict": 6,
    "evaluate": 7,
    "train": 8,
    "integrations": 8,
    "spectra": 9,
    "dynamics": 10,
    "phonons": 11,
    "testing": 11,
    "cli": 12,
    "__main__": 13,
}


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in FILES}


def part(module):
    """The part of the package that a module belongs to; None for the package itself."""
    names = module.split(".")
    return names[1] if len(names) > 1 else None


def is_lazy_package(path):
    """A package that imports its names when they are used; what it lists for type checkers is never run."""
    return path.name == "__init__.py" and "lazy(__name__" in path.read_text(encoding="utf-8")


def imports_of(tree):
    """The full names of all imported modules, those in functions and those for type checkers among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_one_way(path):
    own = part(module_name(path))
    if own is None:
        return
    for imported in imports_of(parse(path)):
        if imported.split(".")[0] == "bec_mace" and part(imported) not in (None, own):
            assert RANK[part(imported)] < RANK[own], f"{module_name(path)} must not import {imported}"


def test_no_circles():
    """Not even through imports in functions or for type checkers."""
    graph = {
        module_name(path): {name for name in imports_of(parse(path)) if name in MODULES and name != module_name(path)}
        for path in FILES
        if not is_lazy_package(path)
    }
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("bec_mace.errors") < order.index("bec_mace.config.schema") < order.index("bec_mace.models.network")


def test_one_name_one_meaning():
    """A file name occurs once, but for siblings of one kind and the commands, which are named as what they call."""
    names = [path.stem for path in FILES if path.name not in ("__init__.py", "plots.py") and path.parent.name != "cli"]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_only_one_folder_imports_mace():
    users = {module_name(path) for path in FILES for name in imports_of(parse(path)) if name.split(".")[0] in ("mace", "e3nn")}
    assert users == {"bec_mace.models.mace.blocks_of_mace"}


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_house_rules(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    assert path.stem not in ("utils", "tools", "helpers", "common")
    # An assert vanishes under python -O; a user's mistake is an error of errors.py.
    assert not [node.lineno for node in ast.walk(parse(path)) if isinstance(node, ast.Assert)]
    assert not [word for word in ("TODO", "FIXME", "NotImplementedError") if word in text]
    assert "import *" not in text


def test_the_package_imports_quickly_and_resolves_its_names():
    import subprocess
    import sys

    code = (
        "import sys, bec_mace; before = 'torch' in sys.modules; "
        "print(before, bec_mace.load_model.__module__, bec_mace.BECCalculator.__module__, bec_mace.__version__)"
    )
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split()[:3] == ["False", "bec_mace.models.checkpoint", "bec_mace.integrations.ase"]


def test_an_unknown_name_is_an_attribute_error():
    import bec_mace

    with pytest.raises(AttributeError, match="no attribute 'load_modl'"):
        getattr(bec_mace, "load_modl")  # noqa: B009
    assert "load_model" in dir(bec_mace)
