"""What a model gives, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bec_mace.config.model import ModelConfig
from bec_mace.data import Statistics, build_graph, collate
from bec_mace.engine.environments import build_environments
from bec_mace.errors import ModelError
from bec_mace.models import PolarizationModel, build_model
from bec_mace.models.of_cells import of_atoms_or_frames
from bec_mace.properties import PROPERTIES, Property
from bec_mace.testing.small_models import make_model
from bec_mace.testing.structures import make_frame, molecule, triclinic

STATISTICS = Statistics(
    avg_num_neighbors=8.0, reference_charges={1: 0.4, 8: -0.8}, reference_energies={8: -3.0}, rms_forces=None
)
SIZES = {"r_max": 3.0, "channels": 2, "max_l": 1, "num_interactions": 1, "radial_mlp": [4], "readout_mlp": [3]}


def build(**values: object) -> PolarizationModel:
    return build_model(ModelConfig.model_validate({**SIZES, "heads": ["monopole"], **values}), [8, 1, 8], STATISTICS)


def test_unknown_element_is_named() -> None:
    model = make_model(("monopole",))
    frame = make_frame([8, 26, 1, 79], 1.2 * np.arange(12).reshape(4, 3))
    with pytest.raises(ModelError, match="has not seen Fe, Au; it knows H, C, O"):
        model(build_graph(frame, model.r_max))


@pytest.mark.parametrize(
    ("heads", "asked", "missing"),
    [
        (("monopole",), ("energy", "born_effective_charges"), "does not give energy: its heads .monopole. give"),
        (("monopole",), ("polarization",), "does not give polarization"),
        (("dipole",), ("charges",), "does not give charges: its heads .dipole. give born_effective_charges, dipole"),
        (("direct",), ("dipole", "charges"), "does not give charges, dipole"),
        (("energy",), ("born_effective_charges",), "does not give born_effective_charges"),
        (("charge_transfer",), ("nonsense",), "does not give nonsense"),
    ],
)
def test_property_that_no_head_gives(heads: tuple[str, ...], asked: tuple[str, ...], missing: str) -> None:
    model = make_model(heads)
    with pytest.raises(ModelError, match=missing):
        model(build_graph(molecule(), model.r_max), asked)


@pytest.mark.parametrize("head", ["dipole", "direct"])
def test_head_that_needs_vectors(head: str) -> None:
    with pytest.raises(ModelError, match=f"the {head} head needs 1o features; add them to model.hidden_irreps"):
        build(heads=[head], hidden_irreps="4x0e")


def test_unknown_option_of_a_head() -> None:
    for options, words in (
        ({"monopole": {"colour": "blue"}}, "the head 'monopole' has no option 'colour'; it has none"),
        ({"energy": {"wal": True}}, "the head 'energy' has no option 'wal'; did you mean 'wall'"),
        ({"energy": {"wall": "maybe"}}, "option 'wall' of the head 'energy': expected true or false, got 'maybe'"),
    ):
        with pytest.raises(ValueError, match=words):
            build(heads=[options])


@pytest.mark.parametrize(
    ("irreps", "message"),
    [
        ("4x0e + 2x1o", "every irrep the same number of channels"),
        ("4x1o", "must hold 0e"),
        ("4x0e + 4x0o", "no 0o"),
        ("rubbish", "cannot read 'rubbish'"),
    ],
)
def test_hidden_irreps_that_cannot_be(irreps: str, message: str) -> None:
    sound = ModelConfig(r_max=3.0, heads=["monopole"])
    config = sound.model_copy(update={"hidden_irreps": irreps})  # Does not check.
    with pytest.raises(ModelError, match=message):
        build_model(config, [1], STATISTICS)


def test_elements_are_sorted_and_references_follow() -> None:
    model = build(heads=["monopole", "energy"])
    assert model.elements == [1, 8]
    assert model.reference_charges.tolist() == pytest.approx([0.4, -0.8])
    assert isinstance(model.reference_charges, torch.nn.Parameter)
    assert model.heads["energy"].reference_energies == (0.0, -3.0)


def test_reference_charges_can_be_left_out() -> None:
    for model in (build(reference_charges=False), build(heads=["energy"])):
        assert model.reference_charges.abs().max() == 0
        assert "reference_charges" not in dict(model.named_parameters())


def test_reference_energies_keep_their_precision() -> None:
    """Total energies of 1e5 eV with differences of 1e-3 eV, in float32."""
    config = ModelConfig.model_validate({**SIZES, "heads": ["energy"]})
    energies = {z: Statistics(8.0, {}, {8: z}, None) for z in (0.0, -123456.789)}
    out = {}
    for value, statistics in energies.items():
        torch.manual_seed(0)
        model = build_model(config, [8], statistics)
        frame = make_frame([8, 8], [[0.0, 0.0, 0.0], [1.2, 0.3, 0.0]])
        out[value] = model(build_graph(frame, 3.0, torch.float32), ("energy",))["energy"].item()
    assert out[-123456.789] - out[0.0] == pytest.approx(-2 * 123456.789, abs=1e-9)


def test_global_state_is_left_alone() -> None:
    assert torch.get_default_dtype() == torch.float32
    build()
    assert torch.get_default_dtype() == torch.float32


def test_same_seed_gives_the_same_weights() -> None:
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(build())
    for (name, a), b in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b), name


def test_provides_by_head() -> None:
    z = {"born_effective_charges", "head_contributions"}
    assert build().provides == z | {"charges", "dipole"}
    assert build(heads=["charge_transfer"]).provides == z | {"charges", "dipole", "polarization"}
    assert build(heads=["direct"]).provides == z
    assert build(heads=["energy"]).provides == {"energy", "forces", "stress"}


def test_intensive_properties_of_a_frame_are_means(monkeypatch):
    monkeypatch.setitem(PROPERTIES, "softness", Property("softness", "frame", (), "1", "s"))
    monkeypatch.setitem(PROPERTIES, "weight", Property("weight", "frame", (), "1", "w", extensive=True))
    model = make_model(("dipole",))
    graph = collate([build_graph(frame, model.r_max) for frame in (molecule(), triclinic())])
    atoms = build_environments(graph, model._species(graph), len(model.elements), model.r_max, torch.float64)
    shares = torch.arange(1.0, graph.n_atoms + 1, dtype=torch.float64)
    for name, made in (("softness", torch.mean), ("weight", torch.sum)):
        expected = torch.stack([made(shares[atoms.frame_index == frame]) for frame in range(2)])
        torch.testing.assert_close(of_atoms_or_frames(name, shares, atoms), expected)
