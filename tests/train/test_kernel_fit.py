"""The fit of a kernel model: evidence, memory, calibration, and the run as a whole."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from bec_mace.config.schema import KernelRunConfig
from bec_mace.data import Frame, build_graph, read_frames
from bec_mace.errors import TrainingError
from bec_mace.evaluate.metrics import coverage_metrics
from bec_mace.models import KernelModel, load_model
from bec_mace.models.kernel_regression.calibration import LEVELS, best_factor, calibrate
from bec_mace.models.kernel_regression.evidence import Hyperparameters, maximize_evidence, solve
from bec_mace.models.kernel_regression.normal_equations import Equations, Gathered, HeldOut, gather
from bec_mace.models.kernel_regression.representatives import farthest_points, one_axis
from bec_mace.models.kernel_regression.whitening import prior_covariance, whiten
from bec_mace.train.kernel_fit import fit_frames, fit_kernel

Z = "born_effective_charges"


def coverage(scores):
    """Share of errors within each number of standard deviations."""
    return [float((scores.abs() <= width).double().mean()) for width, _ in LEVELS]


def log_evidence(equations, groups, hyperparameters):
    """Logarithm of the probability of the targets."""
    weights, factor = solve(equations, groups, hyperparameters)
    precisions = hyperparameters.of_weights(groups)
    misfit = hyperparameters.noise * equations.residual(weights) + float((precisions * weights.square()).sum())
    volume = float(precisions.log().sum()) - 2 * float(factor.diagonal().log().sum())
    return 0.5 * (volume + equations.count * math.log(hyperparameters.noise / (2 * math.pi)) - misfit)


@pytest.fixture
def make_run(water_file: Path, tmp_path: Path) -> Callable[..., KernelRunConfig]:
    """A fit to four of six water clusters; keywords change sections."""

    def make(model: dict | None = None, data: dict | None = None, **fit: object) -> KernelRunConfig:
        return KernelRunConfig.model_validate(
            {
                "output": str(tmp_path / "run"),
                "device": "cpu",
                "precision": "float64",
                "data": {"train": str(water_file), "validation": 0, "test": 0.34, **(data or {})},
                "model": {
                    "kind": "kernel",
                    "r_max": 3.5,
                    "num_radial": 4,
                    "max_l": 2,
                    "num_representatives": 8,
                    "heads": ["monopole", "dipole"],
                    **(model or {}),
                },
                "fit": fit,
            }
        )

    return make


@pytest.fixture
def frames(water_file: Path) -> list[Frame]:
    return read_frames(str(water_file))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def toy_equations(noise: float = 0.05) -> tuple[Equations, Tensor]:
    """Targets of a linear model with two groups of weights, of size 1 and 0.1."""
    groups = torch.tensor([0] * 12 + [1] * 12)
    weights = normal(24, seed=1) * torch.where(groups == 0, 1.0, 0.1)
    rows = normal(3000, 24, seed=2)
    equations = Equations.zeros(24, rows)
    equations.add(rows, rows @ weights + noise * normal(3000, seed=3))
    return equations, groups


def test_the_evidence_finds_noise_and_priors() -> None:
    equations, groups = toy_equations()
    solution = maximize_evidence(equations, groups)
    assert solution.hyperparameters.noise**-0.5 == pytest.approx(0.05, rel=0.03)
    assert (solution.hyperparameters.priors**-0.5).tolist() == pytest.approx([1.0, 0.1], rel=0.5)
    assert 23 < solution.effective < 24


def test_the_fixed_point_is_a_maximum_of_the_evidence() -> None:
    equations, groups = toy_equations(noise=0.8)
    best = maximize_evidence(equations, groups, tolerance=1e-8).hyperparameters
    top = log_evidence(equations, groups, best)
    for step in (0.98, 1.02):
        others = [Hyperparameters(best.noise * step, best.priors)]
        others += [Hyperparameters(best.noise, best.priors * torch.where(torch.arange(2) == g, step, 1.0)) for g in range(2)]
        for other in others:
            lower = top - log_evidence(equations, groups, other)
            assert 0 < lower < 10
    slope = log_evidence(equations, groups, Hyperparameters(best.noise * 1.0001, best.priors)) - top
    assert abs(slope / 1e-4) < 1.0


def test_the_evidence_is_that_of_a_gaussian() -> None:
    rows, targets = normal(7, 3, seed=5), normal(7, seed=6)
    equations = Equations.zeros(3, rows)
    equations.add(rows, targets)
    groups, values = torch.tensor([0, 0, 1]), Hyperparameters(4.0, torch.tensor([0.5, 3.0], dtype=torch.float64))
    covariance = rows @ torch.diag(1 / values.of_weights(groups)) @ rows.T + torch.eye(7) / 4.0
    expected = torch.distributions.MultivariateNormal(torch.zeros(7, dtype=torch.float64), covariance).log_prob(targets)
    assert log_evidence(equations, groups, values) == pytest.approx(float(expected), abs=1e-10)


def test_given_noise_and_prior_are_kept() -> None:
    equations, groups = toy_equations()
    solution = maximize_evidence(equations, groups, noise=0.2, prior=0.5)
    assert solution.hyperparameters.noise == pytest.approx(25.0)
    assert solution.hyperparameters.priors.tolist() == pytest.approx([4.0, 4.0])
    assert solution.iterations == 1


def test_equations_that_cannot_be_solved() -> None:
    equations, groups = toy_equations()
    equations.gram[0, 0] = float("inf")
    with pytest.raises(TrainingError, match="the linear system of the fit cannot be solved; look for labels"):
        solve(equations, groups, Hyperparameters(1.0, torch.ones(2, dtype=torch.float64)))


def test_weights_are_the_ridge_solution(make_run: Callable, frames: list[Frame]) -> None:
    """The normal equations in whitened coordinates against a dense solve in the model's own."""
    config = make_run(noise=0.05, prior=0.3, model={"reference_charges": False})
    fitted = fit_frames(config, frames[:3])
    model = fitted.model
    rows = torch.cat([model.design_matrix(build_graph(f, model.r_max)).reshape(-1, model.n_weights) for f in frames[:3]])
    targets = torch.cat([torch.tensor(f.labels[Z]).flatten() for f in frames[:3]])
    blocks = [prior_covariance(model.kernel(), head, number) for head in model.heads for number in range(2)]
    prior = torch.block_diag(*blocks) / 0.3**2
    expected = torch.linalg.solve(rows.T @ rows / 0.05**2 + prior, rows.T @ targets / 0.05**2)
    assert (rows @ (model.weights() - expected)).abs().max() < 1e-6
    assert fitted.figures["train_rmse"] == pytest.approx(float((rows @ expected - targets).square().mean().sqrt()), rel=1e-6)
    covariance = torch.linalg.inv(rows.T @ rows / 0.05**2 + prior)
    spread = (rows[:50] @ model.posterior).square().sum(dim=1)
    assert spread.numpy() == pytest.approx(torch.einsum("nw,wv,nv->n", rows[:50], covariance, rows[:50]).numpy(), rel=1e-4)


