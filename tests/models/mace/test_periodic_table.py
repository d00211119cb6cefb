"""The prior that elements share."""

import pytest
import torch
from ase.data import atomic_numbers

from bec_mace.data import build_graph
from bec_mace.models.mace.periodic_table import group_and_period, mix_elements
from bec_mace.testing.small_models import copy_model, make_model
from bec_mace.testing.structures import ELEMENTS, triclinic


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("H", (1, 1)),
        ("He", (18, 1)),
        ("Li", (1, 2)),
        ("B", (13, 2)),
        ("Ne", (18, 2)),
        ("Mg", (2, 3)),
        ("Al", (13, 3)),
        ("Sc", (3, 4)),
        ("Zn", (12, 4)),
        ("Br", (17, 4)),
        ("Nb", (5, 5)),
        ("Cs", (1, 6)),
        ("La", (3, 6)),
        ("Gd", (3, 6)),
        ("Hf", (4, 6)),
        ("Ta", (5, 6)),
        ("Pb", (14, 6)),
        ("U", (3, 7)),
    ],
)
def test_groups_and_periods(symbol: str, expected: tuple[int, int]) -> None:
    assert group_and_period(atomic_numbers[symbol]) == expected


def test_covariance_of_the_weights() -> None:
    elements = [atomic_numbers[symbol] for symbol in ("O", "S", "Nb", "Ta")]
    mixing = mix_elements(elements, 0.9)
    covariance = mixing @ mixing.T
    assert torch.allclose(covariance.diagonal(), torch.ones(4, dtype=torch.float64), atol=1e-12)
    below = 0.9 * torch.exp(torch.tensor(-0.5 / 1.5**2, dtype=torch.float64))  # One period apart in one group.
    assert torch.allclose(covariance[[0, 2], [1, 3]], below, atol=1e-12)
    assert covariance[0, 2] < 1e-12  # Groups 16 and 5.


def test_independent_elements_are_left_alone() -> None:
    assert torch.equal(mix_elements([1, 8, 14], 0.0), torch.eye(3, dtype=torch.float64))


def test_the_network_uses_the_mixed_weights() -> None:
    """A network without the prior, given the mixed weights, is the network with the prior."""
    model = make_model(("monopole", "dipole"), 2, element_correlation=0.9)
    mixing = mix_elements(ELEMENTS, 0.9)
    plain = copy_model(make_model(("monopole", "dipole"), 2))
    with torch.no_grad():
        plain.load_state_dict(model.state_dict())
        before = plain(build_graph(triclinic(), plain.r_max))["born_effective_charges"]
        for layer in plain.backbone.layers:
            for weight in layer.interaction.skip_tp.weight_views():
                weight.copy_(torch.einsum("zy,ayb->azb", mixing, weight.clone()))
            for contraction in layer.product.symmetric_contractions.contractions:
                for weight in [contraction.weights_max, *contraction.weights]:
                    weight.copy_(torch.tensordot(mixing, weight.clone(), 1))
        embedding = plain.backbone.node_embedding.linear.weight
        embedding.copy_((mixing @ embedding.view(len(ELEMENTS), -1)).reshape(-1))
    expected = model(build_graph(triclinic(), model.r_max))["born_effective_charges"]
    found = plain(build_graph(triclinic(), plain.r_max))["born_effective_charges"]
    assert torch.allclose(found, expected, atol=1e-12)
    assert (found - before).abs().max() > 1e-3
