"""The SOAP optimizer: its matrices, its invariance, its gain, and its state."""

from __future__ import annotations

import copy

import torch
from torch import nn

from bec_mace.config.model import ModelConfig
from bec_mace.data.statistics import Statistics
from bec_mace.models import build_model
from bec_mace.train.soap import SOAP, MatrixPart, matrix_parts

STEPS = 200


def rotation(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]


def optimize(start: torch.Tensor, left: torch.Tensor, right: torch.Tensor, target: torch.Tensor, steps: int) -> torch.Tensor:
    """Minimise the square of left W right - target, badly conditioned on both sides."""
    weight = nn.Parameter(start.clone())
    optimizer = SOAP([weight], {weight: [MatrixPart(0, *weight.shape)]}, lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        (left @ weight @ right - target).square().sum().backward()
        optimizer.step()
    return weight.detach()


def problem(smallest: float) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    left = torch.diag(torch.linspace(smallest, 1, 5, dtype=torch.float64)) @ rotation(5, 1)
    right = rotation(4, 2) @ torch.diag(torch.linspace(smallest, 1, 4, dtype=torch.float64))
    solution = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    return torch.zeros(5, 4, dtype=torch.float64), left, right, left @ solution @ right


def test_steps_do_not_depend_on_the_basis() -> None:
    """Turning the rows and columns of the problem turns the path: what Adam, which looks at single entries, cannot do."""
    start, left, right, target = problem(0.5)
    start = start + torch.linspace(-0.3, 0.4, 20, dtype=torch.float64).view(5, 4)
    u, v = rotation(5, 3), rotation(4, 4)
    plain = optimize(start, left, right, target, 4)
    turned = optimize(u.T @ start @ v.T, left @ u, v @ right, target, 4)
    assert (u @ turned @ v - plain).abs().max() < 2e-3
    assert (plain - start).abs().max() > 0.05


def test_it_beats_adam_where_rows_and_columns_are_mixed() -> None:
    start, left, right, target = problem(0.03)
    found = optimize(start, left, right, target, STEPS)
    weight = nn.Parameter(start.clone())
    adam = torch.optim.Adam([weight], lr=0.05)
    for _ in range(STEPS):
        adam.zero_grad()
        (left @ weight @ right - target).square().sum().backward()
        adam.step()

    def error(w: torch.Tensor) -> float:
        return float((left @ w @ right - target).square().sum())

    assert error(found) < 0.3 * error(weight.detach())


def test_the_first_gradient_is_no_step_of_rounding_errors() -> None:
    """In its own basis a gradient is diagonal; Adam would take the rounding beside it for a direction, at full length."""
    weight = nn.Parameter(torch.zeros(40, 30))
    optimizer = SOAP([weight], {weight: [MatrixPart(0, 40, 30)]}, lr=0.1)
    generator = torch.Generator().manual_seed(2)
    weight.grad = torch.randn(40, 2, generator=generator) @ torch.randn(2, 30, generator=generator)
    optimizer.step()
    assert weight.abs().max() == 0
    weight.grad = weight.grad + 1e-3 * torch.randn(40, 30, generator=generator)
    optimizer.step()
    assert 0.05 < weight.abs().max() < 1.0


def make_model() -> nn.Module:
    torch.manual_seed(0)
    config = ModelConfig(r_max=3.0, channels=4, max_l=1, heads=["dipole", "energy"], radial_mlp=[8], readout_mlp=[4])
    return build_model(config, [1, 8], Statistics(5.0, {1: 0.4, 8: -0.8}, {}, 1.0), torch.float64)


def test_matrices_of_a_model() -> None:
    model = make_model()
    parts_of = matrix_parts(model)
    names = {name: parts_of.get(parameter) for name, parameter in model.named_parameters()}
    # Layer 2's linear map of messages: two paths into 0e and three into 1o, each 4 x 4.
    assert names["backbone.layers.1.interaction.linear_up.weight"] == [MatrixPart(0, 4, 4), MatrixPart(16, 4, 4)]
    # A map for each element: 4 channels times 2 elements to 4 channels.
    assert names["backbone.layers.0.interaction.skip_tp.weight"] == [MatrixPart(0, 8, 4)]
    assert names["reference_charges"] is None
    for parameter, parts in parts_of.items():
        assert sum(part.rows * part.columns for part in parts) == parameter.numel()
        assert [part.start for part in parts] == sorted({part.start for part in parts})


def test_a_stored_state_goes_on_with_the_same_bits() -> None:
    model, twin = make_model(), make_model()
    first, second = (SOAP(m.parameters(), matrix_parts(m), lr=0.1, weight_decay=0.01) for m in (model, twin))

    def step(m: nn.Module, optimizer: SOAP, number: int) -> None:
        for index, parameter in enumerate(m.parameters()):
            parameter.grad = torch.sin(parameter.detach() * (index + 1) + number)
        optimizer.step()

    for number in range(7):
        step(model, first, number)
    twin.load_state_dict(model.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for number in range(7, 12):
        step(model, first, number)
        step(twin, second, number)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