def test_memory_changes_nothing(make_run: Callable, frames: list[Frame]) -> None:
    few, many = (fit_frames(make_run(memory_gb=gigabytes), frames[:3]).model for gigabytes in (0.005, 2.0))
    graph = build_graph(frames[4], few.r_max)
    assert (few(graph)[Z] - many(graph)[Z]).abs().max() < 1e-9


def test_memory_that_is_too_small(make_run: Callable, frames: list[Frame]) -> None:
    with pytest.raises(TrainingError, match="memory_gb: 1e-05 GB are not enough for 20 weights and 3 folds; this fit needs"):
        fit_frames(make_run(memory_gb=1e-5), frames[:3])


def test_folds_add_up_to_the_whole(make_run: Callable, frames: list[Frame]) -> None:
    model = fit_frames(make_run(), frames).model
    gathered = gather(model, whiten(model), frames, 4, 1e9, 0)
    assert len(gathered.folds) == 4
    assert (sum(fold.equations.gram for fold in gathered.folds) - gathered.total.gram).abs().max() < 1e-9
    assert sum(fold.equations.count for fold in gathered.folds) == gathered.total.count
    assert gather(model, whiten(model), frames[:1], 4, 1e9, 0).folds == []


def test_a_group_is_in_one_fold(make_run: Callable, frames: list[Frame]) -> None:
    model = fit_frames(make_run(), frames[:4]).model
    parts = whiten(model)
    folds = gather(model, parts, frames[:4], 3, 1e9, 0, groups=[[0, 2, 3], [1]]).folds
    assert len(folds) == 2
    for fold, own in zip(folds, ([frames[0], frames[2], frames[3]], [frames[1]]), strict=True):
        alone = gather(model, parts, own, 0, 1e9, 0).total
        assert fold.equations.count == alone.count == 9 * sum(map(len, own))
        torch.testing.assert_close(fold.equations.gram, alone.gram)
    assert gather(model, parts, frames[:4], 3, 1e9, 0, groups=[[0, 1, 2, 3]]).folds == []


def test_frames_without_labels(make_run: Callable, frames: list[Frame]) -> None:
    bare = [Frame(f.atomic_numbers, f.positions, f.cell, f.pbc) for f in frames[:2]]
    with pytest.raises(TrainingError, match="no training frame holds them"):
        fit_frames(make_run(), bare)
    assert fit_frames(make_run(), [*bare, *frames[2:4]]).figures["n_frames"] == 2


def test_farthest_points() -> None:
    points = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0], [0.0, 3.0], [0.0, 0.0]], dtype=torch.float64)
    assert farthest_points(points, 3).tolist() in ([0, 2, 3], [1, 2, 3], [4, 2, 3])
    assert len(farthest_points(points, 9)) == 4, "a point is not chosen twice"


