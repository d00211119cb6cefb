"""Data whose energies are counted from elsewhere, and labels that count otherwise than the rest."""

from __future__ import annotations

import json

import ase.io
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bec_mace.cli.main import main
from bec_mace.data import Frame, collate, split_frames
from bec_mace.data.statistics import fit_references
from bec_mace.errors import DataError
from bec_mace.models import load_model
from bec_mace.models.own_energies import energy_elsewhere, number_of_reference
from bec_mace.predict import predict
from bec_mace.train.loop import build_loss, train
from bec_mace.train.prepare import build_training_graph
from bec_mace.train.steps import batch_sums

SHIFTS = {1: 2.0, 8: 50.0}


def shifted(atoms: ase.Atoms) -> float:
    return sum(SHIFTS[int(number)] for number in atoms.numbers)


@pytest.fixture
def elsewhere(files, tmp_path):
    """Clusters whose energies another program would give; their dipoles are left out."""
    frames = ase.io.read(files / "water_clusters_rpbe_d3.extxyz", index="6:12")
    for atoms in frames:
        atoms.info["REF_energy"] += shifted(atoms)
        del atoms.info["REF_dipole"]
    path = tmp_path / "elsewhere.extxyz"
    ase.io.write(path, frames, format="extxyz")
    return path


@pytest.fixture
def make_two(make_config, water_file, elsewhere):
    """A run on files of two programs."""

    def make(entry=None, weights=None, **training):
        weights = weights or {"energy": 1.0, "forces": 1.0}
        heads = ["energy", "dipole"] if "dipole" in weights else ["energy"]
        entry = {"files": str(elsewhere), "reference": "pyscf", **(entry or {})}
        return make_config(
            data={"train": [str(water_file), entry]}, model={"heads": heads}, loss={"weights": weights}, **training
        )

    return make


def test_least_squares_of_each_reference():
    def frame(numbers, energy, reference=""):
        positions = 3.0 * np.arange(3.0 * len(numbers)).reshape(-1, 3)
        labels = {"energy": np.array(energy)}
        return Frame(np.array(numbers), positions, np.zeros((3, 3)), np.zeros(3, bool), labels, reference=reference)

    frames = [frame([1, 1], -2.0), frame([8], -7.0), frame([1], 4.0, "b"), frame([8, 1], 7.0, "b")]
    found = fit_references(frames)
    assert found[""] == pytest.approx({1: -1.0, 8: -7.0})
    assert found["b"] == pytest.approx({1: 5.0, 8: 10.0})


def test_energies_of_two_programs_make_one_model(make_two, elsewhere):
    config = make_two(epochs=60, ema_decay=None, optimizer={"name": "soap", "learning_rate": 0.03})
    results = train(config)
    # Without references of their own the offset of 18 eV an atom would be in the errors.
    assert results["validation"]["energy"]["rmse"] < 0.2
    model = load_model(config.output, dtype=torch.float64)
    assert list(model.statistics.own_reference_energies) == ["pyscf"]
    frames = split_frames(config.data, properties=("energy", "forces"))["train"]
    errors = []
    for frame in frames:
        energy = float(next(iter(predict(model, [frame], ("energy",))))["energy"])
        errors.append((energy + energy_elsewhere(model, frame) - frame.labels["energy"]) / len(frame))
        assert energy == pytest.approx(frame.labels["energy"] - shifted(frame.to_atoms()) * bool(frame.reference), abs=1.0)
    assert np.abs(errors).max() < 0.1
    learned = model.heads["energy"].own_references.shifts
    assert float(learned.detach().abs().max()) > 1e-4


@pytest.mark.parametrize(("name", "status"), [("pyscf", 0), ("vasp", 2)])
def test_evaluate_counts_from_a_reference(make_two, files, tmp_path, name, status):
    frames = ase.io.read(files / "water_clusters_rpbe_d3.extxyz", index="6:9")
    for atoms in frames:
        atoms.info["REF_energy"] += shifted(atoms)
    ase.io.write(tmp_path / "judged.extxyz", frames, format="extxyz")
    config = make_two(epochs=1)
    train(config)
    arguments = ["evaluate", str(config.output), str(tmp_path / "judged.extxyz"), "--json", str(tmp_path / "found.json")]
    result = CliRunner().invoke(main, [*arguments, "--reference", name])
    assert result.exit_code == status, result.output
    if status:
        assert "has no energy references 'vasp'; it has 'pyscf'" in result.output
    else:
        assert json.loads((tmp_path / "found.json").read_text())["energy"]["rmse"] < 0.5


def test_the_shift_is_trained_from_the_energies_of_its_frames(make_two):
    config = make_two(epochs=1)
    train(config)
    model, loss = load_model(config.output, dtype=torch.float64).requires_grad_(True), build_loss(config)
    frame = next(one for one in split_frames(config.data)["train"] if one.reference)
    assert number_of_reference(model, "pyscf") == 1 and number_of_reference(model, "") == 0
    graph = build_training_graph(frame, model.r_max, torch.float64, ("energy",), ("pyscf",))
    other = build_training_graph(frame, model.r_max, torch.float64, ("energy",))
    assert collate([other, graph, other]).reference.tolist() == [0, 1, 0]
    sums = batch_sums(model, loss, [graph], torch.device("cpu"), train=True)
    shift = model.heads["energy"].own_references.shifts
    (gradient,) = torch.autograd.grad(sums["energy"].weighted, shift)
    error = (model(graph, ("energy",))["energy"].item() + energy_elsewhere(model, frame) - frame.labels["energy"]) / len(frame)
    counts = np.array([(frame.atomic_numbers == z).sum() for z in model.elements])
    np.testing.assert_allclose(gradient.numpy()[0], 2 * error * counts / len(frame), rtol=1e-6)


def test_factors_of_labels(make_two, elsewhere):
    config = make_two(entry={"weights": {"energy": 0.25}})
    frames = split_frames(config.data)["train"]
    weighted = next(frame for frame in frames if frame.reference)
    assert weighted.weights == {"energy": 0.25}
    loss = build_loss(config)
    graph = collate([build_training_graph(frame, 3.0, torch.float64, loss.properties, ("pyscf",)) for frame in frames])
    outputs = {name: torch.zeros_like(value) for name, value in graph.labels.items()}
    sums = loss.error_sums(outputs, graph)["energy"]
    squares = [(float(frame.labels["energy"]) / len(frame)) ** 2 for frame in frames]
    factors = [0.25 if frame.reference else 1.0 for frame in frames]
    assert float(sums.weighted) == pytest.approx(np.dot(squares, factors))
    assert float(sums.squared) == pytest.approx(sum(squares))
    assert float(sums.weight) == len(frames)


def test_labels_of_weight_zero_need_not_be_there(make_two, elsewhere):
    weights = {"energy": 1.0, "dipole": 1.0}
    with pytest.raises(DataError, match="dipole: found in 0 of 4 frames"):
        split_frames(make_two(weights=weights).data, properties=tuple(weights))
    config = make_two(entry={"weights": {"dipole": 0, "energy": 0}}, weights=weights)
    frames = [frame for part in split_frames(config.data, properties=tuple(weights)).values() for frame in part]
    assert sum("dipole" in frame.labels for frame in frames) == 6
    assert all(("energy" in frame.labels) != bool(frame.reference) for frame in frames)
