"""Old names of modules lead to the new ones, with a warning."""

import importlib
import sys

import pytest

from bec_mace.former_names import NAMES


@pytest.mark.parametrize("old", NAMES)
def test_an_old_name_gives_the_module_and_a_warning(old, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    parent = old.rpartition(".")[0]
    if parent in NAMES and parent not in sys.modules:
        with pytest.warns(FutureWarning):
            importlib.import_module(parent)
    with pytest.warns(FutureWarning, match=f"{old} is called {NAMES[old]} now"):
        module = importlib.import_module(old)
    new = importlib.import_module(NAMES[old])
    assert all(getattr(module, name) is getattr(new, name) for name in dir(new) if not name.startswith("_"))


def test_names_of_the_former_readme_still_import(monkeypatch):
    for old in ("bec_mace.fields", "bec_mace.inference"):
        monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(FutureWarning):
        from bec_mace.fields import GaussianPulse
    with pytest.warns(FutureWarning):
        from bec_mace.inference import read_predictions
    from bec_mace.electric_field import GaussianPulse as same_pulse
    from bec_mace.predict import read_predictions as same_reader

    assert GaussianPulse is same_pulse and read_predictions is same_reader