def test_one_axis_avoids_flat_vectors() -> None:
    vectors = torch.zeros(3, 3, 4, dtype=torch.float64)
    vectors[0, 2] = 2.0
    vectors[1, 1, 0] = -3.0
    chosen = one_axis(vectors)
    assert chosen[0].tolist() == [0.5] * 4
    assert chosen[1].tolist() == [-1.0, 0.0, 0.0, 0.0]
    assert chosen[2].tolist() == [0.0] * 4


def test_calibration_repairs_deviations_of_the_wrong_size() -> None:
    scores = 1.7 * normal(20000, seed=7)
    factor = best_factor(scores)
    assert factor == pytest.approx(1.7, rel=0.02)
    assert coverage(scores / factor) == pytest.approx([0.6827, 0.95], abs=0.01)
    heavy = normal(20000, seed=8) * torch.exp(0.3 * normal(20000, seed=9))
    within = coverage(heavy / best_factor(heavy))
    assert within == pytest.approx([0.6827, 0.95], abs=0.03)


def test_coverage_metrics() -> None:
    numbers = [np.array([1, 8]), np.array([1])]
    errors = [np.full((2, 3, 3), 0.1), np.full((1, 3, 3), -0.1)]
    deviations = [np.stack([np.full((3, 3), 0.2), np.full((3, 3), 0.06)]), np.full((1, 3, 3), 0.01)]
    found = coverage_metrics(numbers, errors, deviations)
    assert (found["within_68"], found["within_95"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert found["per_element"]["O"] == {"within_68": 0.0, "within_95": 1.0, "rms": pytest.approx(0.06)}


def test_run(make_run: Callable) -> None:
    config = make_run()
    results = fit_kernel(config)
    folder = config.output
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "train.log",
        "best.safetensors",
        "results.json",
        "parity_test.png",
    }
    errors = results["test"][Z]
    assert errors["rmse"] < 0.7 * errors["trivial"]["rmse"]
    assert 0 < results["test"]["uncertainty"]["within_68"] <= results["test"]["uncertainty"]["within_95"] <= 1
    assert json.loads((folder / "results.json").read_text())["test"][Z]["rmse"] == errors["rmse"]
    model = load_model(folder)
    assert isinstance(model, KernelModel)
    assert model.metadata["metrics"]["test_born_effective_charges_rmse"] == errors["rmse"]
    assert model.config.num_representatives == {"H": 8, "O": results["fit"]["n_weights"] // 2 - 1 - 8}
    with pytest.raises(TrainingError, match="this folder holds a run already"):
        fit_kernel(config)
    again = fit_kernel(config, resume=True)
    assert again["test"][Z]["rmse"] == pytest.approx(errors["rmse"], rel=1e-9)


def test_single_precision_predicts_the_same(make_run: Callable, frames: list[Frame], tmp_path: Path) -> None:
    from bec_mace.predict import predict

    config = make_run()
    fit_kernel(config)
    low, high = (load_model(config.output, dtype=dtype) for dtype in (torch.float32, torch.float64))
    for a, b in zip(predict(low, frames, low.provides), predict(high, frames, high.provides), strict=True):
        assert np.abs(a[Z] - b[Z]).max() < 1e-3
        assert a["born_effective_charges_std"] == pytest.approx(b["born_effective_charges_std"], rel=2e-2)


@pytest.mark.parametrize("sigma", [0.02, 0.5])
def test_errors_that_are_what_the_model_expects_need_no_factor(sigma):
    """A linear model with weights from its prior and noise of the size that it knows, in five folds."""
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(5, 360, 3, dtype=torch.float64, generator=generator)
    weights = torch.randn(3, dtype=torch.float64, generator=generator)
    targets = rows @ weights + sigma * torch.randn(5, 360, dtype=torch.float64, generator=generator)
    gathered = Gathered(Equations.zeros(3, rows))
    for x, y in zip(rows, targets, strict=True):
        fold = HeldOut(Equations.zeros(3, rows))
        fold.equations.add(x, y)
        gathered.total.add(x, y)
        fold.keep(x, y, torch.zeros(40, dtype=torch.int64), torch.arange(40))
        gathered.folds.append(fold)
    hyperparameters = Hyperparameters(1 / sigma**2, torch.ones(1, dtype=torch.float64))
    factor = calibrate(gathered, torch.zeros(3, dtype=torch.int64), hyperparameters, 2)
    assert float(factor[0]) == pytest.approx(1.0, abs=0.06) and float(factor[1]) == 1.0


@pytest.mark.parametrize("zeta", [1, 3])
def test_the_prior_of_dipoles_is_that_of_vectors(zeta):
    """A dipole is its direction times a scalar of one power less than a charge."""
    overlaps = torch.tensor([[1.0, 0.6], [0.6, 1.0]])
    vectors, invariants = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]]), torch.linalg.cholesky(overlaps)
    kernel = SimpleNamespace(zeta=zeta, representatives_of=lambda n: invariants, directions_of=lambda n: vectors)
    torch.testing.assert_close(prior_covariance(kernel, "dipole", 0)[0, 1], torch.tensor(0.6 ** (zeta - 1) * 0.6))
    torch.testing.assert_close(prior_covariance(kernel, "monopole", 0)[0, 1], torch.tensor(0.6**zeta))
