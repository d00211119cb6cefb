"""Segment sums against a loop, and torch-scatter's against torch's."""

from __future__ import annotations

import pytest
import torch

from bec_mace.engine.segments import Groups, grouped_segment_sum, segment_sum


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(50, 2, 3, generator=generator, dtype=torch.float64)
    return values, torch.randint(0, 6, (50,), generator=generator)


def test_against_a_loop() -> None:
    values, index = rows()
    expected = torch.zeros(8, 2, 3, dtype=torch.float64)
    for value, place in zip(values, index.tolist(), strict=True):
        expected[place] += value
    found = segment_sum(values, index, 8)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    assert found[6:].abs().max() == 0


def test_torch_scatter_agrees() -> None:
    pytest.importorskip("torch_scatter")
    values, index = rows()
    for place, ascending in ((index, False), (index.sort().values, True)):
        found = grouped_segment_sum(values, Groups.of(place, 8, ascending))
        torch.testing.assert_close(found, segment_sum(values, place, 8), rtol=0, atol=1e-13)


def test_sums_are_the_same_on_every_device(device: torch.device) -> None:
    values, index = rows()
    found = segment_sum(values.to(device), index.to(device), 8)
    torch.testing.assert_close(found.cpu(), segment_sum(values, index, 8), rtol=0, atol=1e-13)


def test_training_differentiates_twice(device: torch.device) -> None:
    values, index = rows()
    values = values[:6].to(device).requires_grad_(True)
    assert torch.autograd.gradgradcheck(lambda rows: segment_sum(rows.square(), index[:6].to(device), 8), (values,))
